package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// applyFirewall puts the rules for all present networks in place, or takes ours
// away when there is no network left that they are for.
func (e *Engine) applyFirewall(ctx context.Context) (err error) {
	e.ruled, e.guarded = false, false
	defer func() { e.unapplied = err }()
	e.tellZones()
	e.hearDenied(ctx)
	if !e.hasRouted() {
		return e.Firewall.Remove(ctx)
	}
	policy, faults := e.policy().Sound()
	ruleset, err := firewall.Build(policy)
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if err := e.Firewall.Apply(ctx, ruleset); err != nil {
		return err
	}
	e.countDenied(ctx)
	open := e.unnamed(policy)
	e.noteFaults(append(faults, open...))
	e.ruled = len(faults) == 0 // or a container alone cannot tell what has been left out
	e.guarded = len(open) == 0
	return nil
}

// unnamed are the networks that no rule is about, since the firewall cannot say their
// bridges' names. A host that forwards lets everybody in there.
func (e *Engine) unnamed(policy firewall.Config) (open []firewall.Fault) {
	for _, n := range policy.Networks {
		if !e.Firewall.CanName(n.Bridge) {
			open = append(open, firewall.Fault{Network: n.ID, Err: fmt.Errorf(
				"network %s: no rule can be about its bridge: v6net does not make this host forward while it is there, and where it forwards anyway everybody gets in", spec.ShortID(n.ID))})
		}
	}
	return open
}

// tellZones says which bridges there are to whoever else filters on this host.
func (e *Engine) tellZones() {
	if e.Zones == nil {
		return
	}
	var plain, names []string
	for _, n := range e.allNetworks() {
		switch {
		case !n.isRouted() || n.Phase == spec.PhaseDeleting:
		case n.Names:
			names = append(names, n.Bridge())
		default:
			plain = append(plain, n.Bridge())
		}
	}
	e.Zones.Keep(plain, names)
}

// noteFaults takes in which networks' rules are not as they should be, and says what is new.
func (e *Engine) noteFaults(faults []firewall.Fault) {
	all := map[string][]error{}
	for _, f := range faults {
		all[f.Network] = append(all[f.Network], fmt.Errorf("firewall: %w", f.Err))
	}
	for id, n := range e.networks {
		e.noteFaultsOf(n, all[id]...)
	}
	if e.unheard != nil && e.healDue.IsZero() {
		e.planHeal()
	}
}

// noteFaultsOf is noteFaults for one network.
func (e *Engine) noteFaultsOf(n *network, faults ...error) {
	before := e.networkError(n)
	n.unruled = errors.Join(append(faults, e.unheardOf(n), e.untranslated(n))...)
	e.noteHealth(n, before)
}

// untranslated is why a network's prefix is not translated that is to be, or nil: it was
// made by another firewall's rules.
func (e *Engine) untranslated(n *network) error {
	if !n.isRouted() || n.Options.Masquerade != spec.SwitchNPTv6 {
		return nil
	}
	if err := e.Firewall.CanTranslate(); err != nil {
		return fmt.Errorf("option masquerade=nptv6: the network is cut off from outside: %w", err)
	}
	return nil
}

// applyContainer turns the rules for one endpoint from what they were into what
// they are to be, at no cost for the others; nil is an endpoint that is not there.
// Where the rest of the ruleset may not be in place, all of it is put there.
func (e *Engine) applyContainer(ctx context.Context, before, after *endpoint) error {
	subject := cmp.Or(after, before)
	n, known := e.networks[subject.NetworkID]
	beside := e.besides(subject.ID, before, after)
	if known && !n.isRouted() && len(beside) == 0 {
		return nil // there are none
	}
	if !known || !e.ruled {
		return e.applyFirewall(ctx)
	}
	changes, err := n.changes(e.member(before, subject.ID, before), e.member(after, subject.ID, after))
	for _, other := range beside {
		if err != nil {
			break
		}
		var more []firewall.Change
		more, err = e.networks[other.NetworkID].changes(e.member(other, subject.ID, before), e.member(other, subject.ID, after))
		changes = append(changes, more...)
	}
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	return e.Firewall.Update(ctx, changes)
}

// changes turn the rules for one member of the network into others.
func (n *network) changes(before, after member) ([]firewall.Change, error) {
	if !n.isRouted() {
		return nil, nil
	}
	return n.policy(after).Since(n.policy(before))
}

// member is an endpoint as the rules of its network know it; nil: one that is not there.
type member struct {
	*endpoint
	elsewhere []netip.Addr // what its container has on other networks
}

// members are the endpoints as they are now.
func (e *Engine) members(endpoints []*endpoint) []member {
	all := make([]member, len(endpoints))
	for i, ep := range endpoints {
		all[i] = e.member(ep, ep.ID, ep)
	}
	return all
}

