package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// onParent attaches containers by macvlan or ipvlan links on the parent. The
// links' packets pass this host's forward hook by; it routes nothing and opens
// nothing. Upstream, the parent's own router is the containers'.
type onParent struct{ *Engine }

// childParent is the link on which the network's links are.
func (n *network) childParent() string {
	if n.Internal {
		return spec.PairName(n.ID)
	}
	return n.Options.Parent
}

func (m onParent) apply(ctx context.Context, n *network) error {
	n.parent, n.mtu = n.childParent(), defaultMTU
	if n.Options.MTU != 0 {
		n.mtu = n.Options.MTU
	}
	if err := m.applyParent(ctx, n); err != nil {
		return err
	}
	facts, err := m.Links.Parent(ctx, n.parent)
	if err != nil {
		return fmt.Errorf("parent %s: %w", n.parent, err)
	}
	m.parentUp[n.parent] = facts.Up
	if n.Options.MTU == 0 {
		n.mtu = facts.MTU
	}
	if n.Phase == spec.PhaseCreating {
		if err := m.try(ctx, n); err != nil {
			return err
		}
	}
	return errors.Join(m.applyShim(ctx, n), n.straying())
}

// applyParent makes the parent that is ours to make: the cable of an internal
// network, or a VLAN sub-interface.
func (m onParent) applyParent(ctx context.Context, n *network) error {
	if n.Internal {
		return m.Links.EnsurePair(ctx, n.ID, n.mtu)
	}
	return m.ensureVLAN(ctx, n.parent)
}

// try makes a link as containers will have it and removes it again, so that
// what the kernel refuses is refused with the network and not with its first
// container: a module that is missing, a parent that is another's.
func (m onParent) try(ctx context.Context, n *network) error {
	trial := m.child(n, spec.TrialName(n.ID), spec.NetworkAlias(n.ID))
	if err := m.Links.CheckChild(ctx, trial); err != nil {
		return err
	}
	err := m.Links.EnsureChild(ctx, trial)
	if err == nil {
		err = m.tryGuard(ctx, n, trial.Name)
	}
	return errors.Join(err, m.Links.Remove(ctx, trial.Name, trial.Alias))
}

// child is a link of the network's kind.
func (m onParent) child(n *network, name, alias string) spec.Child {
	o := n.Options
	return spec.Child{
		Name: name, Alias: alias, Parent: n.parent, MTU: n.mtu,
		Mode: o.Mode, MacvlanMode: o.MacvlanMode, IPvlanMode: o.IPvlanMode, IPvlanFlag: o.IPvlanFlag,
	}
}

func (m onParent) unapply(ctx context.Context, n *network) error {
	alias := spec.NetworkAlias(n.ID)
	errs := []error{
		m.Links.Remove(ctx, spec.TrialName(n.ID), alias),
		m.Links.Remove(ctx, spec.ShimName(n.ID), alias),
	}
	if n.Internal {
		errs = append(errs, m.Links.Remove(ctx, spec.PairName(n.ID), alias))
	}
	return errors.Join(errs...)
}

// link is the container's own: it has no other end.
func (onParent) link(endpointID string) string { return spec.SandboxName(endpointID) }

func (m onParent) attach(ctx context.Context, n *network, ep *endpoint) error {
	elsewhere, err := m.isElsewhere(ctx, ep)
	if err != nil {
		return err
	}
	if !elsewhere {
		want := m.child(n, spec.SandboxName(ep.ID), spec.EndpointAlias(ep.ID))
		want.MAC = ep.MAC
		if err := m.Links.EnsureChild(ctx, want); err != nil {
			return err
		}
		if err := m.guard(ctx, n, ep, want.Name); err != nil {
			return err
		}
		ep.linkGone = false
	}
	return m.applyShim(ctx, n)
}

func (m onParent) detach(ctx context.Context, n *network, ep *endpoint) error {
	alias := spec.EndpointAlias(ep.ID)
	here, err := m.isHere(ctx, ep)
	if err != nil {
		return err
	}
	if err := m.Links.Remove(ctx, spec.SandboxName(ep.ID), alias); err != nil {
		return err
	}
	if !here { // a container may be cut off while it runs, or be about to end
		if err := m.Links.RemoveElsewhere(ctx, alias); err != nil {
			return err
		}
	}
	before := m.networkError(n)
	if err := m.applyShim(ctx, n); err != nil {
		if ctx.Err() != nil || !m.needsShim(n) {
			return err
		}
		// It is the other containers', and no reason to keep this one.
		n.err = err
		m.noteHealth(n, before)
		m.planHeal()
	}
	return nil
}

