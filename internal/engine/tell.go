package engine

import (
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// putLease and dropLease write that an address is given away, or free again, into the
// journal, and say so to who watches.
func (e *Engine) putLease(p *pool, addr netip.Addr) error {
	if err := e.Journal.PutLease(p.ID, addr); err != nil {
		return err
	}
	e.tellLease("taken", p, addr)
	return nil
}

func (e *Engine) dropLease(p *pool, addr netip.Addr) error {
	if err := e.Journal.DeleteLease(p.ID, addr); err != nil {
		return err
	}
	e.tellLease("released", p, addr)
	return nil
}

func (e *Engine) tellLease(what string, p *pool, addr netip.Addr) {
	if !e.Events.Wanted(spec.EventLease) {
		return
	}
	ev := spec.Event{Type: spec.EventLease, What: what, Address: addr, Prefix: p.Prefix}
	if n := e.networkUsing(p.Prefix); n != nil {
		ev.Network, ev.NetworkName = n.ID, n.Name
	}
	if ep, ok := e.byAddr[addr]; ok {
		ev.Endpoint, ev.Container = ep.ID, ep.Name
	}
	e.Events.Publish(ev)
}

// tellPool says that a pool is taken or released, and of which source.
func (e *Engine) tellPool(what string, p spec.Pool) {
	if e.Events.Wanted(spec.EventPool) {
		e.Events.Publish(spec.Event{Type: spec.EventPool, What: what, Reason: string(p.Source), Prefix: p.Prefix, Link: p.Parent, Detail: p.Reason})
	}
}

// tellNetwork says what has become of a network.
func (e *Engine) tellNetwork(what string, n spec.Network, reason string) {
	if e.Events.Wanted(spec.EventNetwork) {
		e.Events.Publish(spec.Event{Type: spec.EventNetwork, What: what, Reason: reason, Network: n.ID, NetworkName: n.Name, Link: n.Bridge()})
	}
}

// tellEndpoint says that a container has come or gone, once for each of its addresses.
func (e *Engine) tellEndpoint(what string, ep *endpoint) {
	if !e.Events.Wanted(spec.EventEndpoint) {
		return
	}
	ev := spec.Event{Type: spec.EventEndpoint, What: what, Network: ep.NetworkID, Endpoint: ep.ID, Container: ep.Name}
	if n, known := e.networks[ep.NetworkID]; known {
		ev.NetworkName = n.Name
	}
	for _, a := range e.addressesOf(ep) {
		ev.Address = a
		e.Events.Publish(ev)
	}
}

// tellDelegations says what has changed of what a source lends.
func (e *Engine) tellDelegations(at spec.SourceOnLink, before, now []spec.Delegation) {
	if !e.Events.Wanted(spec.EventPrefix) {
		return
	}
	tell := func(what string, d spec.Delegation) {
		ev := spec.Event{Type: spec.EventPrefix, What: what, Reason: string(at.Source), Link: at.Link, Prefix: d.Prefix, Detail: d.Origin}
		if !d.Valid.IsZero() {
			ev.Until = d.Valid.Add(e.Clock.Ahead())
		}
		e.Events.Publish(ev)
	}
	find := func(all []spec.Delegation, p netip.Prefix) (spec.Delegation, bool) {
		i := slices.IndexFunc(all, func(d spec.Delegation) bool { return d.Prefix == p })
		if i < 0 {
			return spec.Delegation{}, false
		}
		return all[i], true
	}
	passed := func(t time.Time) bool { return !t.IsZero() && !t.After(e.Clock.Now()) }
	for _, d := range now {
		was, known := find(before, d.Prefix)
		switch {
		case !known:
			tell("gained", d)
		case passed(d.Preferred) && !was.Preferred.Equal(d.Preferred):
			tell("deprecated", d)
		case was != d:
			tell("changed", d)
		}
	}
	for _, d := range before {
		if _, still := find(now, d.Prefix); !still {
			tell("lost", d)
		}
	}
}

// tellRenumbered says what becomes of each prefix of a network that follows a source.
func (e *Engine) tellRenumbered(from, to spec.Network) {
	if !e.Events.Wanted(spec.EventRenumber) {
		return
	}
	lent := func(n spec.Network) (all []spec.LentPrefix) {
		for _, s := range n.IPv6 {
			if s.Lent != nil {
				all = append(all, s.Lent.Prefixes...)
			}
		}
		return all
	}
	tell := func(what string, p spec.LentPrefix) {
		ev := spec.Event{Type: spec.EventRenumber, What: what, Network: to.ID, NetworkName: to.Name, Link: to.Bridge(), Prefix: p.Prefix, Detail: p.Origin}
		if !p.Valid.IsZero() {
			ev.Until = p.Valid.Add(e.Clock.Ahead())
		}
		e.Events.Publish(ev)
	}
	before, now := lent(from), lent(to)
	for _, p := range now {
		i := slices.IndexFunc(before, func(b spec.LentPrefix) bool { return b.Prefix == p.Prefix })
		switch {
		case i < 0:
			tell("added", p)
		case p.Former && !before[i].Former:
			tell("deprecated", p)
		case !p.Former && before[i].Former:
			tell("restored", p)
		}
	}
	for _, p := range before {
		if !slices.ContainsFunc(now, func(n spec.LentPrefix) bool { return n.Prefix == p.Prefix }) {
			tell("removed", p)
		}
	}
}

// Describe adds to events what the engine knows of what they are about: whose address
// it is, and which network's link. It is for who watches, and costs who reports nothing.
func (e *Engine) Describe(events []spec.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var byLink map[string]*network
	for i := range events {
		ev := &events[i]
		if ev.Endpoint == "" && ev.Network == "" {
			for _, a := range []netip.Addr{ev.Address, ev.Destination, ev.Source} {
				if ep := e.whose(a); ep != nil {
					ev.Network, ev.Endpoint, ev.Container = ep.NetworkID, ep.ID, ep.Name
					break
				}
			}
		}
		if ev.Endpoint != "" && ev.Container == "" {
			if ep, known := e.endpoints[ev.Endpoint]; known {
				ev.Container = ep.Name
			}
		}
		if ev.Network == "" && ev.Link != "" {
			if byLink == nil {
				byLink = map[string]*network{}
				for _, n := range e.networks {
					if b := n.Bridge(); b != "" {
						byLink[b] = n
					}
				}
			}
			if n := byLink[ev.Link]; n != nil {
				ev.Network = n.ID
			}
		}
		if n, known := e.networks[ev.Network]; known && ev.NetworkName == "" {
			ev.NetworkName = n.Name
		}
	}
}

// whose is the endpoint that has an address now, by whichever of its prefixes; nil: none.
func (e *Engine) whose(a netip.Addr) *endpoint {
	if !a.IsValid() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return nil
	}
	if ep, ok := e.byAddr[a]; ok {
		return ep
	}
	for _, n := range e.networks {
		if home := n.HomeOf(a); home != a {
			return e.byAddr[home]
		}
	}
	return nil
}
