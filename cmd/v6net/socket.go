package main

import (
	"context"
	"fmt"
	"os"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
)

// daemonSocket is the flag of every command that speaks to the daemon.
type daemonSocket struct {
	Socket string `help:"The daemon's control socket; found by itself if not given." placeholder:"PATH"`
}

func (s daemonSocket) client() (*control.Client, error) {
	path := s.Socket
	if path == "" {
		var err error
		if path, err = control.FindSocket(); err != nil {
			return nil, err
		}
	}
	client := control.NewClient(path)
	client.Waiting = func() { fmt.Fprintln(os.Stderr, "v6net: waiting for the daemon …") }
	return client, nil
}

// living is the client of a daemon that runs already: calling at a plain service's socket
// would have systemd start one that its administrator has stopped.
func (s daemonSocket) living() (*control.Client, error) {
	if s.Socket == "" || s.Socket == control.SocketPath {
		holder, err := netns.Claimant(claimName)
		if err != nil {
			return nil, err
		}
		if holder == "" {
			return nil, control.NotFound()
		}
	}
	return s.client()
}

// status is the daemon's, with the names that Docker knows.
func (s daemonSocket) status(ctx context.Context) (spec.Status, error) {
	client, err := s.client()
	if err != nil {
		return spec.Status{}, err
	}
	status, err := client.Status(ctx)
	if err == nil {
		nameContainers(ctx, &status)
	}
	return status, err
}
