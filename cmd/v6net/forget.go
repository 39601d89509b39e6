package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

type forgetCommand struct {
	daemonSocket
	What  string `arg:"" help:"A network: its name, or the beginning of its ID; or the prefix of a pool that nothing uses."`
	Force bool   `help:"Also a network that has containers, which lose it."`
}

// Run has the daemon remove a network that its container engine no longer knows,
// with its pools, or a pool alone.
func (c forgetCommand) Run(ctx context.Context) error {
	client, err := c.client(ctx)
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
	status, err := c.status(ctx)
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
	return fmt.Errorf("network %s has %s, which would lose it: remove it by its container engine (docker network rm, podman network rm), or, if that no longer knows it, with --force", called(n.ID, n.Name), several(joined, "container"))
}
