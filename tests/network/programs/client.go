// Go's HTTP client with HTTP/2 and without, with the secret in a header. Arguments: base URL.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func post(who string, client *http.Client, path string, length int) {
	body := strings.NewReader(strings.Repeat("x", length))
	request, err := http.NewRequest("POST", os.Args[1]+path+"?"+who, body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("API_KEY"))
	response, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(who, response.StatusCode, response.Proto, string(text))
}

func main() {
	post("default", http.DefaultClient, "/upload", 100000)
	// Answered before the body was read.
	post("refused", http.DefaultClient, "/refuse", 20000000)
	without := &http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	post("http1", &http.Client{Transport: without}, "/upload", 100000)
}
