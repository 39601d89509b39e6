package main

import "github.com/v6net/v6net/internal/control"

// daemonSocket is the flag of every command that speaks to the daemon.
type daemonSocket struct {
	Socket string `help:"The daemon's control socket; found by itself if not given." placeholder:"PATH"`
}

func (s daemonSocket) client() (*control.Client, error) {
	if s.Socket != "" {
		return control.NewClient(s.Socket), nil
	}
	path, err := control.FindSocket()
	if err != nil {
		return nil, err
	}
	return control.NewClient(path), nil
}
