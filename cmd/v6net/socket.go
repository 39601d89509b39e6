package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
)

// daemonSocket is the flag of every command that speaks to the daemon.
type daemonSocket struct {
	Socket string `help:"The daemon's control socket; found by itself if not given." placeholder:"PATH"`
}

func (s daemonSocket) client(ctx context.Context) (*control.Client, error) {
	path := s.Socket
	if path == "" {
		var err error
		if path, err = findSocket(ctx); err != nil {
			return nil, err
		}
	}
	client := control.NewClient(path)
	client.Waiting = func() { fmt.Fprintln(os.Stderr, "v6net: waiting for the daemon …") }
	return client, nil
}

// findWait is how long findSocket waits between two looks.
const findWait = 100 * time.Millisecond

// findSocket is the running daemon's socket. One that starts has its claim already, and opens
// its sockets once it has set up what its journal says: that is waited for.
func findSocket(ctx context.Context) (string, error) {
	path, err := control.FindSocket()
	if !errors.Is(err, control.ErrNoDaemon) {
		return path, err
	}
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	defer time.AfterFunc(progressPatience, func() { fmt.Fprintln(os.Stderr, "v6net: waiting for the daemon, which starts …") }).Stop()
	for {
		if holder, look := netns.Claimant(claimName); look != nil || holder == "" {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w yet: one starts, or ends, and has no socket (try again)", control.ErrNoDaemon)
		case <-time.After(findWait):
		}
		if path, err = control.FindSocket(); !errors.Is(err, control.ErrNoDaemon) {
			return path, err
		}
	}
}

// living is the client of a daemon that runs already: calling at a plain service's socket
// would have systemd start one that its administrator has stopped.
func (s daemonSocket) living(ctx context.Context) (*control.Client, error) {
	if s.Socket == "" || s.Socket == control.SocketPath {
		holder, err := netns.Claimant(claimName)
		if err != nil {
			return nil, err
		}
		if holder == "" {
			return nil, control.NotFound()
		}
	}
	return s.client(ctx)
}

// status is the daemon's, with the names that Docker knows.
func (s daemonSocket) status(ctx context.Context) (spec.Status, error) {
	client, err := s.client(ctx)
	if err != nil {
		return spec.Status{}, err
	}
	status, err := client.Status(ctx)
	if err == nil {
		nameContainers(ctx, &status)
	}
	return status, err
}
