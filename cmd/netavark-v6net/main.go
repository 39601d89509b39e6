// Command netavark-v6net is Podman's plugin: netavark runs it, by the name v6net, for
// each container that comes to a network of v6net or leaves one. It is a thin client
// of the daemon; what has to happen in a container's network namespace it does itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/v6net/v6net/internal/aardvark"
	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/kernel/sandbox"
	"github.com/v6net/v6net/internal/netavark"
)

// version is set by the linker (see the Makefile).
var version = "devel"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	plugin := netavark.Plugin{
		Version:  version,
		Daemon:   daemon,
		Sandbox:  furnisher{},
		Names:    aardvark.New(),
		Rootless: rootless(),
	}
	if err := plugin.Run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		return 1 // Podman shows what Run has answered
	}
	return 0
}

// endings are the signals that end a call. Those that were ignored when it started
// still are: netavark has a teardown go on where Podman is interrupted.
func endings() []os.Signal {
	return slices.DeleteFunc([]os.Signal{syscall.SIGINT, syscall.SIGTERM}, signal.Ignored)
}

// daemon finds the daemon, that of V6NET_CONTROL_SOCKET before others.
func daemon() (netavark.Daemon, error) {
	if path := os.Getenv("V6NET_CONTROL_SOCKET"); path != "" {
		return reach(path)
	}
	path, err := control.FindSocket()
	if errors.Is(err, control.ErrNoDaemon) {
		return nil, errors.New("no v6net daemon answers: start it with `systemctl enable --now v6net.service`, or without systemd with `v6net daemon`")
	}
	if err != nil {
		return nil, err
	}
	return client(path, os.Stderr), nil
}

// client says on w, which Podman shows, that it waits for the daemon: to make a network
// may take some seconds.
func client(path string, w io.Writer) *control.Client {
	c := control.NewClient(path)
	c.Waiting = func() { fmt.Fprintln(w, "v6net: waiting for the daemon …") } //nolint:errcheck // who would be told?
	return c
}

// reach makes a client for a socket on which somebody answers.
func reach(path string) (netavark.Daemon, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("no v6net daemon answers on V6NET_CONTROL_SOCKET=%s: start one with `v6net daemon --control-socket %s` (%w)", path, path, err)
	}
	return client(path, os.Stderr), c.Close()
}

// rootless reports whether Podman runs for a user: without root's rights, or in a
// user namespace of its own, which it marks for itself.
func rootless() bool {
	uid := os.Getenv("_CONTAINERS_ROOTLESS_UID")
	return os.Geteuid() != 0 || uid != "" && uid != "0"
}

// furnisher does what has to be done in a container's network namespace.
type furnisher struct{}

// Furnish implements netavark.Sandbox.
func (furnisher) Furnish(ctx context.Context, path string, l netavark.Link) (string, error) {
	want := sandbox.Link{Name: l.Name, Alias: l.Alias, Rename: l.Rename, Addresses: l.Addresses, OnLink: l.OnLink}
	for _, r := range l.Routes {
		want.Routes = append(want.Routes, sandbox.Route(r))
	}
	mac, err := sandbox.Furnish(ctx, path, want)
	if err != nil {
		return "", err
	}
	if len(mac) == 0 {
		return "", errors.New("the link has no hardware address")
	}
	return mac.String(), nil
}
