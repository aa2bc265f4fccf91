// node-client speaks to a kubelet's own API, as an API server does on behalf of kubectl:
//
//	node-client exec|attach spdy|websocket [-i] [-t] POD CONTAINER [COMMAND...]
//	node-client forward spdy|websocket POD LOCAL:REMOTE
//
// Its exit code is that of the command. `forward` prints "ready" and goes on until its standard input ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

var config = &rest.Config{
	Host: "https://127.0.0.1:10250",
	// The kubelet made its certificate itself.
	TLSClientConfig: rest.TLSClientConfig{Insecure: true},
}

func main() {
	err := run(os.Args[1:])
	var exit exec.CodeExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(exit.Code)
	default:
		fmt.Fprintln(os.Stderr, "node-client:", err)
		os.Exit(125)
	}
}

func run(words []string) error {
	if len(words) < 4 {
		return errors.New("see the head of hack/kubernetes/node-client/main.go")
	}
	verb, protocol, words := words[0], words[1], words[2:]
	if verb == "forward" {
		return forward(protocol, words[0], words[1])
	}
	stdin, tty := false, false
	for ; words[0] == "-i" || words[0] == "-t"; words = words[1:] {
		stdin = stdin || words[0] == "-i"
		tty = tty || words[0] == "-t"
	}
	return stream(verb, protocol, words, stdin, tty)
}

func stream(verb, protocol string, words []string, stdin, tty bool) error {
	query := url.Values{"output": {"1"}, "command": words[2:]}
	if stdin {
		query.Set("input", "1")
	}
	if tty {
		query.Set("tty", "1")
	} else {
		query.Set("error", "1")
	}
	target := address("/"+verb+"/default/"+words[0]+"/"+words[1], query)

	executor, err := executor(protocol, target)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: tty}
	if stdin {
		options.Stdin = os.Stdin
	}
	if tty {
		options.TerminalSizeQueue = &oneSize{remotecommand.TerminalSize{Width: 132, Height: 43}, false}
	} else {
		options.Stderr = os.Stderr
	}
	return executor.StreamWithContext(context.Background(), options)
}

func executor(protocol string, target *url.URL) (remotecommand.Executor, error) {
	if protocol == "spdy" {
		return remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
	}
	return remotecommand.NewWebSocketExecutor(config, http.MethodGet, target.String())
}

func forward(protocol, pod, ports string) error {
	target := address("/portForward/default/"+pod, nil)
	dialer, err := portforward.NewSPDYOverWebsocketDialer(target, config)
	if protocol == "spdy" {
		var transport http.RoundTripper
		var upgrader spdy.Upgrader
		transport, upgrader, err = spdy.RoundTripperFor(config)
		dialer = spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	}
	if err != nil {
		return err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{ports}, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	go func() {
		<-ready
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return forwarder.ForwardPorts()
}

func address(path string, query url.Values) *url.URL {
	target, _ := url.Parse(config.Host)
	target.Path, target.RawQuery = path, query.Encode()
	return target
}

// oneSize tells the size of the terminal once.
type oneSize struct {
	size remotecommand.TerminalSize
	told bool
}

func (queue *oneSize) Next() *remotecommand.TerminalSize {
	if queue.told {
		return nil
	}
	queue.told = true
	return &queue.size
}
