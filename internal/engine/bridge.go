package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// bridged attaches containers by veth pairs to a bridge with the gateways'
// addresses, and this host routes between it and the parent.
type bridged struct{ *Engine }

func (m bridged) settle(ctx context.Context, n *spec.Network) error {
	if n.Options.Parent != "" {
		if _, err := m.Links.MTU(ctx, n.Options.Parent); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return spec.NoParent(n.Options.Parent)
			}
			return fmt.Errorf("parent %s: %w", n.Options.Parent, err)
		}
	}
	inUse := m.inUse()
	for _, subnets := range [][]spec.Subnet{n.IPv6, n.IPv4} {
		for i := range subnets {
			if err := m.classify(ctx, *n, &subnets[i], inUse); err != nil {
				return err
			}
		}
	}
	if n.Options.LogDenied {
		if err := m.Firewall.CanLog(ctx); err != nil {
			return fmt.Errorf("option log_denied=on: %w", err)
		}
	}
	if n.Options.Masquerade == spec.SwitchNPTv6 {
		if err := m.Firewall.CanTranslate(); err != nil {
			return fmt.Errorf("option masquerade=nptv6: %w", err)
		}
		if err := m.classifyOutside(ctx, n, inUse); err != nil {
			return err
		}
	}
	return m.checkPrefixProxied(ctx, *n)
}

// classifyOutside adds what the IPv6 subnet is outside, and who looks for it there.
func (m bridged) classifyOutside(ctx context.Context, n *spec.Network, inUse []netip.Prefix) error {
	s := &n.IPv6[0]
	if s.Lent != nil {
		return fmt.Errorf("option masquerade=nptv6: %s, which is lent on %s, may be another prefix tomorrow, and needs no translation (make the network with --ipam-opt source=ula, or --subnet)", s.Prefix, s.Lent.Link)
	}
	m.mu.Lock()
	old, again := m.networks[n.ID]
	m.mu.Unlock()
	if again && old.Options.NPTv6 == n.Options.NPTv6 && len(old.IPv6) == 1 {
		s.Outside, s.OutsideOnLink = old.IPv6[0].Outside, old.IPv6[0].OutsideOnLink
		return nil
	}
	p, err := m.origin(ctx, n.Options.NPTv6, n.Options.Parent, inUse)
	switch {
	case err != nil:
		return fmt.Errorf("option nptv6: %w", err)
	case p.Conflict != "":
		return fmt.Errorf("option nptv6: %s", p.Conflict)
	}
	s.Outside, s.OutsideOnLink = n.Options.NPTv6, p.OnLink
	return nil
}

