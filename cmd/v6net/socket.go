package main

import (
	"fmt"
	"os"

	"github.com/v6net/v6net/internal/control"
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
