package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// AddressesChanged takes in that links have other addresses or prefixes: one may be what
// networks know by another name, or have a prefix that was another's.
func (e *Engine) AddressesChanged(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seldom(&e.readdressed, func() { e.followAddresses(ctx) })
}

func (e *Engine) followAddresses(ctx context.Context) {
	at := e.whereabouts()
	moved := e.followNames(ctx, at)
	for _, n := range e.locate(ctx, at, e.allNetworks()) {
		if !slices.Contains(moved, n) {
			moved = append(moved, n)
		}
	}
	if len(moved) > 0 {
		e.reapply(ctx, moved...)
	}
}

// rename is of a link.
type rename struct{ from, to string }

// following is what goes over to links by other names.
type following struct {
	networks []*network
	to       []spec.Network // what becomes of them
	unused   []*pool        // pools without a network
	sysctls  map[string]string
}

// LinkRenamed takes in that a link has another name: it is the same one, and so are its settings
// and what is lent there. It comes before LinkChanged says that there is no link of the former name.
func (e *Engine) LinkRenamed(ctx context.Context, from, to string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := func(link string) string {
		if link == from {
			return to
		}
		return link
	}
	f := e.following(func(s spec.Subnet) string { return next(s.Link()) })
	for _, id := range sortedIDs(e.pools) {
		if p := e.pools[id]; p.Link() == from && !p.ParentNamed && e.networkUsing(p.Prefix) == nil {
			f.unused = append(f.unused, p)
		}
	}
	f.sysctls = e.sysctlsOf(map[string]string{from: to})
	if !e.keepFollowing(f, next) || len(f.networks) == 0 && len(f.unused) == 0 {
		return
	}
	e.Log.Info("networks follow their parent, which has another name", "from", from, "to", to, "networks", len(f.networks))
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
	e.reapply(ctx, f.networks...)
}

// followNames has networks on a part of their parent's prefix follow that by its name of now,
// where nobody has named it: it is the link that has a prefix of theirs, and no other one that is
// called as it was. A link that lacks them all is taken for it while no other has one: it may get
// one in a moment. What is delegated waits for the link of the old name: a line that redials is
// without a link for a moment, and the default route by another one meanwhile.
func (e *Engine) followNames(ctx context.Context, at *whereabouts) (moved []*network) {
	f := e.following(func(s spec.Subnet) string { return at.nameOfNow(ctx, s) })
	if !e.keepFollowing(f, nil) {
		return nil
	}
	return f.networks
}

// followUntold is followNames after renames of which nobody has told, while no daemon ran or
// since events were lost: the links' settings follow, too.
func (e *Engine) followUntold(ctx context.Context) {
	at := e.whereabouts()
	renamed := map[string]string{}
	f := e.following(func(s spec.Subnet) string {
		from, to := s.Link(), at.nameOfNow(ctx, s)
		if from != to && e.settingsWent(ctx, from, to) {
			renamed[from] = to
		}
		return to
	})
	f.sysctls = e.sysctlsOf(renamed)
	e.keepFollowing(f, nil)
	e.locate(ctx, at, e.allNetworks())
}

// following are the networks whose user has not named their parent, with their subnets on the
// links that now says.
func (e *Engine) following(now func(spec.Subnet) string) (f following) {
	for _, n := range e.allNetworks() {
		if n.Options.Parent != "" {
			continue
		}
		to := n.Network
		changed := false
		for i, s := range n.IPv6 {
			if s.Link() == "" || s.ParentNamed {
				continue
			}
			link := now(s)
			if link == s.Link() {
				continue
			}
			if !changed {
				to.IPv6, changed = slices.Clone(n.IPv6), true
			}
			to.IPv6[i] = s.On(link)
		}
		if changed {
			f.networks, f.to = append(f.networks, n), append(f.to, to)
		}
	}
	return f
}

// nameOfNow is the link that has a prefix of which a subnet has a part; the subnet's own where
// that has one, or nobody knows of another.
func (w *whereabouts) nameOfNow(ctx context.Context, s spec.Subnet) string {
	parts := []netip.Prefix{s.Prefix}
	if s.Lent != nil {
		parts = nil
		for _, p := range s.Lent.Prefixes {
			if s.Lent.IsShared() && p.OnLink && p.Of.IsValid() {
				parts = append(parts, p.Prefix)
			}
		}
	}
	lacks := func(part netip.Prefix) bool { return w.lacks(ctx, s.Link(), part) }
	if slices.ContainsFunc(parts, func(part netip.Prefix) bool { return !lacks(part) }) {
		return s.Link()
	}
	for _, part := range parts {
		if link := w.elsewhere(ctx, part, s.Link()); link != "" {
			return link
		}
	}
	return s.Link()
}

// keepFollowing takes down on which links networks' subnets are, and with them their pools and
// the links' settings: all or none, since a daemon that is killed has heard of a rename that the
// next one does not hear of. It reports whether there was something to take down, and it is.
func (e *Engine) keepFollowing(f following, next func(link string) string) bool {
	var pools []*pool
	var records []spec.Pool
	for _, n := range f.to {
		for _, s := range n.IPv6 {
			if p, ours := e.pools[s.Prefix.String()]; ours && (p.Link() != s.Link() || s.Lent != nil && p.Lent == nil) {
				matched := p.Pool.On(s.Link())
				matched.Lent = s.Lent
				pools, records = append(pools, p), append(records, matched)
			}
		}
	}
	for _, p := range f.unused {
		pools, records = append(pools, p), append(records, p.On(next(p.Link())))
	}
	if len(f.to) == 0 && len(records) == 0 && f.sysctls == nil {
		return false
	}
	if err := e.Journal.PutFollowing(f.to, records, f.sysctls); err != nil {
		e.Log.Error("have networks follow their parent", "networks", len(f.networks), "err", err)
		return false
	}
	for i, n := range f.networks {
		n.Network = f.to[i]
	}
	for i, p := range pools {
		p.Lent, p.Parent = records[i].Lent, records[i].Parent
	}
	if f.sysctls != nil {
		e.sysctls = f.sysctls
	}
	e.reviewSources()
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
		e.keepFollowing(following{networks: networks, to: records}, nil)
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
