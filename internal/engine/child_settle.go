package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

func (m onParent) settle(ctx context.Context, n *spec.Network) error {
	inUse := m.inUse()
	origins := map[netip.Prefix]spec.Pool{}
	for _, s := range n.Subnets() {
		p, err := m.origin(ctx, s.Prefix, "", inUse)
		if err != nil {
			return err
		}
		origins[s.Prefix] = p
	}
	if !n.Internal {
		if err := m.settleParent(ctx, n, origins); err != nil {
			return err
		}
	}
	for _, subnets := range [][]spec.Subnet{n.IPv6, n.IPv4} {
		for i := range subnets {
			if err := m.classify(ctx, *n, &subnets[i], origins[subnets[i].Prefix]); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleParent fills in the parent that was not named. Links cannot follow the
// default route from one parent to another, so it is named from now on.
func (m onParent) settleParent(ctx context.Context, n *spec.Network, origins map[netip.Prefix]spec.Pool) error {
	for _, s := range n.IPv6 {
		switch p := origins[s.Prefix]; {
		case n.Options.Parent != "":
		case p.Lent != nil:
			n.Options.Parent = p.Lent.Link
		case p.OnLink:
			n.Options.Parent = p.Parent
		}
	}
	if n.Options.Parent == "" {
		parent, err := m.Host.DefaultParent(ctx)
		if err != nil || parent == "" {
			return fmt.Errorf("mode=%s: no IPv6 default route says which parent is meant: name it (-o parent=eth0), or make the network --internal", n.Options.Mode)
		}
		n.Options.Parent = parent
	}
	if err := m.checkParent(ctx, n.Options); err != nil || !n.Options.HostAccess || n.Options.L3() {
		return err
	}
	// The host's address is probed there before it is taken.
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ensureVLAN(ctx, n.Options.Parent)
}

// checkParent says why there can be no links on a parent.
func (m onParent) checkParent(ctx context.Context, o spec.Options) error {
	parent := o.Parent
	facts, err := m.Links.Parent(ctx, parent)
	if errors.Is(err, fs.ErrNotExist) {
		on, _, isVLAN := spec.ParseVLAN(parent)
		if !isVLAN {
			return spec.NoParent(parent)
		}
		if facts, err = m.Links.Parent(ctx, on); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("parent %s does not exist, and cannot be made: %s does not exist", parent, on)
		}
		parent = on
	}
	switch {
	case err != nil:
		return fmt.Errorf("parent %s: %w", parent, err)
	case facts.Loopback:
		return fmt.Errorf("parent %s is the loopback interface (make the network --internal, without a parent)", parent)
	case !facts.Ethernet:
		return fmt.Errorf("parent %s is not an Ethernet interface: mode=%s cannot work on it (use mode=bridge)", parent, o.Mode)
	case facts.Master != "" && parent == o.Parent:
		return fmt.Errorf("parent %s is a port of %s, which takes all its packets: use parent=%s", parent, facts.Master, facts.Master)
	case facts.Wireless && o.Mode == spec.ModeMacvlan:
		return fmt.Errorf("parent %s is wireless: an access point knows this host's MAC address only, and drops those of macvlan (use mode=ipvlan)", parent)
	case o.MTU > facts.MTU:
		return fmt.Errorf("option com.docker.network.driver.mtu: %d is more than parent %s has (allowed: up to %d)", o.MTU, parent, facts.MTU)
	}
	return nil
}

// classify adds to a subnet where it came from, and which addresses in it are
// the router's and the host's.
func (m onParent) classify(ctx context.Context, n spec.Network, s *spec.Subnet, p spec.Pool) error {
	s.Source, s.Reason, s.Lent = p.Source, p.Reason, p.Lent
	parent := n.Options.Parent
	if !n.Internal {
		if p.Source == spec.SourceULA {
			return fmt.Errorf("mode=%s: %s, a prefix that v6net made, leads nowhere on %s: name the prefix that is used there (--subnet) or take a part of it (--ipam-opt source=parent)%s",
				n.Options.Mode, s.Prefix, parent, because(p.Reason))
		}
		if p.Lent != nil && p.Lent.Fallback == spec.FallbackULA {
			return fmt.Errorf("mode=%s with fallback=ula: a prefix that v6net makes leads nowhere on %s (allowed: fallback=none, or mode=bridge)", n.Options.Mode, parent)
		}
		if p.OnLink && p.Parent != parent && (p.Source == spec.SourceParent || n.Options.L3()) {
			return fmt.Errorf("subnet %s is on %s, not on parent %s: choose the parent for both with --ipam-opt parent=%s", s.Prefix, p.Parent, parent, parent)
		}
		if p.Lent != nil && p.Lent.Link != parent {
			return fmt.Errorf("subnet %s is lent on %s, not on parent %s: choose the parent for both with --ipam-opt parent=%s", s.Prefix, p.Lent.Link, parent, parent)
		}
		if p.Lent != nil && !p.Lent.IsShared() && !n.Options.L3() {
			return fmt.Errorf("mode=%s: %s is lent to this host, and containers on %s have the router there for theirs: take a part of the prefix that is used there (--ipam-opt source=parent) or name it (--subnet), or use mode=bridge or ipvlan_mode=l3%s",
				n.Options.Mode, s.Prefix, parent, because(p.Reason))
		}
		switch {
		case !n.Options.L3():
			// All that is on the link with the parent can have the addresses.
			if s.Prefix.Addr().Is6() {
				s.OnLink, s.Parent = true, parent
			}
		case p.Conflict != "":
			return errors.New(p.Conflict)
		default:
			s.OnLink, s.Parent = p.OnLink, p.Parent
		}
	}
	if before, known := m.subnet(n.ID, s.Prefix); known {
		s.Routers, s.Lent = before.Routers, before.Lent // the same network again
	} else if !n.Internal {
		s.Routers = m.routers(ctx, parent).AllIn(s.Prefix)
	}
	ours, err := m.adoptPool(ctx, parent, *s)
	if err != nil {
		return err
	}
	if named := p.Gateway == s.Gateway || !ours; named && !n.Internal && !n.Options.L3() {
		s.Router = s.Gateway
	}
	if n.Options.RA == spec.SwitchOn && s.Prefix.Addr().Is6() && s.Router.IsValid() {
		if ours {
			return fmt.Errorf("option ra=on: containers have their default route from advertisements: leave --gateway %s out, or ra=on", s.Router)
		}
		s.Router = netip.Addr{} // another IPAM driver's, which may always have one
	}
	if err := m.requireRouter(n, *s); err != nil {
		return err
	}
	if n.Options.HostAccess {
		if s.Host, err = m.hostAddress(ctx, n, *s, p, ours); err != nil {
			return err
		}
	}
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// adoptPool tells a pool of ours what only the network says: on which link its
// addresses must be nobody else's. It reports whether there is one.
func (m onParent) adoptPool(ctx context.Context, parent string, s spec.Subnet) (ours bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ours := m.pools[s.Prefix.String()]
	if !ours {
		return false, nil
	}
	if err := m.avoidOthers(ctx, p, parent, s.Routers); err != nil || p.OnLink == s.OnLink && p.Parent == s.Parent {
		return true, err
	}
	adopted := p.Pool
	adopted.OnLink, adopted.Parent = s.OnLink, s.Parent
	if err := m.Journal.PutPool(adopted); err != nil {
		return true, err
	}
	p.OnLink, p.Parent = s.OnLink, s.Parent
	return true, nil
}

// requireRouter refuses an IPv4 subnet of the parent's link whose router nobody
// knows: without ARP for each address a container would get the router's sooner
// or later, and the whole link would lose its way out.
func (m onParent) requireRouter(n spec.Network, s spec.Subnet) error {
	if n.Internal || n.Options.L3() || s.Prefix.Addr().Is6() || s.Source != spec.SourceStatic || s.Router.IsValid() || m.isKnown(n.ID) {
		return nil
	}
	if len(s.Routers) > 0 || m.isJudged(s.Prefix) { // it may be a private one that v6net made
		return nil
	}
	return fmt.Errorf("subnet %s: this host knows no router of it on %s: name it with --gateway, so that no container gets its address", s.Prefix, n.Options.Parent)
}

func (m onParent) clash(n spec.Network) error {
	for _, other := range m.allNetworks() {
		o, with := other.Options, n.Options
		if !o.OnParent() || n.Internal || other.Internal || o.Parent != with.Parent {
			continue
		}
		id := spec.ShortID(other.ID)
		switch {
		case o.Mode != with.Mode:
			return fmt.Errorf("parent %s has the %s network %s: macvlan and ipvlan cannot share a parent (use mode=%s, or a VLAN of it)", o.Parent, o.Mode, id, o.Mode)
		case o.Mode == spec.ModeMacvlan && (o.MacvlanMode == spec.MacvlanPassthru || with.MacvlanMode == spec.MacvlanPassthru):
			return fmt.Errorf("parent %s has network %s already: with macvlan_mode=passthru one network has the parent for itself", o.Parent, id)
		case o.Mode == spec.ModeIPvlan && (o.IPvlanMode != with.IPvlanMode || o.IPvlanFlag != with.IPvlanFlag):
			return fmt.Errorf("parent %s has network %s with ipvlan_mode=%s and ipvlan_flag=%s: to the kernel these are the parent's, the same for all its networks", o.Parent, id, o.IPvlanMode, o.IPvlanFlag)
		}
	}
	return nil
}
