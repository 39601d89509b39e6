package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

type forgetCommand struct {
	daemonSocket
	What  string `arg:"" help:"ID of a network, or the beginning of it; or the prefix of a pool that nothing uses."`
	Force bool   `help:"Also a network that has containers, which lose it."`
}

// Run has the daemon remove a network that its container engine no longer knows,
// with its pools, or a pool alone.
func (c forgetCommand) Run(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if pool, err := netip.ParsePrefix(c.What); err == nil {
		if err := client.ForgetPool(ctx, pool.Masked().String()); err != nil {
			return err
		}
		fmt.Println("forgotten: pool", pool.Masked())
		return nil
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	n, err := findNetwork(status, c.What)
	if err != nil {
		return err
	}
	if err := c.spare(n); err != nil {
		return err
	}
	if err := client.DeleteNetwork(ctx, n.ID); err != nil {
		return err
	}
	fmt.Printf("forgotten: network %s, with %d endpoints\n", called(n.ID, n.Name), len(n.Endpoints))
	return nil
}

// spare refuses a network that containers would lose.
func (c forgetCommand) spare(n spec.NetworkStatus) error {
	joined := 0
	for _, ep := range n.Endpoints {
		if ep.Joined {
			joined++
		}
	}
	if joined == 0 || c.Force {
		return nil
	}
	return fmt.Errorf("network %s has %d containers, which would lose it: remove it by its container engine (docker network rm, podman network rm), or, if that no longer knows it, with --force", called(n.ID, n.Name), joined)
}

// findNetwork is the one network whose ID begins so.
func findNetwork(status spec.Status, beginning string) (spec.NetworkStatus, error) {
	var found []spec.NetworkStatus
	for _, n := range status.Networks {
		if strings.HasPrefix(n.ID, beginning) {
			found = append(found, n)
		}
	}
	if len(found) != 1 || beginning == "" {
		err := fmt.Errorf("%d networks have an ID that begins with %q (see them with `v6net status`)", len(found), beginning)
		if len(found) == 0 {
			err = notFound{err}
		}
		return spec.NetworkStatus{}, err
	}
	return found[0], nil
}