// member is an endpoint while another one, or it itself, is as given; nil: that is not
// there. Addresses of internal networks are left out: nobody asks for them by another
// network, and they must not leave this host.
func (e *Engine) member(ep *endpoint, id string, given *endpoint) member {
	m := member{endpoint: ep}
	if ep == nil || ep.Sandbox == "" {
		return m
	}
	others := e.bySandbox[ep.Sandbox]
	for _, other := range sortedIDs(others) {
		if o := others[other]; other != id && other != ep.ID && o.Phase != spec.PhaseDeleting {
			m.elsewhere = append(m.elsewhere, e.outwardOf(o)...)
		}
	}
	if given != nil && id != ep.ID && given.Sandbox == ep.Sandbox {
		m.elsewhere = append(m.elsewhere, e.outwardOf(given)...)
	}
	return m
}

func (e *Engine) outwardOf(ep *endpoint) []netip.Addr {
	if n, known := e.networks[ep.NetworkID]; known && !n.Internal {
		return n.AddressesOf(ep.Endpoint)
	}
	return nil
}

// besides are the other endpoints in the sandboxes that one is or was in, as far as rules
// are about them.
func (e *Engine) besides(id string, states ...*endpoint) []*endpoint {
	found := map[string]*endpoint{}
	for _, s := range states {
		if s == nil || s.Sandbox == "" {
			continue
		}
		for other, ep := range e.bySandbox[s.Sandbox] {
			if n, known := e.networks[ep.NetworkID]; known && n.isRouted() && other != id && ep.Phase != spec.PhaseDeleting {
				found[other] = ep
			}
		}
	}
	var all []*endpoint
	for _, other := range sortedIDs(found) {
		all = append(all, found[other])
	}
	return all
}

// policy is what the firewall needs to know, in a stable order.
func (e *Engine) policy() firewall.Config {
	c := e.policyOf(e.allNetworks(), func(n *network) []member { return e.members(living(e.endpointsOf(n.ID))) })
	keepToOwners(c.Networks)
	return c
}

// policyOf is the policy of networks with those members on them.
func (e *Engine) policyOf(networks []*network, members func(*network) []member) firewall.Config {
	c := firewall.Config{Networks: make([]firewall.Network, 0, len(networks)+1), Parents: e.outward(networks), LogGroup: e.LogGroup}
	for _, n := range networks {
		if n.isRouted() { // else its packets pass the host's rules by
			c.Networks = append(c.Networks, n.policy(members(n)...))
		}
	}
	return c
}