// classify adds to a subnet where it came from. Subnets that another IPAM
// driver chose are judged here.
func (m bridged) classify(ctx context.Context, n spec.Network, s *spec.Subnet, inUse []netip.Prefix) error {
	p, err := m.origin(ctx, s.Prefix, n.Options.Parent, inUse)
	if err != nil {
		return err
	}
	if p.Conflict != "" {
		return errors.New(p.Conflict)
	}
	s.Source, s.Reason, s.OnLink, s.Parent, s.ParentNamed, s.Lent = p.Source, p.Reason, p.OnLink, p.Parent, p.ParentNamed, p.Lent
	if before, known := m.subnet(n.ID, s.Prefix); known {
		s.Lent = before.Lent // the same network again, which may have been renumbered
	}
	if s.Lent != nil && !s.Lent.IsShared() && n.Options.Parent != "" && s.Lent.Link != n.Options.Parent {
		return fmt.Errorf("subnet %s is lent on %s, not on parent %s: choose the parent for both with --ipam-opt parent=%s", s.Prefix, s.Lent.Link, n.Options.Parent, n.Options.Parent)
	}
	if s.OnLink && n.Options.Parent != "" && s.Parent != n.Options.Parent {
		return fmt.Errorf("subnet %s is on %s, not on parent %s: choose the parent for both with --ipam-opt parent=%s", s.Prefix, s.Parent, n.Options.Parent, n.Options.Parent)
	}
	if s.OnLink && p.Gateway.IsValid() && p.Gateway == s.Gateway && !m.isKnown(n.ID) && !m.isJudged(s.Prefix) {
		// Only now is it clear that the gateway is to be the bridge's own
		// address and not a router's that is there already.
		taken, err := m.probe(ctx, s.Parent, []netip.Addr{s.Gateway})
		if err == nil && len(taken) > 0 {
			err = &duplicate{"gateway " + s.Gateway.String(), s.Parent, m.usedBy(ctx, s.Gateway)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clash refuses another network's bridge before anything is begun: what is said by the bridge's
// name would be taken back from that one.
func (m bridged) clash(n spec.Network) error {
	for _, other := range m.networks {
		if other.Bridge() == n.Bridge() {
			return fmt.Errorf("bridge %s is network %s's", n.Bridge(), spec.ShortID(other.ID))
		}
	}
	return nil
}

func (m bridged) apply(ctx context.Context, n *network) error {
	n.parent = m.findParent(ctx, n)
	within := m.proxyPrefix(ctx, n)
	mtu, absent := m.findMTU(ctx, n)
	n.mtu = mtu
	m.hold(ctx, n)
	if err := m.Links.EnsureBridge(ctx, n.bridge()); err != nil {
		return err
	}
	for _, s := range n.bridgeSettings() {
		if err := m.Sysctls.Set(ctx, s.key, s.value); err != nil {
			return err
		}
	}
	return errors.Join(absent, within, n.straying())
}

func (m bridged) unapply(ctx context.Context, n *network) error {
	return m.Links.Remove(ctx, n.Bridge(), spec.NetworkAlias(n.ID))
}

// bridge is the wanted state of the network's bridge.
func (n *network) bridge() spec.Bridge {
	b := spec.Bridge{
		Name:  n.Bridge(),
		Alias: spec.NetworkAlias(n.ID),
		MTU:   n.linkMTU(),
	}
	if linkLocal := spec.LinkLocalGateway(n.ID); !n.Isolated(linkLocal.Addr()) {
		b.Addresses = append(b.Addresses, linkLocal)
	}
	for _, s := range n.PresentSubnets() {
		if !n.HasGateway(s) {
			continue
		}
		gateway := netip.PrefixFrom(s.Gateway, s.Prefix.Bits())
		if s.Lent != nil && s.Lent.Prefixes[0].Former {
			b.Former = append(b.Former, gateway)
		} else {
			b.Addresses = append(b.Addresses, gateway)
		}
	}
	return b
}

// bridgeSettings go with the bridge, so nothing puts them back. It is a
// router's interface: it takes no advertisements from containers, and its own
// addresses need no DAD. route_localnet lets the host's 127.0.0.1 be translated
// to a container; the ruleset keeps containers from using it.
func (n *network) bridgeSettings() []setting {
	settings := []setting{
		{"net/ipv6/conf/" + n.Bridge() + "/accept_ra", "0"},
		{"net/ipv6/conf/" + n.Bridge() + "/accept_dad", "0"},
	}
	if len(n.IPv4) > 0 {
		settings = append(settings, setting{"net/ipv4/conf/" + n.Bridge() + "/route_localnet", "1"})
	}
	return settings
}

// findMTU is the bridge's. An error says that the parent is away: the network
// works on this host, and in IPv4 perhaps beyond, until it comes.
func (e *Engine) findMTU(ctx context.Context, n *network) (int, error) {
	if n.Options.MTU != 0 {
		return n.Options.MTU, nil
	}
	if n.parent == "" {
		return defaultMTU, nil
	}
	return e.parentMTU(ctx, n.parent)
}

func (bridged) link(endpointID string) string { return spec.VethName(endpointID) }

func (bridged) address(_ context.Context, n *network, ep *spec.Endpoint) error {
	return n.madeAddress(ep)
}

func (m bridged) attach(ctx context.Context, n *network, ep *endpoint) error {
	mtu := n.linkMTU()
	if ep.Joined {
		// The container's end keeps the MTU that it was made with. A host's end
		// with less would drop what is larger without a Packet Too Big.
		mtu = 0
	}
	if err := m.Links.EnsureVeth(ctx, spec.Veth{
		Name:     spec.VethName(ep.ID),
		Peer:     spec.SandboxName(ep.ID),
		Alias:    spec.EndpointAlias(ep.ID),
		Bridge:   n.Bridge(),
		MAC:      ep.MAC,
		MTU:      mtu,
		Isolated: !n.Options.ICC,
		Guarded:  !n.Options.AnySource,
		Judged:   !n.Options.AnySource && m.Firewall.JudgesPorts(),
	}); err != nil {
		return err
	}
	// A port has nothing to say in IPv6, which is the bridge's, and nothing to hear: not even what
	// a bridge leaves to a port's own stack. Without it the kernel has no route for each, and all
	// of them to look at whenever a link comes or goes (fib6_clean_all in net/ipv6/ip6_fib.c).
	if err := m.Sysctls.Set(ctx, "net/ipv6/conf/"+spec.VethName(ep.ID)+"/disable_ipv6", "1"); err != nil {
		return err
	}
	ep.linkGone = false
	return nil
}

func (m bridged) detach(ctx context.Context, n *network, ep *endpoint) error {
	if err := m.Links.Remove(ctx, spec.VethName(ep.ID), spec.EndpointAlias(ep.ID)); err != nil || n.held == 0 {
		return err
	}
	before := n.linkMTU()
	if m.hold(ctx, n); n.linkMTU() != before { // the container was the last with less
		if err := m.Links.EnsureBridge(ctx, n.bridge()); err != nil {
			m.Log.Warn("bridge keeps its MTU", aboutNetwork(n.Network, "err", err)...)
		}
	}
	return nil
}

// hold finds out what the bridge's MTU must not exceed. Links of containers that run keep the
// MTU that they were made with, and what is larger than a port's the bridge drops without a
// Packet Too Big: it has to be the host that finds it too large, on its way to the bridge.
func (m bridged) hold(ctx context.Context, n *network) {
	if is, err := m.Links.MTU(ctx, n.Bridge()); err == nil && is >= n.mtu && n.held == 0 {
		return // it is not to grow
	}
	n.held = 0
	for _, ep := range m.endpointsOf(n.ID) {
		if !ep.Joined || ep.linkGone {
			continue
		}
		if mtu, err := m.Links.MTU(ctx, spec.VethName(ep.ID)); err == nil && mtu < n.mtu && (n.held == 0 || mtu < n.held) {
			n.held = mtu
		}
	}
}

// linkMTU is that of the bridge, and of the links of containers that start.
func (n *network) linkMTU() int {
	if n.held != 0 {
		return min(n.mtu, n.held)
	}
	return n.mtu
}

// attachment has a link-local IPv6 next hop, so that the default route outlives
// the prefix. With inhibit_ipv4 the IPv4 one is another router's, as with
// Docker's bridge; engines before 28 would else give the endpoint no default
// route in either family.
func (bridged) attachment(_ context.Context, n *network, ep *endpoint) spec.Attachment {
	a := spec.Attachment{Interface: spec.SandboxName(ep.ID), Prefix: n.Options.InterfacePrefix}
	if n.Internal {
		return a
	}
	if ep.IPv6.IsValid() {
		a.Gateway6 = spec.LinkLocalGateway(n.ID).Addr()
	}
	for _, s := range n.IPv4 {
		if s.Prefix.Contains(ep.IPv4.Addr()) {
			a.Gateway4 = s.Gateway
		}
	}
	return a
}

func (m bridged) linkChanged(ctx context.Context, n *network, ep *endpoint, up, deleted bool) {
	if up && !ep.announced && ep.Joined {
		m.announce(ctx, n, ep)
		m.readdressArrived(ctx, ep)
	}
	ep.announced = up && ep.Joined
	// An endpoint that is made anew at once has its link by the same name: it may be the
	// former one's end that is told of.
	ep.linkGone = deleted && ep.Joined && m.isAbsent(ctx, spec.VethName(ep.ID))
	if ep.linkGone {
		m.setProxied(ep, "")
	}
}

// announce has the host and those of the bridge's other containers that may remember an
// address's last owner told where it is now (RFC 4861 §7.2.6, RFC 5227 §3).
func (m bridged) announce(ctx context.Context, n *network, ep *endpoint) {
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil {
		return // complete has checked it
	}
	addrs := n.AddressesOf(ep.Endpoint)
	for _, addr := range addrs {
		if err := m.Links.ForgetNeighbour(ctx, n.Bridge(), addr); err != nil && ctx.Err() == nil {
			m.Log.Warn("forget neighbour", subject(ep.Endpoint, "address", addr, "err", err)...)
		}
	}
	if !n.Options.ICC {
		return
	}
	if ports := m.mayRemember(n, ep); len(ports) > 0 {
		m.announcements = append(m.announcements, announcement{endpoint: ep.Endpoint, ports: ports, addrs: addrs, mac: mac})
		m.wakeUp()
	}
}