func (m onParent) attachment(ctx context.Context, n *network, ep *endpoint) spec.Attachment {
	a := spec.Attachment{Interface: spec.SandboxName(ep.ID), Prefix: n.Options.InterfacePrefix}
	switch {
	case n.Internal:
		return a
	case n.Options.L3():
		a.Routes = defaultRoutes(ep)
		return a
	}
	routers := m.routers(ctx, n.parent)
	a.Gateway6 = ep.NextHop6
	for _, s := range n.IPv4 {
		if !s.Prefix.Contains(ep.IPv4.Addr()) {
			continue
		}
		// Engines before 28 give no default route in either family where IPv4 has
		// none, so that the address which they keep as the gateway's is the last resort.
		a.Gateway4 = s.Gateway
		if learned := append(routers.AllIn(s.Prefix), s.Routers...); s.Router.IsValid() {
			a.Gateway4 = s.Router
		} else if len(learned) > 0 {
			a.Gateway4 = learned[0]
		}
	}
	a.Routes = m.onLinkAround(ctx, n.parent, ep.IPv6)
	isOnLink := func(p netip.Prefix) bool { return p.Contains(a.Gateway6) }
	if g := a.Gateway6; g.IsValid() && !g.IsLinkLocalUnicast() && !isOnLink(ep.IPv6) && !slices.ContainsFunc(a.Routes, isOnLink) {
		a.Routes = append(a.Routes, netip.PrefixFrom(g, g.BitLen()))
	}
	return a
}

// onLinkAround are the prefixes on a parent that an address's own is a part of: the
// neighbors there, too, are reached without a router, of which there may be none.
func (m onParent) onLinkAround(ctx context.Context, parent string, own netip.Prefix) (around []netip.Prefix) {
	if parent == "" || !own.IsValid() {
		return nil
	}
	onLink, err := m.Host.OnLink(ctx, parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errors.ErrUnsupported) {
		m.Log.Warn("prefixes on the parent", "parent", parent, "err", err)
	}
	for _, p := range onLink {
		if p.Bits() < own.Bits() && p.Contains(own.Addr()) {
			around = append(around, p)
		}
	}
	return around
}

// linkChanged: a link that leaves the host has been moved into its container.
func (m onParent) linkChanged(ctx context.Context, n *network, ep *endpoint, _, deleted bool) {
	if !deleted || !ep.Joined {
		return
	}
	m.announce(ctx, n, ep)
	ep.announced = true
	// It is not up yet, and who answers now is not heard.
	m.later(announceInterval, func() {
		if m.endpoints[ep.ID] == ep && ep.Joined && !ep.linkGone {
			m.Engine.announce(ctx, ep)
			m.readdressArrived(ctx, ep)
		}
	})
}

// announce tells the parent's link where an endpoint's addresses are now: other
// hosts and routers, and switches (RFC 4861 §7.2.6, RFC 5227 §3). Containers
// beside it are told by way of the shim, if there is one.
func (m onParent) announce(ctx context.Context, n *network, ep *endpoint) {
	if n.Internal {
		return
	}
	address := ep.MAC
	if n.Options.Mode == spec.ModeIPvlan {
		facts, err := m.Links.Parent(ctx, n.parent)
		if err != nil {
			return // there is nobody to be told
		}
		address = facts.MAC
	}
	mac, err := net.ParseMAC(address)
	if err != nil {
		return
	}
	a := announcement{endpoint: ep.Endpoint, ports: []string{n.parent}, addrs: n.AddressesOf(ep.Endpoint), mac: mac}
	if n.Options.L3() {
		if ep.proxied == "" {
			return // a router knows the way
		}
		a.addrs = ep.answered
	} else if n.Options.HostAccess {
		a.ports = append(a.ports, spec.ShimName(n.ID))
	}
	m.announcements = append(m.announcements, a)
	m.wakeUp()
}
