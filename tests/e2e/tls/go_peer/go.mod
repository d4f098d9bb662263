module wirespan.invalid/go_peer

go 1.19
