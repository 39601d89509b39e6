package engine

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// ipvlanAddress takes no address but the parent's own, which an endpoint is given
// again that is to be as it was (`podman network reload`). It is not kept: the
// parent's may change.
func (m onParent) ipvlanAddress(ctx context.Context, n *network, ep *spec.Endpoint) error {
	if ep.MAC == "" {
		return nil
	}
	facts, err := m.Links.Parent(ctx, n.parent)
	if err != nil {
		return fmt.Errorf("parent %s: %w", n.parent, err)
	}
	if ep.MAC != facts.MAC {
		return fmt.Errorf("MAC address %s: with mode=ipvlan a container has that of parent %s", ep.MAC, n.parent)
	}
	ep.MAC = ""
	return nil
}

// defaultRoutes need no next hop in ipvlan's modes l3 and l3s: the host routes
// what comes out of the link (ipvlan_process_outbound in
// drivers/net/ipvlan/ipvlan_core.c).
func defaultRoutes(ep *endpoint) []netip.Prefix {
	var routes []netip.Prefix
	for _, a := range ep.Addresses() {
		routes = append(routes, spec.Everywhere(a.Is6()))
	}
	return routes
}
