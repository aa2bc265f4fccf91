// probed answers every kind of probe that a kubelet can make over the network: HTTP on port 8080 (/healthz), TCP on
// 8081, gRPC health on 8082. POST /fail makes HTTP and gRPC answer that it is not well, from then on. Port 9000 sends
// back what it gets.
package main

import (
	"fmt"
	"io"
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
	web, grpcListener, echo := listen(":8080"), listen(":8082"), listen(":9000")
	go func() { log.Fatal(http.Serve(web, nil)) }()
	go func() { log.Fatal(acceptAll(echo, func(peer net.Conn) { io.Copy(peer, peer) })) }()
	// The last to listen: who reaches this port reaches all.
	go func() { log.Fatal(acceptAll(listen(":8081"), func(net.Conn) {})) }()

	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	log.Fatal(server.Serve(grpcListener))
}

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func acceptAll(listener net.Listener, serve func(net.Conn)) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			serve(connection)
		}()
	}
}
