// probed answers every kind of probe that a kubelet can make over the network: HTTP on port 8080 (/healthz), TCP on
// 8081, gRPC health on 8082. POST /fail makes HTTP and gRPC answer that it is not well, from then on.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	var failing atomic.Bool
	state := health.NewServer()

	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			http.Error(w, "told to fail", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "well")
	})
	http.HandleFunc("POST /fail", func(http.ResponseWriter, *http.Request) {
		failing.Store(true)
		state.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	})
	go func() { log.Fatal(http.ListenAndServe(":8080", nil)) }()
	go func() { log.Fatal(acceptAll(":8081")) }()

	listener, err := net.Listen("tcp", ":8082")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	log.Fatal(server.Serve(listener))
}

func acceptAll(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		connection.Close()
	}
}
