// Command nri-plugin is an NRI plugin for tests, on the interface's own stub. It writes a line for each event into a file, and
// adjusts, fails or hangs as its flags say. The test server reads the file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/protobuf/encoding/protojson"
)

// orders are what the plugin is told to do; as an installed plugin it has them from its configuration.
type orders struct {
	// Where the events go.
	Log string `json:"log"`
	// A ContainerAdjustment in protobuf's JSON.
	Adjust json.RawMessage `json:"adjust"`
	// An UpdateContainersRequest in protobuf's JSON, sent at SIGUSR1.
	Updates string `json:"updates"`
	// The first of these events is refused.
	Fail string `json:"fail"`
	// These events are never answered.
	Hang string `json:"hang"`
	// A reason to reject every adjustment.
	Reject string `json:"reject"`
}

type plugin struct {
	orders orders
	mutex  sync.Mutex
	failed bool
}

func (p *plugin) note(format string, words ...any) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	file, err := os.OpenFile(p.orders.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	fmt.Fprintf(file, format+"\n", words...)
}

func (p *plugin) meet(event string, what string) error {
	p.note("%s %s", event, what)
	if p.orders.Hang == event {
		select {}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.orders.Fail == event && !p.failed {
		p.failed = true
		return errors.New("told to fail")
	}
	return nil
}

func (p *plugin) Configure(_ context.Context, config, runtime, version string) (api.EventMask, error) {
	if config != "" {
		if err := json.Unmarshal([]byte(config), &p.orders); err != nil {
			return 0, err
		}
	}
	p.note("Configure %s %s", runtime, version)
	if p.orders.Reject != "" {
		return 0, nil // everything it has a handler for
	}
	events := api.EventMask(api.ValidEvents)
	events.Clear(api.Event_VALIDATE_CONTAINER_ADJUSTMENT)
	return events, nil
}

func (p *plugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	for _, container := range containers {
		names = append(names, fmt.Sprintf("%s:%s:%s", container.Name, container.State, strings.Join(container.Args, "_")))
	}
	return nil, p.meet("Synchronize", strings.Join(names, ","))
}

func (p *plugin) Shutdown(context.Context) { p.note("Shutdown") }

func (p *plugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.meet("RunPodSandbox", pod.Name)
}

func (p *plugin) UpdatePodSandbox(_ context.Context, pod *api.PodSandbox, _, resources *api.LinuxResources) error {
	shares := resources.GetCpu().GetShares().GetValue()
	return p.meet("UpdatePodSandbox", fmt.Sprintf("%s shares=%d", pod.Name, shares))
}

func (p *plugin) PostUpdatePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	shares := pod.GetLinux().GetPodResources().GetCpu().GetShares().GetValue()
	return p.meet("PostUpdatePodSandbox", fmt.Sprintf("%s shares=%d", pod.Name, shares))
}

func (p *plugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.meet("StopPodSandbox", pod.Name)
}

func (p *plugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	return p.meet("RemovePodSandbox", pod.Name)
}

func (p *plugin) CreateContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	if err := p.meet("CreateContainer", container.Name+" "+strings.Join(container.Env, ",")); err != nil {
		return nil, nil, err
	}
	adjust := &api.ContainerAdjustment{}
	if len(p.orders.Adjust) > 0 {
		if err := protojson.Unmarshal(p.orders.Adjust, adjust); err != nil {
			return nil, nil, err
		}
	}
	return adjust, nil, nil
}

func (p *plugin) PostCreateContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) error {
	return p.meet("PostCreateContainer", container.Name+" "+strings.Join(container.Args, "_"))
}

func (p *plugin) StartContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) error {
	return p.meet("StartContainer", container.Name)
}

func (p *plugin) PostStartContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) error {
	return p.meet("PostStartContainer", container.Name)
}

func (p *plugin) UpdateContainer(_ context.Context, _ *api.PodSandbox, container *api.Container, resources *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	shares := resources.GetCpu().GetShares().GetValue()
	return nil, p.meet("UpdateContainer", fmt.Sprintf("%s shares=%d", container.Name, shares))
}

func (p *plugin) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) error {
	return p.meet("PostUpdateContainer", container.Name)
}

func (p *plugin) StopContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) ([]*api.ContainerUpdate, error) {
	return nil, p.meet("StopContainer", fmt.Sprintf("%s code=%d", container.Name, container.ExitCode))
}

func (p *plugin) RemoveContainer(_ context.Context, _ *api.PodSandbox, container *api.Container) error {
	return p.meet("RemoveContainer", container.Name)
}

func (p *plugin) ValidateContainerAdjustment(_ context.Context, request *api.ValidateContainerAdjustmentRequest) error {
	p.note("ValidateContainerAdjustment %s", request.GetContainer().GetName())
	return errors.New(p.orders.Reject)
}

// update sends what the file of updates says, each time it is asked to.
func (p *plugin) update(connection stub.Stub, signals <-chan os.Signal) {
	for range signals {
		text, err := os.ReadFile(p.orders.Updates)
		if err != nil {
			panic(err)
		}
		request := &api.UpdateContainersRequest{}
		if err := protojson.Unmarshal(text, request); err != nil {
			panic(err)
		}
		failed, err := connection.UpdateContainers(request.Update)
		p.note("Updated failed=%d error=%v", len(failed), err)
	}
}

func main() {
	socket := flag.String("socket", "", "NRI socket; as an installed plugin none")
	name := flag.String("name", "", "index and name")
	text := flag.String("orders", "{}", "what to do, JSON")
	flag.Parse()
	p := &plugin{}
	if err := json.Unmarshal([]byte(*text), &p.orders); err != nil {
		panic(err)
	}
	var options []stub.Option
	if *socket != "" {
		index, base, err := api.ParsePluginName(*name)
		if err != nil {
			panic(err)
		}
		options = []stub.Option{stub.WithSocketPath(*socket), stub.WithPluginName(base), stub.WithPluginIdx(index)}
	}
	connection, err := stub.New(p, options...)
	if err != nil {
		panic(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go p.update(connection, signals)
	if err := connection.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
