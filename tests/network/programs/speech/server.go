// Go's server, over plain TCP and TLS. Arguments: address, port, port for TLS, PEM.
package main

import (
	"net"
	"net/http"
	"os"
)

func main() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("served")) })
	pem := os.Args[4]
	go http.ListenAndServe(net.JoinHostPort(os.Args[1], os.Args[2]), handler)
	panic(http.ListenAndServeTLS(net.JoinHostPort(os.Args[1], os.Args[3]), pem, pem, handler))
}
