package engine

import (
	"context"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// needsShim reports whether a network is to have the host's own link.
func (e *Engine) needsShim(n *network) bool {
	return n.Options.HostAccess && len(living(e.endpointsOf(n.ID))) > 0
}

// applyShim makes the host's own link on the parent while the network has
// endpoints, with a route to each and no other. Without it host and containers
// do not reach each other: what one of a parent's links sends, the parent sees
// only as something that leaves (drivers/net/macvlan.c, macvlan_queue_xmit).
func (m onParent) applyShim(ctx context.Context, n *network) error {
	if !n.Options.HostAccess {
		return nil
	}
	shim := m.child(n, spec.ShimName(n.ID), spec.NetworkAlias(n.ID))
	for _, ep := range m.endpointsOf(n.ID) {
		if ep.Phase != spec.PhaseDeleting {
			shim.Routes = append(shim.Routes, n.AddressesOf(ep.Endpoint)...)
		}
	}
	if len(shim.Routes) == 0 {
		return m.Links.Remove(ctx, shim.Name, shim.Alias)
	}
	for _, s := range n.PresentSubnets() {
		if s.Host.IsValid() {
			shim.Addresses = append(shim.Addresses, netip.PrefixFrom(s.Host, s.Host.BitLen()))
		}
	}
	// Down until it is set up: it is beside the parent on one link.
	if err := m.Links.EnsureChild(ctx, shim); err != nil {
		return err
	}
	for _, s := range []setting{
		{"net/ipv6/conf/" + shim.Name + "/accept_ra", "0"}, // advertisements are for the parent
		// ARP answers for the parent's addresses, too, on any link where it is asked,
		// and asks in the name of any; neighbor discovery does neither (ndisc_recv_ns).
		{"net/ipv4/conf/" + shim.Name + "/arp_ignore", "1"},
		{"net/ipv4/conf/" + shim.Name + "/arp_announce", "2"},
	} {
		if err := m.Sysctls.Set(ctx, s.key, s.value); err != nil {
			return err
		}
	}
	shim.Up = true
	return m.Links.EnsureChild(ctx, shim)
}
