package engine

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// A part of a link's own prefix may be somebody else's there. So it is probed before a
// network moves into it, with all the addresses that the network would have in it: the
// containers are to have them without duplicate address detection (RFC 4862 §5.4).
type part struct {
	link   string
	of     netip.Prefix
	claim  string       // whose it would be
	asking []netip.Addr // that are, or are about to be, probed
	free   []netip.Addr // nobody has answered for them
	taken  bool         // somebody has answered
	err    error        // why the last probe failed
	at     time.Time    // of the last probe; zero: none yet
}

// isTaken reports whether somebody was found in a part not long ago.
func (e *Engine) isTaken(at netip.Prefix) bool {
	p, known := e.parts[at]
	return known && p.taken && time.Since(p.at) < probeFresh
}

// isFreePart is nil where nobody else has the part that a network would get. Where it is not
// known it is found out, and networks are looked at again then. What was found free stays so
// meanwhile: containers start during each probe of a host that is busy, and only what they
// have got is asked for in the next one.
func (e *Engine) isFreePart(f follower, a prefix.Assigned) error {
	if a.Part.Bits() <= a.Of.Prefix.Bits() {
		return fmt.Errorf("a /%d is not a part of %s, which others on %s share", a.Part.Bits(), a.Of.Prefix, a.Of.Parent)
	}
	if e.isTaken(a.Part) {
		return fmt.Errorf("a neighbour on %s has answered in %s", a.Of.Parent, a.Part)
	}
	claim, found := f.prefix().String(), 0
	for _, other := range e.parts {
		if other.taken && other.of == a.Of.Prefix && other.claim == claim {
			found++
		}
	}
	if found >= prefix.ProbeTries {
		return fmt.Errorf("neighbours on %s answered in each of %d parts of %s", a.Of.Parent, found, a.Of.Prefix)
	}
	p := e.parts[a.Part]
	if p == nil || p.taken {
		p = &part{link: a.Of.Parent, of: a.Of.Prefix, claim: claim}
		e.parts[a.Part] = p
	}
	needed := f.addressesIn(e, a.Part)
	if isSubset(needed, p.free) {
		return nil
	}
	unknown := fmt.Errorf("it is being found out whether a neighbour on %s has %s", a.Of.Parent, a.Part)
	if p.err != nil {
		unknown = fmt.Errorf("whether a neighbour on %s has %s could not be found out yet: %w", a.Of.Parent, a.Part, p.err)
		if time.Since(p.at) < maxHealWait {
			return unknown
		}
	}
	for _, addr := range append(needed, f.nextIn(e, a.Part)...) {
		if !slices.Contains(p.free, addr) && !slices.Contains(p.asking, addr) {
			p.asking = append(p.asking, addr)
		}
	}
	select {
	case e.probing <- struct{}{}:
	default: // it is about to be done
	}
	return unknown
}

