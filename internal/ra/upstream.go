package ra

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// repeatedLifetime is the most for which something is repeated from one
// advertisement: until it would have been said again three times (RFC 8106 §5.1).
const repeatedLifetime = spec.Seconds(silence / time.Second)

// maxRepeated bounds what is repeated of each kind.
const maxRepeated = 8

// upstream is what the default routers of a link say that other links are
// concerned with. Lifetimes are what is left of them.
type upstream struct {
	mtu      int // the least; 0: none says
	prefixes []spec.AdvertisedPrefix
	dns      []spec.Lasting[netip.Addr]
	search   []spec.Lasting[string]
	pref64   []spec.Lasting[netip.Prefix]
}

// upstream is of default routers alone: whoever else advertises something on the
// link does not get it to containers. One that is none any more may have
// withdrawn its prefixes with that.
func (r routers) upstream(now time.Time) upstream {
	var u upstream
	prefixes := map[netip.Prefix]spec.AdvertisedPrefix{}
	dns, search, pref64 := items[netip.Addr, spec.Lasting[netip.Addr]]{}, items[string, spec.Lasting[string]]{}, items[netip.Prefix, spec.Lasting[netip.Prefix]]{}
	for _, h := range r.sorted() {
		if !h.was {
			continue
		}
		for key, p := range h.prefixes {
			q := remaining(now, p)
			if known, ok := prefixes[key]; ok { // as hosts have it, which take the longest
				q.Valid, q.Preferred = max(q.Valid, known.Valid), max(q.Preferred, known.Preferred)
			}
			prefixes[key] = q
		}
		if !h.defaults(now) {
			continue
		}
		if mtu := h.header.MTU; mtu >= spec.MinMTU && (u.mtu == 0 || mtu < u.mtu) {
			u.mtu = mtu
		}
		longest(dns, h.dns)
		longest(search, h.search)
		longest(pref64, h.pref64)
	}
	for _, p := range prefixes {
		u.prefixes = append(u.prefixes, p)
	}
	slices.SortFunc(u.prefixes, func(a, b spec.AdvertisedPrefix) int { return comparePrefixes(a.Prefix, b.Prefix) })
	// An address of the link means nothing on another one.
	u.dns = without(lastingLeft(now, dns, netip.Addr.Compare), func(s spec.Lasting[netip.Addr]) bool {
		return !spec.IsDNSServer(s.Value) || s.Value.IsLinkLocalUnicast()
	})
	u.search = without(lastingLeft(now, search, cmp.Compare[string]), func(s spec.Lasting[string]) bool { return !spec.IsDomain(s.Value) })
	u.pref64 = without(lastingLeft(now, pref64, comparePrefixes), func(s spec.Lasting[netip.Prefix]) bool { return !spec.IsNAT64Prefix(s.Value) })
	return u
}

// timeless is the same for as long as nothing comes or ends.
func (u upstream) timeless() upstream {
	prefixes := u.prefixes
	u.prefixes = nil
	for _, p := range prefixes {
		p.Valid, p.Preferred = min(p.Valid, 1), min(p.Preferred, 1)
		u.prefixes = append(u.prefixes, p)
	}
	u.dns, u.search, u.pref64 = timelessItems(u.dns), timelessItems(u.search), timelessItems(u.pref64)
	return u
}

// longest adds items, of each the one that ends last.
func longest[K comparable, T any](all, more items[K, T]) {
	for key, i := range more {
		if known, ok := all[key]; !ok || i.ends.After(known.ends) {
			all[key] = i
		}
	}
}

// apply has an advertisement say no more than the upstream routers do.
func (u upstream) apply(a spec.Advertisement) spec.Advertisement {
	if u.mtu != 0 && a.MTU > u.mtu {
		a.MTU = u.mtu
	}
	prefixes := a.Prefixes
	a.Prefixes = nil
	for _, p := range prefixes {
		if p.Upstream && p.Until.IsZero() {
			p.Valid, p.Preferred = u.bound(p)
		}
		a.Prefixes = append(a.Prefixes, p)
	}
	a.DNS, a.Search, a.PREF64 = repeated(a.DNS, u.dns), repeated(a.Search, u.search), repeated(a.PREF64, u.pref64)
	return a
}

// bound are the lifetimes of a prefix: no longer than those of the ones that it is
// a part of, of which the longest count: while one is valid, so is what is in it.
// Where no router advertises such a one, nothing bounds them.
func (u upstream) bound(p spec.AdvertisedPrefix) (valid, preferred spec.Seconds) {
	bounded := false
	for _, whole := range u.prefixes {
		if w := whole.Prefix.Masked(); w.Bits() <= p.Prefix.Bits() && w.Contains(p.Prefix.Addr()) {
			bounded, valid, preferred = true, max(valid, whole.Valid), max(preferred, whole.Preferred)
		}
	}
	if !bounded {
		return p.Valid, p.Preferred
	}
	return min(p.Valid, valid), min(p.Preferred, preferred)
}

// repeated is our own, or else what is heard upstream.
func repeated[T comparable](own, heard []spec.Lasting[T]) []spec.Lasting[T] {
	if len(own) > 0 {
		return own
	}
	for _, s := range heard[:min(len(heard), maxRepeated)] {
		own = append(own, spec.Lasting[T]{Value: s.Value, Lifetime: min(s.Lifetime, repeatedLifetime)})
	}
	return own
}

// lapsed adds to what is said what was said before and is said no more, with a
// lifetime of 0, for as long as somebody may still use it.
func lapsed[T comparable](now, saidAt time.Time, before, said []spec.Lasting[T]) []spec.Lasting[T] {
	present := map[T]bool{}
	for _, s := range said {
		present[s.Value] = true
	}
	for _, s := range before {
		if len(said) >= maxItems {
			break
		}
		if s.Until.IsZero() {
			s.Until = saidAt.Add(s.Lifetime.Duration())
			s.Lifetime = 0
		}
		if !present[s.Value] && now.Before(s.Until) {
			said = append(said, s)
		}
	}
	return said
}

// differs reports whether b says another thing than a, and not only for another
// time: of lifetimes it counts whether there is one.
func differs(a, b spec.Advertisement) bool {
	return !reflect.DeepEqual(timeless(a), timeless(b))
}

func timeless(a spec.Advertisement) spec.Advertisement {
	one := func(s spec.Seconds) spec.Seconds { return min(s, 1) }
	a.RouterLifetime = one(a.RouterLifetime)
	prefixes, routes := a.Prefixes, a.Routes
	a.Prefixes, a.Routes = nil, nil
	for _, p := range prefixes {
		p.Valid, p.Preferred, p.Until = one(p.Valid), one(p.Preferred), time.Time{}
		p.ValidUntil, p.PreferredUntil = time.Time{}, time.Time{}
		a.Prefixes = append(a.Prefixes, p)
	}
	for _, r := range routes {
		r.Lifetime, r.Until = one(r.Lifetime), time.Time{}
		a.Routes = append(a.Routes, r)
	}
	a.DNS, a.Search, a.PREF64 = timelessItems(a.DNS), timelessItems(a.Search), timelessItems(a.PREF64)
	return a
}

func timelessItems[T comparable](all []spec.Lasting[T]) (list []spec.Lasting[T]) {
	for _, s := range all {
		list = append(list, spec.Lasting[T]{Value: s.Value, Lifetime: min(s.Lifetime, 1)})
	}
	return list
}
