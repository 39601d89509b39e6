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

// followNames has networks on a part of their parent's prefix follow that by its name of now,
// where nobody has named it: it is known by the prefixes that they have of it, as soon as the
// link has one of them again. Of what has happened while no daemon ran there is no other sign.
// What is delegated waits for the link of the old name: a line that redials is without a link for
// a moment, and the default route by another one meanwhile.
func (e *Engine) followNames(ctx context.Context) (renamed []*network) {
	names := map[string]bool{}
	isAbsent := func(link string) bool {
		absent, asked := names[link]
		if !asked {
			_, err := e.Links.MTU(ctx, link)
			absent = errors.Is(err, fs.ErrNotExist)
			names[link] = absent
		}
		return absent
	}
	return e.followLinks(func(l spec.Lent) string {
		if !l.IsShared() || !isAbsent(l.Link) {
			return l.Link
		}
		return e.nameOfNow(ctx, l)
	})
}

// followLinks has networks whose user has not named their parent follow what now says of it.
func (e *Engine) followLinks(now func(spec.Lent) string) (moved []*network) {
	var records []spec.Network
	for _, n := range e.allNetworks() {
		if n.Options.Parent != "" {
			continue
		}
		to := n.Network
		to.IPv6 = slices.Clone(n.IPv6)
		changed := false
		for i := range to.IPv6 {
			s := &to.IPv6[i]
			if s.Lent == nil || s.ParentNamed {
				continue
			}
			link := now(*s.Lent)
			if link == s.Lent.Link {
				continue
			}
			lent := *s.Lent
			lent.Link = link
			if s.Lent, changed = &lent, true; s.OnLink {
				s.Parent = link
			}
		}
		if changed {
			moved, records = append(moved, n), append(records, to)
		}
	}
	if len(moved) == 0 || !e.keepFollowing(moved, records) {
		return nil
	}
	e.reviewSources()
	return moved
}

// rename is of a link.
type rename struct{ from, to string }

// LinkRenamed takes in that a link has another name: it is the same one, and so is what is lent
// there. It comes before LinkChanged says that there is no link of the former name.
func (e *Engine) LinkRenamed(ctx context.Context, from, to string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	moved := e.followLinks(func(l spec.Lent) string {
		if l.Link == from {
			return to
		}
		return l.Link
	})
	if len(moved) == 0 {
		return
	}
	e.Log.Info("networks follow their parent, which has another name", "from", from, "to", to, "networks", len(moved))
	e.renames = append(e.renames, rename{from, to})
	for key, lent := range e.lent {
		if key.Link != from {
			continue
		}
		key.Link, lent = to, slices.Clone(lent)
		for i := range lent {
			lent[i].Parent = to
		}
		e.lent[key] = lent
	}
	e.reapply(ctx, moved...)
}

// nameOfNow is the link that has a prefix that an absent one had; the same where that is not known.
func (e *Engine) nameOfNow(ctx context.Context, l spec.Lent) string {
	for _, p := range l.Prefixes {
		if !p.OnLink || !p.Of.IsValid() {
			continue
		}
		if link := e.onLinkAt(ctx, p.Prefix, l.Link); link != l.Link {
			return link
		}
	}
	return l.Link
}

// AddressesChanged takes in that a link has another address or prefix: it may be one that
// networks follow by another name.
func (e *Engine) AddressesChanged(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if renamed := e.followNames(ctx); len(renamed) > 0 {
		e.reapply(ctx, renamed...)
	}
}

// keepFollowing takes down what networks' subnets follow, and with them their pools: all or
// none, since a daemon that is killed has heard of a rename that the next one does not hear of.
func (e *Engine) keepFollowing(networks []*network, to []spec.Network) bool {
	var pools []*pool
	var records []spec.Pool
	for _, n := range to {
		for _, s := range n.IPv6 {
			p, ours := e.pools[s.Prefix.String()]
			if !ours || s.Lent == nil || p.Lent != nil && p.Lent.Link == s.Lent.Link {
				continue
			}
			matched := p.Pool
			if matched.Lent = s.Lent; matched.OnLink {
				matched.Parent = s.Lent.Link
			}
			pools, records = append(pools, p), append(records, matched)
		}
	}
	if err := e.Journal.PutAll(to, records, nil); err != nil {
		e.Log.Error("have networks follow their parent", "networks", len(networks), "err", err)
		return false
	}
	for i, n := range networks {
		n.Network = to[i]
	}
	for i, p := range pools {
		p.Lent, p.Parent = records[i].Lent, records[i].Parent
	}
	return true
}

// adoptShared has networks follow their parent's prefix that were made when none did. Which
// prefix it was, their record does not say: one that the link has yet, or else, as it is
// nearly everywhere, a /64.
func (e *Engine) adoptShared(ctx context.Context) {
	var networks []*network
	var records []spec.Network
	for _, n := range e.allNetworks() {
		to, changed := n.Network, false
		to.IPv6 = slices.Clone(n.IPv6)
		for i := range to.IPv6 {
			if s := &to.IPv6[i]; s.Source == spec.SourceParent && s.Lent == nil && s.OnLink && s.Parent != "" && !s.Outside.IsValid() {
				s.Lent, changed = prefix.SharedLent(s.Prefix, e.wholeOf(ctx, *s), s.Parent), true
			}
		}
		if changed {
			networks, records = append(networks, n), append(records, to)
		}
	}
	if len(networks) > 0 {
		e.keepFollowing(networks, records)
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
