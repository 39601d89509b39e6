package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// whereabouts is on which links prefixes are at one moment, looked up once for all networks.
type whereabouts struct {
	*Engine
	onLink    map[string]prefixesOf
	connected map[netip.Prefix]map[string][]netip.Prefix // by the part that was asked for
}

// prefixesOf is what a link has, or why that is not known.
type prefixesOf struct {
	prefixes []netip.Prefix
	err      error
}

func (e *Engine) whereabouts() *whereabouts {
	return &whereabouts{e, map[string]prefixesOf{}, map[netip.Prefix]map[string][]netip.Prefix{}}
}

// of is what a link has.
func (w *whereabouts) of(ctx context.Context, link string) ([]netip.Prefix, error) {
	has, looked := w.onLink[link]
	if !looked {
		has.prefixes, has.err = w.Host.OnLink(ctx, link)
		w.onLink[link] = has
	}
	return has.prefixes, has.err
}

// lacks reports whether it is known that a link has no prefix which that is a part of: one that
// is absent has none, nor has one without neighbor discovery.
func (w *whereabouts) lacks(ctx context.Context, link string, part netip.Prefix) bool {
	has, err := w.of(ctx, link)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported)
	}
	return !holds(has, part)
}

func holds(prefixes []netip.Prefix, part netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Bits() <= part.Bits() && p.Overlaps(part) {
			return true
		}
	}
	return false
}

// elsewhere is the link that has a part's prefix where this one lacks it; empty: it does not,
// or none has.
func (w *whereabouts) elsewhere(ctx context.Context, part netip.Prefix, link string) string {
	if !w.lacks(ctx, link, part) {
		return ""
	}
	connected, looked := w.connected[part]
	if !looked {
		var err error
		if connected, err = w.Host.Connected(ctx, part); err != nil {
			w.Log.Warn("prefixes on links", "err", err)
		}
		w.connected[part] = connected
	}
	if _, here := connected[link]; here || len(connected) == 0 {
		return "" // it has come meanwhile
	}
	return sortedIDs(connected)[0]
}

// isByPrefix reports whether a subnet's link is known by the prefix that the subnet is a part
// of. What is delegated may be on a link that has nothing of it itself.
func isByPrefix(s spec.Subnet) bool { return s.OnLink && (s.Lent == nil || s.Lent.IsShared()) }

// locate finds out which prefixes of networks are on other links than the networks' parents,
// and answers the networks of which that is news.
func (e *Engine) locate(ctx context.Context, at *whereabouts, networks []*network) (changed []*network) {
	for _, n := range networks {
		if n.Internal || !n.isRouted() && !n.Options.L3() {
			continue // nobody is answered for
		}
		var astray map[netip.Prefix]string
		differs := false
		for _, s := range n.Present() {
			if !isByPrefix(s) {
				continue
			}
			link := at.elsewhere(ctx, s.Prefix, s.Parent)
			if differs = differs || n.astray[s.Prefix] != link; link == "" {
				continue
			}
			if astray == nil {
				astray = map[netip.Prefix]string{}
			}
			astray[s.Prefix] = link
		}
		if n.astray = astray; differs {
			changed = append(changed, n)
		}
	}
	return changed
}

// straying says, for people, that prefixes in use are on other links than the network's parent.
func (n *network) straying() error {
	var errs []error
	for _, s := range n.Present() {
		if link := n.astray[s.Prefix]; link != "" && (s.Lent == nil || !s.Lent.Prefixes[0].Former) {
			errs = append(errs, fmt.Errorf("%s is part of a prefix of link %s, and not of parent %s, on which nobody answers for it therefore: call the link %s again, or make the network anew with parent %s", s.Prefix, link, s.Parent, s.Parent, link))
		}
	}
	return errors.Join(errs...)
}

// strandedWords say, for people, that subnets that somebody has named were parts of a link's
// prefix and are not any more, since its router advertises another one. Such a network does
// not follow: it was to have that prefix and no other.
func (n *network) strandedWords(ctx context.Context, at *whereabouts) (words []string) {
	for _, s := range n.IPv6 {
		if !s.OnLink || s.Lent != nil || s.Parent == "" || n.astray[s.Prefix] != "" {
			continue
		}
		has, err := at.of(ctx, s.Parent)
		if err != nil || holds(has, s.Prefix) {
			continue // what is wrong with a link its network says
		}
		now := "none"
		if len(has) > 0 {
			now = strings.Trim(fmt.Sprint(has), "[]")
		}
		words = append(words, fmt.Sprintf("%s is no part of a prefix of %s any more, which has %s now: routers there do not lead here, and a network on a prefix that somebody has named does not follow; make it anew", s.Prefix, s.Parent, now))
	}
	return words
}
