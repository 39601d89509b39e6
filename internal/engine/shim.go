package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

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

// hostAddress is the host's own in a subnet: the gateway's that nobody named, if
// it is nobody's, or one leased for it. before is the pool as it was found.
func (m onParent) hostAddress(ctx context.Context, n spec.Network, s spec.Subnet, before spec.Pool, ours bool) (netip.Addr, error) {
	if before, known := m.subnet(n.ID, s.Prefix); known { // the same network again
		return before.Host, nil
	}
	if !ours {
		return netip.Addr{}, fmt.Errorf("option host_access=on: the host needs an address of subnet %s, which another IPAM driver hands out (use --ipam-driver v6net)", s.Prefix)
	}
	if s.Gateway.IsValid() && s.Router != s.Gateway {
		free, err := m.isFree(ctx, n, s, before)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("option host_access=on: %w", err)
		}
		if free {
			return s.Gateway, nil
		}
	}
	a, err := m.RequestAddress(ctx, s.Prefix.String(), netip.Addr{}, false)
	return a.Addr(), err
}

// isFree reports whether the host may have the gateway address that nobody
// named. It is the first of the subnet, where routers are.
func (m onParent) isFree(ctx context.Context, n spec.Network, s spec.Subnet, before spec.Pool) (bool, error) {
	parent := n.Options.Parent
	switch {
	case n.Internal, n.Options.L3():
		return true, nil // the host is the only one there beside containers
	case slices.Contains(s.Routers, s.Gateway):
		return false, nil
	case s.Gateway.Is4():
		return s.Source == spec.SourcePrivate, nil // in IPv4 nobody is asked
	case before.OnLink && before.Parent == parent:
		return true, nil // it has been probed
	}
	taken, err := m.probe(ctx, parent, []netip.Addr{s.Gateway})
	return len(taken) == 0, err
}
