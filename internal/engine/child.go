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
			return fmt.Errorf("parent %s does not exist", parent)
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

// avoidOthers keeps from containers what the parent's routers have of a pool,
// and what this host itself has of it in IPv4: in IPv6 duplicate address
// detection finds that, too.
func (e *Engine) avoidOthers(ctx context.Context, p *pool, parent string, known []netip.Addr) error {
	n := e.networkUsing(p.Prefix)
	avoid := func(a netip.Addr, who string) {
		if p.Lent != nil && n != nil {
			a = n.HomeOf(a)
		}
		if p.Prefix.Contains(a) && p.addrs.Reserve(a) == nil {
			p.others[a] = who
		}
	}
	if parent != "" {
		for _, router := range append(e.routers(ctx, parent), known...) {
			avoid(router, "that of a router on "+parent)
		}
	}
	if p.Prefix.Addr().Is6() {
		return nil
	}
	taken, err := e.Host.Taken(ctx, false)
	if err != nil {
		return fmt.Errorf("pool %s: addresses of this host: %w", p.ID, err)
	}
	for _, t := range taken {
		if t.IsSingleIP() {
			avoid(t.Addr(), "this host's own")
		}
	}
	return nil
}

// avoidAllOthers is avoidOthers for the pools of all networks on a parent.
func (e *Engine) avoidAllOthers(ctx context.Context) {
	for _, n := range e.allNetworks() {
		if n.isRouted() {
			continue
		}
		for _, s := range n.Subnets() {
			if p, ours := e.pools[s.Prefix.String()]; ours {
				if err := e.avoidOthers(ctx, p, n.upstream(), s.Routers); err != nil {
					e.Log.Error("addresses that containers must not have", aboutNetwork(n.Network, "err", err)...)
				}
			}
		}
	}
}

// upstream is the link on which the network's routers are; empty: it has none.
func (n *network) upstream() string {
	if n.Internal {
		return ""
	}
	return n.parent
}

// subnet is a subnet of a network that is there already.
func (e *Engine) subnet(networkID string, p netip.Prefix) (s spec.Subnet, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n, ok := e.networks[networkID]; ok {
		for _, s := range n.Subnets() {
			if s.Prefix == p {
				return s, true
			}
		}
	}
	return spec.Subnet{}, false
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
	return m.applyShim(ctx, n)
}

// applyParent makes the parent that is ours to make: the cable of an internal
// network, or a VLAN sub-interface. The host itself is not to take a place on
// that VLAN: it takes no advertisements there.
func (m onParent) applyParent(ctx context.Context, n *network) error {
	if n.Internal {
		return m.Links.EnsurePair(ctx, n.ID, n.mtu)
	}
	return m.ensureVLAN(ctx, n.parent)
}

// ensureVLAN makes a parent that is a VLAN sub-interface, if it is not there.
func (e *Engine) ensureVLAN(ctx context.Context, parent string) error {
	if _, _, isVLAN := spec.ParseVLAN(parent); !isVLAN {
		return nil
	}
	ours, err := e.Links.EnsureVLAN(ctx, parent, false)
	if err != nil || !ours {
		return err
	}
	if err := e.Sysctls.Set(ctx, "net/ipv6/conf/"+parent+"/accept_ra", "0"); err != nil {
		return err
	}
	_, err = e.Links.EnsureVLAN(ctx, parent, true)
	return err
}

// isBase reports whether a network's parent is a VLAN sub-interface of the link,
// which has its MTU.
func (n *network) isBase(link string) bool {
	base, _, isVLAN := spec.ParseVLAN(n.parent)
	return isVLAN && !n.isRouted() && base == link
}

