package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// mostFormer is how many prefixes that are not in use any more a subnet has, whoever lends
// another each minute: each is an address of every container, a gateway, rules and routes.
const mostFormer = 8

// lentPrefixes are those that a subnet has now of what its source lends.
func lentPrefixes(s *spec.Subnet) []netip.Prefix {
	if s.Lent == nil {
		return nil
	}
	var prefixes []netip.Prefix
	for _, p := range s.Lent.Prefixes {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixes
}

// isShared reports whether others are on a link with the pool's containers who may
// have its addresses. What is lent to this host alone is nobody else's, on a link or not.
func (p *pool) isShared() bool { return p.OnLink && (p.Lent == nil || p.Lent.IsShared()) }

// isShared is pool.isShared where the lock is not held.
func (e *Engine) isShared(p *pool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return p.isShared()
}

// home is an address by the pool's own prefix, that of its leases.
func (e *Engine) home(p *pool, addr netip.Addr) netip.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.Lent == nil {
		return addr
	}
	if n := e.networkUsing(p.Prefix); n != nil {
		return n.HomeOf(addr)
	}
	return addr
}

// inCurrent is a leased address by the prefix that the pool's network uses now. A
// container engine takes it as it is: which pool it is of, it knows already (moby
// libnetwork/endpoint.go, assignAddressVersion). Where the network has none now it
// is the lease itself, and the container gets the others when there are any.
func (e *Engine) inCurrent(p *pool, addr netip.Addr) netip.Addr {
	if now := e.currentOf(p); now != p.Prefix {
		return spec.Renumbered(addr, now)
	}
	return addr
}

// currentOf is the prefix that a pool's network uses now; the pool's own while it has none.
func (e *Engine) currentOf(p *pool) netip.Prefix {
	if p.Lent == nil {
		return p.Prefix
	}
	n := e.networkUsing(p.Prefix)
	if n == nil {
		return p.Prefix
	}
	for _, s := range n.IPv6 {
		if s.Lent == nil || s.Prefix != p.Prefix {
			continue
		}
		if now, inUse := s.Lent.Current(); inUse {
			return now.Prefix
		}
	}
	return p.Prefix
}

// current is currentOf where the lock is not held.
func (e *Engine) current(p *pool) netip.Prefix {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.currentOf(p)
}

// addressesOf are an endpoint's addresses now.
func (e *Engine) addressesOf(ep *endpoint) []netip.Addr {
	if n, known := e.networks[ep.NetworkID]; known {
		return n.AddressesOf(ep.Endpoint)
	}
	return ep.Addresses()
}

// sendsFrom are those that an endpoint may have connections from: addressesOf, and what its
// container holds yet.
func (e *Engine) sendsFrom(ep *endpoint) []netip.Addr {
	if n, known := e.networks[ep.NetworkID]; known {
		return n.sendsFrom(ep)
	}
	return ep.Addresses()
}

// follower is a subnet or an unused pool that follows a source.
type follower struct {
	network *network // nil: an unused pool
	subnet  int      // the number of the network's subnet
	pool    *pool    // where network is nil
}

func (f follower) lent() *spec.Lent {
	if f.network == nil {
		return f.pool.Lent
	}
	return f.network.IPv6[f.subnet].Lent
}

func (f follower) prefix() netip.Prefix {
	if f.network == nil {
		return f.pool.Prefix
	}
	return f.network.IPv6[f.subnet].Prefix
}

// followers are all, by their source.
func (e *Engine) followers() map[spec.SourceOnLink][]follower {
	all := map[spec.SourceOnLink][]follower{}
	add := func(f follower) {
		if l := f.lent(); l != nil {
			all[l.SourceOnLink] = append(all[l.SourceOnLink], f)
		}
	}
	for _, n := range e.allNetworks() {
		for i := range n.IPv6 {
			add(follower{network: n, subnet: i})
		}
	}
	for _, id := range sortedIDs(e.pools) {
		if p := e.pools[id]; p.Lent != nil && e.networkUsing(p.Prefix) == nil {
			add(follower{pool: p})
		}
	}
	return all
}

// lentBy is what a source lends now: as it has said, or, while it has not said
// anything since the daemon's start, as it is in the records.
func (e *Engine) lentBy(source spec.SourceOnLink, followers []follower) []spec.Delegation {
	if lent, said := e.lent[source]; said {
		return lent
	}
	var lent []spec.Delegation
	seen := map[netip.Prefix]bool{}
	for _, f := range followers {
		for _, p := range f.lent().Prefixes {
			if p.Former || !p.Of.IsValid() || seen[p.Of] {
				continue
			}
			seen[p.Of] = true
			lent = append(lent, spec.Delegation{Source: source.Source, Parent: source.Link, Prefix: p.Of,
				Preferred: p.Preferred, Valid: p.Valid, OnLink: p.OnLink, Origin: p.Origin})
		}
	}
	return lent
}

