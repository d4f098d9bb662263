// Go's own HTTP server: it reads a request to its end and says in the header X-Read what it read.
package main

import (
	"crypto/sha1"
	"fmt"
	"io"
	"net/http"
	"os"
)

func echo(response http.ResponseWriter, request *http.Request) {
	hash := sha1.New()
	length, err := io.Copy(hash, request.Body)
	if err != nil {
		response.Header().Set("Connection", "close")
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	response.Header().Set("X-Read", fmt.Sprintf("%x %x %x %d %x",
		request.Method, request.RequestURI, request.Host, length, hash.Sum(nil)))
	io.WriteString(response, "read")
}

func main() {
	server := http.Server{
		Addr:                         "127.0.0.1:" + os.Args[1],
		Handler:                      http.HandlerFunc(echo),
		DisableGeneralOptionsHandler: true,
	}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
}
