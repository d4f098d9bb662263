module wirespan.example/stock

go 1.24
