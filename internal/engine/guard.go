package engine

import (
	"context"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// guard decides from where a container has its IPv6 default route: from the
// container engine, and no advertisement gets to it, or from an advertisement
// alone. Of two the engine's fails where the other comes first; of none comes
// nothing. So left to us, a container whose router nobody knows yet listens
// itself, and so does one that cannot be kept from listening.
//
// The guard stays on the link for good, and what was decided with it, too: it
// is in the journal before the guard is there.
func (m onParent) guard(ctx context.Context, n *network, ep *endpoint, link string) error {
	if !n.hearsRouters() {
		return nil
	}
	decided, auto := ep.Endpoint, n.Options.RA == spec.SwitchAuto
	if !decided.NextHop6.IsValid() || !decided.Guarded {
		decided.NextHop6 = m.nextHop(ctx, n, ep)
	}
	decided.Guarded = decided.NextHop6.IsValid() || !auto
	if decided.Guarded && !decided.NextHop6.IsValid() {
		m.Log.Warn("no IPv6 router is known on the parent (name it with --gateway)", subject(ep.Endpoint, "parent", n.parent)...)
	}
	if err := m.decide(ep, decided); err != nil || !decided.Guarded {
		return err
	}
	err := m.Links.BlockRA(ctx, link)
	if err == nil || !auto || ctx.Err() != nil {
		return err
	}
	m.Log.Warn("the container takes router advertisements", subject(ep.Endpoint, "err", err)...)
	decided.Guarded = false
	if !n.names(decided.NextHop6) || len(m.advertisers(n.parent)) > 0 {
		decided.NextHop6 = netip.Addr{}
	}
	return m.decide(ep, decided)
}

// hearsRouters reports whether the upstream routers' advertisements get to the
// network's links, and are to be kept away where that can be done.
func (n *network) hearsRouters() bool {
	return n.Options.RA != spec.SwitchOn && !n.Options.L3() && !n.Internal
}

// tryGuard sees whether advertisements can be kept from links like this one.
func (m onParent) tryGuard(ctx context.Context, n *network, link string) error {
	if !n.hearsRouters() {
		return nil
	}
	err := m.Links.BlockRA(ctx, link)
	if err != nil && n.Options.RA == spec.SwitchAuto && ctx.Err() == nil {
		m.Log.Warn("containers take router advertisements", aboutNetwork(n.Network, "err", err)...)
		return nil
	}
	return err
}

// decide notes what guard has decided. An endpoint that is being made is not
// worth it yet: a crash takes it back, with its link.
func (m onParent) decide(ep *endpoint, decided spec.Endpoint) error {
	if ep.Guarded == decided.Guarded && ep.NextHop6 == decided.NextHop6 {
		return nil
	}
	if ep.Phase == spec.PhaseReady {
		if err := m.Journal.PutEndpoint(decided); err != nil {
			return err
		}
	}
	ep.Endpoint = decided
	return nil
}

// nextHop is the upstream router for an endpoint's IPv6 address: the one that
// the user named, or one that is known; zero: none.
func (m onParent) nextHop(ctx context.Context, n *network, ep *endpoint) netip.Addr {
	for _, s := range n.IPv6 {
		if s.Prefix.Contains(ep.IPv6.Addr()) && s.Router.IsValid() {
			return s.Router
		}
	}
	return m.routers(ctx, n.parent).Of(true)
}

// names reports whether the user named the router.
func (n *network) names(router netip.Addr) bool {
	return slices.ContainsFunc(n.IPv6, func(s spec.Subnet) bool { return s.Router == router })
}
