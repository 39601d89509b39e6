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
	addrs  []netip.Addr // that are, or were, probed
	probed time.Time    // zero: not yet
	taken  bool         // somebody answered
}

// isFreePart reports whether nobody else has the part that a network would get. Where it is
// not known it is found out, and networks are looked at again then. The error says that
// others were found in so many parts that no more are tried for a while.
func (e *Engine) isFreePart(f follower, a prefix.Assigned) (bool, error) {
	if a.Part.Bits() <= a.Of.Prefix.Bits() {
		return false, fmt.Errorf("a /%d is not a part of %s, which others on %s share", a.Part.Bits(), a.Of.Prefix, a.Of.Parent)
	}
	needed := f.addressesIn(e, a.Part)
	p, known := e.parts[a.Part]
	switch {
	case known && !p.probed.IsZero() && !p.taken && isSubset(needed, p.addrs):
		return true, nil
	case known && p.probed.IsZero() && isSubset(needed, p.addrs):
		return false, nil // about to be known
	}
	found := 0
	for _, other := range e.parts {
		if other.taken && other.of == a.Of.Prefix {
			found++
		}
	}
	if found >= prefix.ProbeTries {
		return false, fmt.Errorf("neighbours on %s answered in each of %d parts of %s", a.Of.Parent, found, a.Of.Prefix)
	}
	e.parts[a.Part] = &part{link: a.Of.Parent, of: a.Of.Prefix, addrs: needed}
	select {
	case e.probing <- struct{}{}:
	default: // it is about to be done
	}
	return false, nil
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
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
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
		case !known.probed.IsZero() && time.Since(known.probed) >= probeFresh:
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
	e.mu.Lock()
	waiting := map[string][]*part{}
	for _, at := range slices.SortedFunc(maps.Keys(e.parts), netip.Prefix.Compare) {
		if p := e.parts[at]; p.probed.IsZero() {
			waiting[p.link] = append(waiting[p.link], p)
		}
	}
	e.mu.Unlock()
	for _, link := range slices.Sorted(maps.Keys(waiting)) {
		var addrs []netip.Addr
		for _, p := range waiting[link] {
			addrs = append(addrs, p.addrs...)
		}
		taken, err := e.probe(ctx, link, addrs)
		if ctx.Err() != nil {
			return
		}
		e.noteProbed(ctx, waiting[link], taken, err)
	}
}

// noteProbed takes in what a probe has found.
func (e *Engine) noteProbed(ctx context.Context, parts []*part, taken []netip.Addr, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	again := false
	for _, p := range parts {
		switch at := slices.IndexFunc(p.addrs, func(a netip.Addr) bool { return slices.Contains(taken, a) }); {
		case err != nil:
			e.dropPart(p)
			again = true
		case at >= 0:
			p.probed, p.taken = now, true
			e.Log.Warn("a part of a prefix is in use by somebody else on the link", "address", p.addrs[at], "parent", p.link)
			e.later(probeFresh, e.followAgain)
		default:
			p.probed = now
		}
	}
	if again {
		e.Log.Warn("networks are renumbered later", "err", err)
		e.later(maxHealWait, e.followAgain)
		return
	}
	e.followSources(ctx)
}

// dropPart forgets a part that was not probed, unless it is another one's turn by now.
func (e *Engine) dropPart(p *part) {
	maps.DeleteFunc(e.parts, func(_ netip.Prefix, known *part) bool { return known == p })
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

// followNames has networks follow a link by its name of now, where nobody has named it: it
// is known by the prefix that they use.
func (e *Engine) followNames(ctx context.Context) {
	renamed := false
	for _, n := range e.allNetworks() {
		to := n.Network
		to.IPv6 = slices.Clone(n.IPv6)
		changed := false
		for i := range to.IPv6 {
			s := &to.IPv6[i]
			if s.Lent == nil || !s.Lent.IsShared() || n.Options.Parent != "" {
				continue
			}
			now, inUse := s.Lent.Current()
			if !inUse || !now.OnLink {
				continue
			}
			if link := e.onLinkAt(ctx, now.Prefix, s.Lent.Link); link != s.Lent.Link {
				lent := *s.Lent
				lent.Link, s.Parent = link, link
				s.Lent, changed = &lent, true
			}
		}
		if changed {
			renamed = e.keepNames(n, to) || renamed
		}
	}
	if renamed {
		e.reviewSources()
	}
}

// keepNames takes down by which link a network and its pools follow.
func (e *Engine) keepNames(n *network, to spec.Network) bool {
	if err := e.Journal.PutNetwork(to); err != nil {
		e.Log.Error("have a network follow its parent, which has another name", aboutNetwork(n.Network, "err", err)...)
		return false
	}
	n.Network = to
	for _, s := range n.IPv6 {
		p, ours := e.pools[s.Prefix.String()]
		if !ours || s.Lent == nil || p.Lent == nil || p.Lent.Link == s.Lent.Link {
			continue
		}
		moved, lent := p.Pool, *p.Lent
		lent.Link, moved.Parent = s.Lent.Link, s.Lent.Link
		moved.Lent = &lent
		if err := e.Journal.PutPool(moved); err != nil {
			e.Log.Error("have a pool follow its parent, which has another name", "pool", p.ID, "err", err)
			continue
		}
		p.Pool = moved
	}
	return true
}

// adoptShared has networks follow their parent's prefix that were made when none did. Which
// prefix it was, their record does not say: one that the link has yet, or else, as it is
// nearly everywhere, a /64.
func (e *Engine) adoptShared(ctx context.Context) {
	for _, n := range e.allNetworks() {
		to, changed := n.Network, false
		to.IPv6 = slices.Clone(n.IPv6)
		for i := range to.IPv6 {
			if s := &to.IPv6[i]; s.Source == spec.SourceParent && s.Lent == nil && s.OnLink && s.Parent != "" && !s.Outside.IsValid() {
				s.Lent, changed = prefix.SharedLent(s.Prefix, e.wholeOf(ctx, *s), s.Parent), true
			}
		}
		if changed {
			if err := e.Journal.PutNetwork(to); err != nil {
				e.Log.Error("have a network follow its parent's prefix", aboutNetwork(n.Network, "err", err)...)
				continue
			}
			n.Network = to
		}
		for _, s := range n.IPv6 {
			p, ours := e.pools[s.Prefix.String()]
			if !ours || p.Lent != nil || s.Lent == nil || !s.Lent.IsShared() {
				continue
			}
			adopted := p.Pool
			adopted.Lent = s.Lent
			if err := e.Journal.PutPool(adopted); err != nil {
				e.Log.Error("have a pool follow its parent's prefix", "pool", p.ID, "err", err)
				continue
			}
			p.Pool = adopted
		}
	}
}

// wholeOf is the prefix of the parent that a subnet is or was a part of.
func (e *Engine) wholeOf(ctx context.Context, s spec.Subnet) netip.Prefix {
	onLink, err := e.Host.OnLink(ctx, s.Parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.Log.Warn("prefixes on the parent", "parent", s.Parent, "err", err)
	}
	for _, p := range onLink {
		if p.Bits() < s.Prefix.Bits() && p.Overlaps(s.Prefix) {
			return p.Masked()
		}
	}
	return netip.PrefixFrom(s.Prefix.Addr(), min(slaacBits, cmp.Or(s.Prefix.Bits()-1, slaacBits))).Masked()
}

// slaacBits is the length of nearly every link's prefix (RFC 4291 §2.5.4).
const slaacBits = 64
