// Takes uploads of at most 1000 bytes, and refuses longer ones with 413 while they come. The address is the
// first argument.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	handler := func(writer http.ResponseWriter, request *http.Request) {
		_, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, 1000))
		if err != nil {
			http.Error(writer, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		io.WriteString(writer, "taken\n")
	}
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(handler)))
}
