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
	What string `arg:"" help:"ID of a network, or the beginning of it; or the prefix of a pool that nothing uses."`
}

// Run has the daemon remove a network that its container engine no longer knows,
// with its pools, or a pool alone.
func (c forgetCommand) Run(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if pool, err := netip.ParsePrefix(c.What); err == nil {
		return client.ForgetPool(ctx, pool.Masked().String())
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	id, err := findNetwork(status, c.What)
	if err != nil {
		return err
	}
	return client.DeleteNetwork(ctx, id)
}

// findNetwork is the one network whose ID begins so.
func findNetwork(status spec.Status, beginning string) (string, error) {
	var found []string
	for _, n := range status.Networks {
		if strings.HasPrefix(n.ID, beginning) {
			found = append(found, n.ID)
		}
	}
	if len(found) != 1 || beginning == "" {
		return "", fmt.Errorf("%d networks have an ID that begins with %q (see them with `v6net status`)", len(found), beginning)
	}
	return found[0], nil
}
