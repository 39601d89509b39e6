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

		AnySource: n.Options.AnySource,

		Unprotected4: n.Options.GatewayMode4 == spec.GatewayUnprotected, Unprotected6: n.Options.GatewayMode6 == spec.GatewayUnprotected,
		Isolated4: n.Options.GatewayMode4 == spec.GatewayIsolated, Isolated6: n.Options.GatewayMode6 == spec.GatewayIsolated,
	}
	f.Outbound4, f.Outbound6 = n.Options.Host4, n.Options.Host6
	if t := n.Translation(); t.Outside.IsValid() {
		f.Translations = append(f.Translations, t)
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
		f.Shared = append(f.Shared, s.Aux...)
		if s.Gateway.IsValid() {
			f.Gateways = append(f.Gateways, s.Gateway)
		}
	}
	if n.FrontEnd != "" { // Docker's engine has its name server in the container
		for _, s := range n.PresentSubnets() { // it listens on former ones too, until the next container comes
			if n.HasGateway(s) {
				f.Resolvers = append(f.Resolvers, s.Gateway)
			}
		}
	}
	for _, ep := range endpoints {
		if ep == nil {
			continue
		}
		f.Live = append(f.Live, n.AddressesOf(ep.Endpoint)...)
		f.Published = append(f.Published, n.published(ep)...)
		f.Containers = append(f.Containers, firewall.Container{Name: whose(ep), Port: spec.VethName(ep.ID), MAC: ep.MAC, Addresses: n.AddressesOf(ep.Endpoint)})
	}
	return f
}

// whose is an endpoint as people know it: by its container, where that is known.
func whose(ep *endpoint) string {
	if ep.Name != "" {
		return "container " + ep.Name
	}
	return "endpoint " + spec.ShortID(ep.ID)
}

// Explain says what the firewall does with a call, and which rule decides.
func (e *Engine) Explain(ctx context.Context, call spec.Call) (spec.Judgement, error) {
	local, err := e.Host.Addresses(ctx)
	if err != nil {
		return spec.Judgement{}, err
	}
	e.mu.Lock()
	policy := e.policy()
	for _, n := range e.networks {
		if n.isRouted() {
			continue
		}
		for _, s := range n.PresentSubnets() {
			if s.Prefix.Contains(call.From) || s.Prefix.Contains(call.To) {
				e.mu.Unlock()
				return spec.Judgement{Verdict: spec.Unjudged, Steps: []string{},
					Why: fmt.Sprintf("network %s has mode=%s, whose packets pass this host's firewall by", spec.ShortID(n.ID), n.Options.Mode)}, nil
			}
		}
	}
	e.mu.Unlock()
	return policy.Explain(call, local)
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
