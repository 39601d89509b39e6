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

// AddressesChanged takes in that a link has another address or prefix: it may be one that
// networks follow by another name.
func (e *Engine) AddressesChanged(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seldom(&e.readdressed, func() {
		if renamed := e.followNames(ctx); len(renamed) > 0 {
			e.reapply(ctx, renamed...)
		}
	})
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
