module early

go 1.19