// addressesIn are those that a network would have in a part, and the first ones, by which
// a part is judged that is still empty.
func (f follower) addressesIn(e *Engine, part netip.Prefix) []netip.Addr {
	s := f.network.IPv6[f.subnet]
	addrs := prefix.FirstAddrs(part)
	add := func(a netip.Addr) {
		if a.IsValid() && s.Prefix.Contains(a) {
			addrs = append(addrs, spec.Renumbered(a, part))
		}
	}
	add(s.Gateway)
	add(s.Host)
	for _, ep := range e.endpointsOf(f.network.ID) {
		add(ep.Leases()[0].Addr())
	}
	if p, ours := e.pools[s.Prefix.String()]; ours {
		for a := range p.loose { // is about to be an endpoint's
			add(a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// nextIn are the addresses that the network's next containers would have in a part.
func (f follower) nextIn(e *Engine, part netip.Prefix) (addrs []netip.Addr) {
	if p, ours := e.pools[f.prefix().String()]; ours {
		for _, c := range p.probed {
			addrs = append(addrs, spec.Renumbered(c.addr, part))
		}
	}
	return addrs
}

func isSubset(of, all []netip.Addr) bool {
	return !slices.ContainsFunc(of, func(a netip.Addr) bool { return !slices.Contains(all, a) })
}

// sharedByOthers are prefixes of a link that no network is to be given: parts in which
// somebody answered, and those from which people number by hand.
func (e *Engine) sharedByOthers(lent []spec.Delegation, claims []prefix.Claim) []netip.Prefix {
	var avoid []netip.Prefix
	for p, known := range e.parts {
		switch {
		case len(known.asking) == 0 && time.Since(known.at) >= probeFresh:
			delete(e.parts, p) // it may be otherwise by now
		case known.taken:
			avoid = append(avoid, p)
		}
	}
	for _, d := range lent {
		for _, c := range claims {
			if c.Bits > d.Prefix.Bits() {
				avoid = append(avoid, netip.PrefixFrom(d.Prefix.Addr(), c.Bits))
			}
		}
	}
	return avoid
}

// runParts probes what networks may move to. Each probe takes a second, whatever it is of.
func (e *Engine) runParts(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.probing:
			e.probeParts(ctx)
		}
	}
}

// probeParts probes all parts that wait for it, and has networks follow then.
func (e *Engine) probeParts(ctx context.Context) {
	type batch struct {
		parts map[*part][]netip.Addr
		addrs []netip.Addr
	}
	e.mu.Lock()
	waiting := map[string]*batch{}
	for _, at := range slices.SortedFunc(maps.Keys(e.parts), netip.Prefix.Compare) {
		p := e.parts[at]
		if len(p.asking) == 0 {
			continue
		}
		b := waiting[p.link]
		if b == nil {
			b = &batch{parts: map[*part][]netip.Addr{}}
			waiting[p.link] = b
		}
		b.parts[p] = slices.Clone(p.asking)
		b.addrs = append(b.addrs, p.asking...)
	}
	e.mu.Unlock()
	for _, link := range slices.Sorted(maps.Keys(waiting)) {
		b := waiting[link]
		// That a link is down, or absent, says nothing of who is there when it is up.
		taken, err := e.Host.Probe(ctx, link, b.addrs)
		if ctx.Err() != nil {
			return
		}
		e.noteProbed(ctx, b.parts, taken, err)
	}
}

// noteProbed takes in what a probe of addresses in parts has found.
func (e *Engine) noteProbed(ctx context.Context, parts map[*part][]netip.Addr, taken []netip.Addr, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for p, addrs := range parts {
		p.at, p.err = now, err
		p.asking = slices.DeleteFunc(p.asking, func(a netip.Addr) bool { return err != nil || slices.Contains(addrs, a) })
		switch at := slices.IndexFunc(addrs, func(a netip.Addr) bool { return slices.Contains(taken, a) }); {
		case err != nil:
		case at >= 0:
			p.taken, p.asking = true, nil
			e.Log.Warn("a part of a prefix is in use by somebody else on the link", "address", addrs[at], "parent", p.link)
			e.later(probeFresh, e.followAgain)
		default:
			p.free = append(p.free, addrs...)
		}
	}
	if err != nil {
		e.Log.Warn("networks are renumbered later", "err", err)
		e.later(maxHealWait, e.followAgain)
	}
	e.followSources(ctx)
}

// probeAgain has parts probed at once for which that failed, since their link came up.
func (e *Engine) probeAgain(ctx context.Context, link string) {
	failed := false
	for _, p := range e.parts {
		if p.link == link && p.err != nil {
			p.at, failed = time.Time{}, true
		}
	}
	if failed {
		e.followSources(ctx)
	}
}

// probeAnew has addresses probed ahead in the prefixes that networks use now.
func (e *Engine) probeAnew(before, now []spec.Network) {
	for i, n := range now {
		for j, s := range n.IPv6 {
			p, ours := e.pools[s.Prefix.String()]
			if !ours || !p.isShared() || s.Lent == nil || before[i].IPv6[j].Lent == nil {
				continue
			}
			was, _ := before[i].IPv6[j].Lent.Current()
			is, inUse := s.Lent.Current()
			if was.Prefix == is.Prefix {
				continue
			}
			p.forgetProbed()
			if inUse {
				e.wantRefill(p.ID)
			}
		}
	}
}
