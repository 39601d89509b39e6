package main

import (
	"context"
	"fmt"
	"os"

	"github.com/v6net/v6net/internal/control"
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
