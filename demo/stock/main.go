// Stock: how many there are of a product, over HTTP/2 in plaintext.
package main

import (
	"encoding/json"
	"log"
	"net/http"
)

// cursed is the product that no counting ever ends well for.
const cursed = 13

func count(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Product int }
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		return
	}
	if asked.Product == cursed {
		w.WriteHeader(http.StatusInternalServerError)
		json.NewEncoder(w).Encode(map[string]string{"error": "the shelf has collapsed"})
		return
	}
	json.NewEncoder(w).Encode(map[string]int{"product": asked.Product, "count": 40 + asked.Product})
}

func main() {
	http.HandleFunc("POST /count", count)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: ":8080", Protocols: &protocols}
	log.Fatal(server.ListenAndServe())
}