// removeVLAN is the way back, unless a network is on it.
func (e *Engine) removeVLAN(ctx context.Context, parent string) error {
	if _, _, isVLAN := spec.ParseVLAN(parent); !isVLAN || e.isParent(parent) {
		return nil
	}
	return e.Links.Remove(ctx, parent, spec.VLANAlias(parent))
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

// isParent reports whether a network is bound to the link, whatever its mode.
func (e *Engine) isParent(link string) bool {
	for _, n := range e.networks {
		if n.namedParent() == link {
			return true
		}
	}
	return false
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

// isHere reports whether an endpoint's link is in the host's namespace.
func (e *Engine) isHere(ctx context.Context, ep *endpoint) (bool, error) {
	facts, err := e.Links.Parent(ctx, spec.SandboxName(ep.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return facts.Alias == spec.EndpointAlias(ep.ID), err
}

// isElsewhere reports whether an endpoint's link is in a container. It is while
// the endpoint is joined, and for a moment afterwards: the container engine has
// us leave before it takes the link back.
func (e *Engine) isElsewhere(ctx context.Context, ep *endpoint) (bool, error) {
	if ep.Joined || ep.Phase == spec.PhaseCreating {
		return ep.Joined, nil
	}
	if here, err := e.isHere(ctx, ep); err != nil || here {
		return false, err
	}
	links, err := e.Links.Elsewhere(ctx)
	return slices.ContainsFunc(links, func(l spec.OwnedLink) bool { return l.Alias == spec.EndpointAlias(ep.ID) }), err
}

// loseLinks takes in that a parent was deleted, with the links on it: running
// containers have none any more. Where it was moved to another namespace they
// have theirs still.
func (e *Engine) loseLinks(ctx context.Context, parent string) {
	lost := func(ep *endpoint, elsewhere func(*endpoint) bool) bool {
		if !ep.Joined || ep.linkGone || elsewhere(ep) {
			return false
		}
		here, err := e.isHere(ctx, ep)
		return err == nil && !here
	}
	var elsewhere func(*endpoint) bool
	for _, n := range e.allNetworks() {
		if n.isRouted() || n.parent != parent {
			continue
		}
		if elsewhere == nil {
			elsewhere = e.linksElsewhere(ctx)
		}
		for _, ep := range e.endpointsOf(n.ID) {
			if lost(ep, elsewhere) {
				ep.linkGone, ep.announced = true, false
				e.setProxied(ep, "")
			}
		}
	}
}

// linksElsewhere reports which endpoints have their links in the namespaces of
// containers. Where that cannot be found out they are taken to be there.
func (e *Engine) linksElsewhere(ctx context.Context) func(*endpoint) bool {
	if !slices.ContainsFunc(e.allNetworks(), func(n *network) bool { return !n.isRouted() }) {
		return func(*endpoint) bool { return false }
	}
	links, err := e.Links.Elsewhere(ctx)
	if err != nil {
		e.Log.Warn("links of containers", "err", err)
	}
	there := map[string]bool{}
	for _, l := range links {
		there[l.Alias] = true
	}
	return func(ep *endpoint) bool {
		n, known := e.networks[ep.NetworkID]
		return known && !n.isRouted() && (err != nil || there[spec.EndpointAlias(ep.ID)])
	}
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

// routers are the upstream routers of a parent: the next hops of this host's own
// default routes there, and those that advertise themselves. No parent has none.
func (e *Engine) routers(ctx context.Context, parent string) spec.HostRouters {
	if parent == "" {
		return nil
	}
	routers, err := e.Host.Routers(ctx, parent)
	if err != nil {
		e.Log.Warn("routers of the parent", "parent", parent, "err", err)
	}
	return append(routers, e.advertisers(parent)...)
}

// advertisers are the routers that advertise themselves on a link.
func (e *Engine) advertisers(link string) []netip.Addr {
	var routers []netip.Addr
	for _, a := range e.Advertisers.Status() {
		if a.Link != link {
			continue
		}
		for _, heard := range a.Routers {
			if heard.RouterLifetime > 0 {
				routers = append(routers, heard.Source)
			}
		}
	}
	return routers
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

// parentChanged announces what is on a parent that came up: the link may have
// forgotten it, or be another than before.
func (e *Engine) parentChanged(ctx context.Context, name string, up bool) {
	was, known := e.parentUp[name]
	if !known {
		return
	}
	e.parentUp[name] = up
	if !up || was {
		return
	}
	for _, n := range e.allNetworks() {
		if n.isRouted() || n.parent != name {
			continue
		}
		for _, ep := range e.endpointsOf(n.ID) {
			if ep.Joined && !ep.linkGone {
				e.announce(ctx, ep)
			}
		}
	}
}