// outward are the links by which packets of networks leave.
func (e *Engine) outward(networks []*network) []string {
	links := map[string]bool{}
	for _, n := range networks {
		if !n.isRouted() {
			continue
		}
		if n.parent != "" {
			links[n.parent] = true
		}
		if !n.Internal {
			for _, link := range slices.Concat(e.defaultLinks, e.uplinks) {
				links[link] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(links))
}

// keepToOwners forbids containers to send from what they hold of a prefix that another
// network has now: it was lent anew before it could be taken from them.
func keepToOwners(networks []firewall.Network) {
	within := func(n firewall.Network, a netip.Addr) bool {
		return slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	for _, n := range networks {
		for i, c := range n.Containers {
			n.Containers[i].Addresses = slices.DeleteFunc(c.Addresses, func(a netip.Addr) bool {
				return !within(n, a) && slices.ContainsFunc(networks, func(other firewall.Network) bool { return within(other, a) })
			})
		}
	}
}

// living are the endpoints that are not being deleted.
func living(endpoints []*endpoint) []*endpoint {
	return slices.DeleteFunc(endpoints, func(ep *endpoint) bool { return ep.Phase == spec.PhaseDeleting })
}

// policy is the network with those endpoints on it.
func (n *network) policy(members ...member) firewall.Network {
	f := firewall.Network{
		ID:       n.ID,
		Bridge:   n.Bridge(),
		Internal: n.Internal,
		Isolate:  n.Options.Isolate,
		ICC:      n.Options.ICC,
		Inbound:  n.Options.Inbound,

		AnySource: n.Options.AnySource,
		Log:       n.teller != nil,

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
	f.Asked = n.Names
	if n.FrontEnd != "" { // Docker's engine has its name server in the container
		for _, s := range n.PresentSubnets() { // it listens on former ones too, until the next container comes
			if n.HasGateway(s) {
				f.Resolvers = append(f.Resolvers, s.Gateway)
			}
		}
	}
	for _, m := range members {
		ep := m.endpoint
		if ep == nil {
			continue
		}
		f.Live = append(f.Live, n.AddressesOf(ep.Endpoint)...)
		f.Published = append(f.Published, n.published(ep)...)
		f.Containers = append(f.Containers, firewall.Container{Name: whose(ep), Port: spec.VethName(ep.ID), MAC: ep.MAC, Addresses: n.sendsFrom(ep), Elsewhere: m.elsewhere})
	}
	return f
}

// sendsFrom are the addresses that a container may send from: its own, and others that
// its link has yet, or is about to be given.
func (n *network) sendsFrom(ep *endpoint) []netip.Addr {
	addrs := n.AddressesOf(ep.Endpoint)
	for _, h := range ep.Holding() {
		if a := h.Prefix.Addr(); a.IsValid() && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
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
	if err := call.Validate(); err != nil {
		return spec.Judgement{}, err
	}
	local, err := e.Host.Addresses(ctx)
	if err != nil {
		return spec.Judgement{}, err
	}
	e.mu.Lock()
	policy, faults := e.policy().Sound()
	if j, judged := e.explainWithoutRules(call, faults); judged {
		e.mu.Unlock()
		return j, nil
	}
	missing := e.missingRules(ctx)
	e.mu.Unlock()
	if err := e.Firewall.CanTranslate(); err != nil {
		if n := policy.Translated(call); n != nil {
			return spec.Judgement{Verdict: spec.Dropped, Steps: []string{},
				Why: fmt.Sprintf("network %s (%s) is cut off from outside: %v", spec.ShortID(n.ID), n.Bridge, err)}, nil
		}
	}
	around := firewall.Host{Addresses: local, Ways: map[netip.Addr]spec.Way{}, UnjudgedPorts: !e.Firewall.JudgesPorts()}
	around.UnjudgedSenders = around.UnjudgedPorts && e.Firewall.Backend() == "nftables" // without its family for bridges
	for key, shown := range map[string]*bool{"iptables": &around.ShownFrames4, "ip6tables": &around.ShownFrames6} {
		if *shown, err = e.showsFrames(ctx, key); err != nil {
			return spec.Judgement{}, err
		}
	}
	for _, end := range []netip.Addr{call.From, call.To} {
		way, err := e.Host.Way(ctx, end)
		if err != nil {
			return spec.Judgement{}, err
		}
		if way.Link != "" {
			around.Ways[end] = way
		}
	}
	j, err := policy.Explain(call, around)
	if j.Rule != "" {
		j.Table, j.Chain = e.Firewall.Place(j.Table, j.Chain, call.To.Is6())
	}
	if missing != nil {
		j.Warning = fmt.Sprintf("the rules are not in place, and what follows does not hold until they are: %v", missing)
	}
	return j, err
}

// explainWithoutRules judges a call of a network that the rules say nothing about: it is
// none of a bridge's, or closed.
func (e *Engine) explainWithoutRules(call spec.Call, faults []firewall.Fault) (j spec.Judgement, judged bool) {
	on := func(n *network, a netip.Addr) bool {
		return slices.ContainsFunc(n.PresentSubnets(), func(s spec.Subnet) bool { return s.Prefix.Contains(a) })
	}
	j.Steps = []string{}
	for _, n := range e.networks {
		if !n.isRouted() && (on(n, call.From) || on(n, call.To)) {
			j.Verdict = spec.Unjudged
			j.Why = fmt.Sprintf("network %s has mode=%s, whose packets pass this host's firewall by", spec.ShortID(n.ID), n.Options.Mode)
			return j, true
		}
	}
	for _, f := range faults {
		n := e.networks[f.Network]
		switch {
		case !f.Closed || !on(n, call.From) && !on(n, call.To):
		case on(n, call.From) && on(n, call.To):
			j.Verdict = spec.Unjudged
			j.Why = fmt.Sprintf("network %s (%s) is closed, and what stays on its bridge is not judged: %v", spec.ShortID(n.ID), n.Bridge(), f.Err)
			return j, true
		default:
			j.Verdict = spec.Dropped
			j.Why = fmt.Sprintf("network %s (%s) is closed, so that nothing leaves its bridge or gets there: %v", spec.ShortID(n.ID), n.Bridge(), f.Err)
			return j, true
		}
	}
	return j, false
}

// showsFrames reports whether br_netfilter, where it is loaded, shows what bridges forward
// to iptables or ip6tables, and so to nftables.
func (e *Engine) showsFrames(ctx context.Context, program string) (bool, error) {
	value, err := e.Sysctls.Get(ctx, "net/bridge/bridge-nf-call-"+program)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && value != "0", err
}

// missingRules says why the rules that are wanted are not in place; nil: they are.
func (e *Engine) missingRules(ctx context.Context) error {
	switch {
	case e.unapplied != nil:
		return e.unapplied
	case e.Inspector == nil || !e.hasRouted():
		return nil
	}
	return e.Inspector.Missing(ctx)
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
