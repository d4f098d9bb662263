// A server and a client of Go's own TLS that follow plan.py; with the standard library alone, Go 1.19 or later.
//
//	go_peer serve ADDRESS CERTIFICATE KEY      HTTP/1.1 and HTTP/2 over TLS, as the client wants
//	go_peer serve-plaintext ADDRESS            what stands behind a proxy
//	go_peer ask URL AUTHORITY 1.1|2            50 connections of 20 requests each
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

const (
	connections           = 50
	requestsPerConnection = 20
	repeatsPerNumber      = 25
)

func answer(method, path, body string) string {
	return fmt.Sprintf(`{"method":"%s","path":"%s","body":"%s"}`, method, path, body)
}

func handle(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		log.Print(err)
		return
	}
	response.Header().Set("Content-Type", "application/json")
	io.WriteString(response, answer(request.Method, request.URL.Path, string(body)))
}

func ask(client *http.Client, url string, protocol, connection, number int) {
	method, path, body := http.MethodGet, fmt.Sprintf("/echo/%d/%d", connection, number), ""
	if number%2 == 1 {
		method = http.MethodPost
		body = strings.Repeat(fmt.Sprintf("c%dn%d.", connection, number), 1+repeatsPerNumber*number)
	}
	request, err := http.NewRequest(method, url+path, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/plain")
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	response.Body.Close()
	if string(got) != answer(method, path, body) || response.ProtoMajor != protocol {
		log.Fatalf("%s %s: %s %d %s", method, path, response.Proto, response.StatusCode, got)
	}
}

// Over HTTP/2 the requests of a connection are in flight at the same time, once the connection stands.
func converse(url string, trusted *x509.CertPool, protocol, connection int) {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: trusted},
		ForceAttemptHTTP2: protocol == 2,
	}
	client := &http.Client{Transport: transport}
	ask(client, url, protocol, connection, 0)
	var pending sync.WaitGroup
	for number := 1; number < requestsPerConnection; number++ {
		if protocol == 1 {
			ask(client, url, protocol, connection, number)
			continue
		}
		pending.Add(1)
		go func(number int) {
			defer pending.Done()
			ask(client, url, protocol, connection, number)
		}(number)
	}
	pending.Wait()
	transport.CloseIdleConnections()
}

func askAll(url, authority, version string) {
	pem, err := os.ReadFile(authority)
	if err != nil {
		log.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		log.Fatalf("no certificate in %s", authority)
	}
	protocol := 1
	if version == "2" {
		protocol = 2
	}
	var pending sync.WaitGroup
	for connection := 0; connection < connections; connection++ {
		pending.Add(1)
		go func(connection int) {
			defer pending.Done()
			converse(url, trusted, protocol, connection)
		}(connection)
	}
	pending.Wait()
}

func main() {
	http.HandleFunc("/", handle)
	switch arguments := os.Args[2:]; os.Args[1] {
	case "serve":
		log.Fatal(http.ListenAndServeTLS(arguments[0], arguments[1], arguments[2], nil))
	case "serve-plaintext":
		log.Fatal(http.ListenAndServe(arguments[0], nil))
	case "ask":
		askAll(arguments[0], arguments[1], arguments[2])
	}
}
