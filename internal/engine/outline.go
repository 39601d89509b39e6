package engine

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// applyFirewallOf is applyFirewall for a network that has come to others or has left them,
// at no cost for their containers. Where the rest of the ruleset may not be in place, or
// where the network changes more of it than elements, all of it is put there.
func (e *Engine) applyFirewallOf(ctx context.Context, n *network) error {
	changes, known := e.changesOf(n)
	if !known {
		return e.applyFirewall(ctx)
	}
	if !n.isRouted() {
		return nil // there are no rules for it
	}
	e.tellZones()
	e.unapplied = e.Firewall.UpdateNetworks(ctx, changes)
	if e.unapplied != nil {
		e.ruled, e.guarded = false, false
	}
	if _, here := e.networks[n.ID]; here && e.ruled {
		e.noteFaultsOf(n)
	}
	return e.unapplied
}

// changesOf are those of the ruleset's elements by which a network comes or goes, unless only
// the whole ruleset says them.
func (e *Engine) changesOf(n *network) (changes []firewall.Change, known bool) {
	if !e.ruled || !e.hasRouted() || n.Options.LogDenied || len(e.byNetwork[n.ID]) > 0 || e.othersHold(n) {
		return nil, false
	}
	others := slices.DeleteFunc(slices.Collect(maps.Values(e.networks)), func(other *network) bool { return other.ID == n.ID })
	before := e.outline(others)
	after := before
	after.Networks = append(before.Networks, n.policy()) // before keeps its length
	after.Parents = e.outward(append(others, n))
	if _, here := e.networks[n.ID]; !here {
		before, after = after, before
	}
	return after.Since(before)
}

// outline is the policy of networks without their containers.
func (e *Engine) outline(networks []*network) firewall.Config {
	return e.policyOf(networks, func(*network) []member { return nil })
}

// othersHold reports whether a container on another network has an address of this one's yet,
// which is forbidden while this one is there (keepToOwners): only what was lent comes to that.
func (e *Engine) othersHold(n *network) bool {
	pools := n.policy().Pools
	for _, other := range e.networks {
		if other.ID == n.ID || !slices.ContainsFunc(other.IPv6, func(s spec.Subnet) bool { return s.Lent != nil }) {
			continue
		}
		for _, ep := range e.byNetwork[other.ID] {
			if slices.ContainsFunc(other.sendsFrom(ep), func(a netip.Addr) bool {
				return slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Contains(a) })
			}) {
				return true
			}
		}
	}
	return false
}
