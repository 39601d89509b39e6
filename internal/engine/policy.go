package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// applyFirewall puts the rules for all present networks in place, or takes ours
// away when there is no network left that they are for.
func (e *Engine) applyFirewall(ctx context.Context) error {
	e.ruled = false
	if !e.hasRouted() {
		return e.Firewall.Remove(ctx)
	}
	ruleset, err := firewall.Build(e.policy())
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if err := e.Firewall.Apply(ctx, ruleset); err != nil {
		return err
	}
	e.ruled = true
	return nil
}

// applyContainer turns the rules for one endpoint from what they were into what
// they are to be, at no cost for the others; nil is an endpoint that is not there.
// Where the rest of the ruleset may not be in place, all of it is put there.
func (e *Engine) applyContainer(ctx context.Context, before, after *endpoint) error {
	n, known := e.networks[cmp.Or(after, before).NetworkID]
	if known && !n.isRouted() {
		return nil // there are none
	}
	if !known || !e.ruled {
		return e.applyFirewall(ctx)
	}
	changes, err := n.policy(after).Since(n.policy(before))
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	return e.Firewall.Update(ctx, changes)
}

// policy is what the firewall needs to know, in a stable order.
func (e *Engine) policy() firewall.Config {
	var c firewall.Config
	for _, id := range sortedIDs(e.networks) {
		n := e.networks[id]
		if !n.isRouted() {
			continue // its packets pass the host's rules by
		}
		if n.parent != "" {
			c.Parents = append(c.Parents, n.parent)
		}
		if !n.Internal {
			c.Parents = append(c.Parents, e.defaultLinks...)
		}
		c.Networks = append(c.Networks, n.policy(living(e.endpointsOf(id))...))
	}
	slices.Sort(c.Parents)
	c.Parents = slices.Compact(c.Parents)
	return c
}

// living are the endpoints that are not being deleted.
func living(endpoints []*endpoint) []*endpoint {
	return slices.DeleteFunc(endpoints, func(ep *endpoint) bool { return ep.Phase == spec.PhaseDeleting })
}

// policy is the network with those endpoints on it.
func (n *network) policy(endpoints ...*endpoint) firewall.Network {
	f := firewall.Network{
		ID:       n.ID,
		Bridge:   n.Bridge(),
		Internal: n.Internal,
		Isolate:  n.Options.Isolate,
		ICC:      n.Options.ICC,
		Inbound:  n.Options.Inbound,
	}
	for _, s := range n.Present() {
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
	for _, s := range n.PresentSubnets() {
		f.Live = append(f.Live, s.Aux...) // the user says that somebody has them
	}
	for _, ep := range endpoints {
		if ep == nil {
			continue
		}
		f.Live = append(f.Live, n.AddressesOf(ep.Endpoint)...)
		f.Published = append(f.Published, n.published(ep)...)
	}
	return f
}

// published is what all of the endpoint's ports come to.
func (n *network) published(ep *endpoint) []firewall.Published {
	var out []firewall.Published
	for _, p := range ep.Ports {
		out = append(out, n.publishedPort(ep, p)...)
	}
	return out
}

func (n *network) publishedPort(ep *endpoint, p spec.Port) []firewall.Published {
	var out []firewall.Published
	for _, a := range n.opened(ep, p) {
		out = append(out, firewall.Published{Protocol: p.Protocol, Container: a, Port: p.Port})
	}
	for _, a := range n.translated(ep, p) {
		out = append(out, firewall.Published{Protocol: p.Protocol, Container: a, Port: p.Port, HostIP: n.hostIP(p, a), HostPort: p.HostPort})
	}
	return out
}
