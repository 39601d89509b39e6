package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// applyFirewall puts the rules for all present networks in place, or takes ours
// away when there is no network left.
func (e *Engine) applyFirewall(ctx context.Context) error {
	if len(e.networks) == 0 {
		return e.Firewall.Remove(ctx)
	}
	ruleset, err := firewall.Build(e.policy())
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	return e.Firewall.Apply(ctx, ruleset)
}

// policy is what the firewall needs to know, in a stable order.
func (e *Engine) policy() firewall.Config {
	var c firewall.Config
	byNetwork := map[string][]*endpoint{}
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		byNetwork[ep.NetworkID] = append(byNetwork[ep.NetworkID], ep)
	}
	for _, id := range sortedIDs(e.networks) {
		n := e.networks[id]
		if n.parent != "" {
			c.Parents = append(c.Parents, n.parent)
		}
		if !n.Internal {
			c.Parents = append(c.Parents, e.defaultLinks...)
		}
		c.Networks = append(c.Networks, n.policy(byNetwork[id]))
	}
	slices.Sort(c.Parents)
	c.Parents = slices.Compact(c.Parents)
	return c
}

func (n *network) policy(endpoints []*endpoint) firewall.Network {
	f := firewall.Network{
		ID:       n.ID,
		Bridge:   n.Bridge(),
		Internal: n.Internal,
		Isolate:  n.Options.Isolate,
		ICC:      n.Options.ICC,
		Inbound:  n.Options.Inbound,
	}
	for _, s := range n.IPv6 {
		f.Pools = append(f.Pools, s.Prefix)
		if n.autonomous(s) {
			f.Autonomous = append(f.Autonomous, s.Prefix)
		}
		if n.MasqueradesIPv6(s) && !n.Internal {
			f.Masquerade = append(f.Masquerade, s.Prefix)
		}
	}
	for _, s := range n.IPv4 {
		f.Pools = append(f.Pools, s.Prefix)
		if n.MasqueradesIPv4() && !n.Internal {
			f.Masquerade = append(f.Masquerade, s.Prefix)
		}
	}
	for _, s := range n.Subnets() {
		f.Live = append(f.Live, s.Aux...) // the user says that somebody has them
	}
	for _, ep := range endpoints {
		if ep.Phase == spec.PhaseDeleting {
			continue
		}
		f.Live = append(f.Live, ep.Addresses()...)
		for _, p := range ep.Ports {
			f.Published = append(f.Published, n.published(ep, p)...)
		}
	}
	return f
}

func (n *network) published(ep *endpoint, p spec.Port) []firewall.Published {
	var out []firewall.Published
	for _, a := range n.opened(ep, p) {
		out = append(out, firewall.Published{Protocol: p.Protocol, Container: a, Port: p.Port})
	}
	for _, a := range n.translated(ep, p) {
		out = append(out, firewall.Published{Protocol: p.Protocol, Container: a, Port: p.Port, HostIP: n.hostIP(p, a), HostPort: p.HostPort})
	}
	return out
}