// claim is a follower's on what its source lends; usable is what can be given, the
// best first. A unique local prefix holds nobody where another is to be had, nor does a part
// that a neighbour has by now.
func (f follower) claim(e *Engine, usable []spec.Delegation) prefix.Claim {
	l := f.lent()
	c := prefix.Claim{Key: f.prefix().String(), Bits: f.prefix().Bits(), Index: l.Index, Own: []netip.Prefix{f.prefix()}}
	for _, p := range l.Prefixes {
		c.Own = append(c.Own, p.Prefix)
		if d, there := delegation(usable, p.Of); there && !c.Has.IsValid() && spec.IsULA(d.Prefix) == spec.IsULA(usable[0].Prefix) && !e.isTaken(p.Prefix) {
			c.Has = p.Prefix
		}
	}
	return c
}

// inUseYet is what a follower uses now, if it is lent and valid yet.
func (f follower) inUseYet(lent []spec.Delegation, now time.Time) *prefix.Assigned {
	l := f.lent()
	is, inUse := l.Current()
	if !inUse {
		return nil
	}
	d, still := delegation(lent, is.Of)
	if !still || !d.Valid.IsZero() && !now.Before(d.Valid) {
		return nil
	}
	return &prefix.Assigned{Part: is.Prefix, Of: d, Index: l.Index}
}

func delegation(lent []spec.Delegation, of netip.Prefix) (spec.Delegation, bool) {
	for _, d := range lent {
		if of.IsValid() && d.Prefix.Masked() == of {
			return d, true
		}
	}
	return spec.Delegation{}, false
}

// followed is what becomes of a follower's prefixes when its source lends this, and
// it has got that part of it; nil: none. What it does not use any more is kept for
// the connections that are there, and for no longer than it is lent: the youngest ones. What was on the
// link, and is not lent as the source has said, may be another host's at once: it is
// not answered for any more (RFC 4861 §7.2.8), so that its connections are over. Of a prefix
// that all on the link share this does not hold: what was probed there is nobody else's.
func followed(l spec.Lent, got *prefix.Assigned, lent []spec.Delegation, said bool, now time.Time) spec.Lent {
	before := l.Prefixes
	l.Prefixes = nil
	switch {
	case got != nil:
		l.Index = got.Index
		l.Prefixes = append(l.Prefixes, prefix.LentPart(got.Part, got.Of))
	case l.Fallback == spec.FallbackULA && l.ULA.IsValid():
		l.Prefixes = append(l.Prefixes, spec.LentPrefix{Prefix: l.ULA, Origin: "unique local prefix, made while nothing is lent"})
	}
	former := 0
	for _, p := range before {
		if len(l.Prefixes) > 0 && p.Prefix == l.Prefixes[0].Prefix {
			continue
		}
		if d, still := delegation(lent, p.Of); still {
			p.Valid, p.OnLink = d.Valid, d.OnLink
		} else if p.OnLink && said && !l.IsShared() {
			continue
		} else if limit := spec.WholeSeconds(now.Add(spec.WithdrawnTime)); p.Valid.IsZero() || p.Valid.After(limit) {
			p.Valid = limit
		}
		p.Former, p.Preferred = true, time.Time{}
		if former < mostFormer && (p.Valid.IsZero() || now.Before(p.Valid)) {
			l.Prefixes = append(l.Prefixes, p)
			former++
		}
	}
	return l
}

// noteParts takes in why a subnet has no part of what its source lends; nil: it has one.
func (n *network) noteParts(subnet netip.Prefix, err error) {
	if n.partless == nil {
		n.partless = map[netip.Prefix]error{}
	}
	n.partless[subnet] = err
}

// lostWords say that subnets have no prefix of their sources', for people.
func (n *network) lostWords() string {
	for _, s := range n.IPv6 {
		if s.Lent == nil {
			continue
		}
		now, inUse := s.Lent.Current()
		if inUse && now.Of.IsValid() {
			if err := n.partless[s.Prefix]; err != nil {
				return fmt.Sprintf("the network keeps %s for now, though source %s lends another prefix on %s: %v", now.Prefix, s.Lent.Source, s.Lent.Link, err)
			}
			continue
		}
		why := fmt.Sprintf("source %s lends no prefix on %s now", s.Lent.Source, s.Lent.Link)
		if err := n.partless[s.Prefix]; err != nil && !errors.Is(err, prefix.ErrNothingLent) {
			why = fmt.Sprintf("of what source %s lends on %s there is nothing left for the network: %v", s.Lent.Source, s.Lent.Link, err)
		}
		if inUse {
			return fmt.Sprintf("%s; until there is one the network has %s", why, now.Prefix)
		}
		return why + ", and the network has no fallback: containers do not reach others by IPv6 until there is one"
	}
	return ""
}
