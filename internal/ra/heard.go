package ra

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Bounds of what is kept in mind of a link's other routers.
const (
	maxRouters = 16
	maxItems   = 64 // of each kind, of each router
)

// Times for which routers and what they say are kept in mind.
const (
	// What a router says without a lifetime holds until it would have said it again
	// three times, and of one that is no default router nothing holds for longer.
	silence = 3 * defaultInterval
	// A prefix of which a router said that it has ended, or let it end, is known as
	// ended while the router is there, and then for as long as a host may go on with
	// it (RFC 4862 §5.5.3 e).
	remembrance = 2 * time.Hour
)

// forever stands for the end of what has none.
const forever = 100 * 365 * 24 * time.Hour

// routers are the others of a link, by address.
type routers map[netip.Addr]*heard

// heard is what one router has said. One advertisement adds to the ones before
// it, and takes nothing back but by name (RFC 4861 §6.3.4).
type heard struct {
	at       time.Time          // when it was last heard
	asked    bool               // since then, whether it is still there
	header   spec.Advertisement // the last values, without lists
	lifetime time.Time          // end of it as a default router
	was      bool               // a default router at any time
	prefixes items[netip.Prefix, spec.AdvertisedPrefix]
	routes   items[netip.Prefix, spec.AdvertisedRoute]
	dns      items[netip.Addr, spec.Lasting[netip.Addr]]
	search   items[string, spec.Lasting[string]]
	pref64   items[netip.Prefix, spec.Lasting[netip.Prefix]]
}

// items are things of one kind with the times at which they end.
type items[K comparable, T any] map[K]item[T]

type item[T any] struct {
	said T
	ends time.Time
	// preferred is a prefix's: when addresses of it are no longer for new connections.
	preferred time.Time
}

func ends(now time.Time, s spec.Seconds) time.Time {
	if s == spec.Infinity {
		return now.Add(forever)
	}
	return now.Add(s.Duration())
}

// left is the lifetime that remains of one that was said once.
func left(now, end time.Time, said spec.Seconds) spec.Seconds {
	if said == spec.Infinity {
		return said
	}
	return spec.Seconds(max(0, end.Sub(now)+time.Second-1) / time.Second)
}

// put keeps an item until it ends; one that has ended at once is dropped.
func (all items[K, T]) put(now time.Time, key K, said T, lifetime spec.Seconds) {
	if _, known := all[key]; !known && len(all) >= maxItems {
		return
	}
	if lifetime == 0 {
		delete(all, key)
		return
	}
	all[key] = item[T]{said: said, ends: ends(now, lifetime)}
}

// expire drops what has ended. It answers the first end that is to come, and the last.
func (all items[K, T]) expire(now, first, last time.Time) (time.Time, time.Time) {
	for key, i := range all {
		if !now.Before(i.ends) {
			delete(all, key)
			continue
		}
		first, last = earlier(first, i.ends), later(last, i.ends)
	}
	return first, last
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// hear takes in a valid advertisement.
func (r routers) hear(now time.Time, source netip.Addr, d Decoded) {
	r.expire(now)
	h, known := r[source]
	if !known {
		h = &heard{
			prefixes: items[netip.Prefix, spec.AdvertisedPrefix]{}, routes: items[netip.Prefix, spec.AdvertisedRoute]{},
			dns: items[netip.Addr, spec.Lasting[netip.Addr]]{}, search: items[string, spec.Lasting[string]]{}, pref64: items[netip.Prefix, spec.Lasting[netip.Prefix]]{},
		}
		r[source] = h
	}
	h.take(now, d.Advertisement)
	h.header.Source = source
	if h.end(now).IsZero() {
		delete(r, source)
	}
	if len(r) > maxRouters {
		delete(r, r.least(now))
	}
}

// least is the router that is missed least: one that is no default router, and of
// those the one that was heard longest ago. Whoever sends under many addresses
// keeps no other router out for longer than until that one is heard again.
func (r routers) least(now time.Time) netip.Addr {
	first := slices.MinFunc(r.sorted(), func(a, b *heard) int {
		if a.defaults(now) != b.defaults(now) {
			if b.defaults(now) {
				return -1
			}
			return 1
		}
		return a.at.Compare(b.at)
	})
	return first.header.Source
}

// take adds an advertisement to what is known.
func (h *heard) take(now time.Time, a spec.Advertisement) {
	before := h.header
	h.at, h.asked, h.lifetime, h.header = now, false, ends(now, a.RouterLifetime), a
	h.header.Prefixes, h.header.Routes, h.header.DNS, h.header.Search, h.header.PREF64 = nil, nil, nil, nil, nil
	h.was = h.was || a.RouterLifetime > 0
	if a.HopLimit == 0 { // RFC 4861 §4.2: unspecified
		h.header.HopLimit = before.HopLimit
	}
	if a.MTU == 0 {
		h.header.MTU = before.MTU
	}
	if a.CaptivePortal == "" || !visible(a.CaptivePortal) {
		h.header.CaptivePortal = before.CaptivePortal
	}
	for _, p := range a.Prefixes {
		if p.Preferred > p.Valid { // RFC 4862 §5.5.3 c: to be ignored
			continue
		}
		key := p.Prefix.Masked()
		// One that ends at once is kept, known before or not: a pool may be a part of it.
		if _, known := h.prefixes[key]; !known && len(h.prefixes) >= maxItems && !h.dropEnded(now) {
			continue
		}
		h.prefixes[key] = item[spec.AdvertisedPrefix]{said: p, ends: ends(now, p.Valid), preferred: ends(now, p.Preferred)}
	}
	for _, x := range a.Routes {
		h.routes.put(now, x.Prefix, x, x.Lifetime)
	}
	for _, x := range a.DNS {
		h.dns.put(now, x.Value, x, x.Lifetime)
	}
	for _, x := range a.Search {
		if !visible(x.Value) {
			continue
		}
		h.search.put(now, x.Value, x, x.Lifetime)
	}
	for _, x := range a.PREF64 {
		h.pref64.put(now, x.Value, x, x.Lifetime)
	}
}

// visible reports whether text from the wire is ASCII that a terminal shows, as
// every host name and URI is (RFC 8106 §5.2, RFC 3986): it is kept and shown
// elsewhere, where nobody expects more.
func visible(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' })
}

// dropEnded makes room for a prefix, and drops the one for it that ended first.
func (h *heard) dropEnded(now time.Time) bool {
	var first netip.Prefix
	for key, p := range h.prefixes {
		if !now.Before(p.ends) && (!first.IsValid() || p.ends.Before(h.prefixes[first].ends)) {
			first = key
		}
	}
	delete(h.prefixes, first)
	return first.IsValid()
}

// forgets is when a prefix is forgotten. One that has ended is known as such while
// its router is there, which says no more of it: to be bounded by nothing, what is
// a part of it would come back.
func (h *heard) forgets(p item[spec.AdvertisedPrefix]) time.Time {
	return later(p.ends, h.lifetime).Add(remembrance)
}

// defaults reports whether hosts use it as a default router.
func (h *heard) defaults(now time.Time) bool { return now.Before(h.lifetime) }

// expire drops what has ended, and answers the next end; zero: there is none.
func (h *heard) expire(now time.Time) (next, last time.Time) {
	if h.defaults(now) {
		next, last = h.lifetime, h.lifetime
	}
	for key, p := range h.prefixes {
		switch {
		case !now.Before(h.forgets(p)):
			delete(h.prefixes, key)
		case now.Before(p.ends):
			next, last = earlier(next, p.ends), later(last, p.ends)
			if now.Before(p.preferred) {
				next = earlier(next, p.preferred)
			}
		default:
			next = earlier(next, h.forgets(p))
		}
	}
	next, last = h.routes.expire(now, next, last)
	next, last = h.dns.expire(now, next, last)
	next, last = h.search.expire(now, next, last)
	return h.pref64.expire(now, next, last)
}

// forgotten is when all that it has said is dropped, whatever lifetimes that has:
// when it has been silent for long, and a default router only when it is none any
// more and what it let end need not be known.
func (h *heard) forgotten() time.Time {
	at := h.at.Add(silence)
	if h.was {
		at = later(at, h.lifetime.Add(remembrance))
	}
	return at
}

// end is when it is dropped; zero: now, since it has said nothing that holds.
func (h *heard) end(now time.Time) time.Time {
	_, last := h.expire(now)
	for _, p := range h.prefixes {
		last = later(last, h.forgets(p))
	}
	if h.header.MTU != 0 || h.header.HopLimit != 0 || h.header.Managed || h.header.Other {
		last = later(last, h.at.Add(silence))
	}
	if !now.Before(last) || !now.Before(h.forgotten()) {
		return time.Time{}
	}
	return earlier(last, h.forgotten())
}

// doubt is when it should be asked whether it is still there: some time before it
// is a default router no more, or before nothing else that it has said holds. Zero:
// never.
func (h *heard) doubt(now time.Time) time.Time {
	_, last := h.expire(now)
	switch {
	case last.IsZero() || h.asked:
		return time.Time{}
	case h.defaults(now):
		last = h.lifetime
	default:
		last = earlier(last, h.forgotten())
	}
	return later(h.at, last.Add(-listenFirst))
}

// expire forgets what has ended, and routers that have said nothing else. It
// answers when something will end next; zero: never.
func (r routers) expire(now time.Time) (next time.Time) {
	for source, h := range r {
		end := h.end(now)
		if end.IsZero() {
			delete(r, source)
			continue
		}
		next = earlier(next, end)
		if first, _ := h.expire(now); !first.IsZero() {
			next = earlier(next, first)
		}
	}
	return next
}

// doubtful is when a router should be asked whether it is still there. Zero: never.
func (r routers) doubtful(now time.Time) (at time.Time) {
	for _, h := range r {
		if doubt := h.doubt(now); !doubt.IsZero() {
			at = earlier(at, doubt)
		}
	}
	return at
}

// ask marks those that are doubtful by now.
func (r routers) ask(now time.Time) {
	for _, h := range r {
		if doubt := h.doubt(now); !doubt.IsZero() && !now.Before(doubt) {
			h.asked = true
		}
	}
}

// status is what each has said, with the lifetimes that are left.
func (r routers) status(now time.Time) []spec.HeardRouter {
	var all []spec.HeardRouter
	for _, h := range r.sorted() {
		a := h.header
		if a.RouterLifetime != 0 {
			a.RouterLifetime = left(now, h.lifetime, a.RouterLifetime)
		}
		for _, p := range h.prefixes.sorted(comparePrefixes) {
			a.Prefixes = append(a.Prefixes, remaining(now, p))
		}
		for _, x := range h.routes.sorted(comparePrefixes) {
			x.said.Lifetime = left(now, x.ends, x.said.Lifetime)
			a.Routes = append(a.Routes, x.said)
		}
		a.DNS = lastingLeft(now, h.dns, netip.Addr.Compare)
		a.Search = lastingLeft(now, h.search, cmp.Compare[string])
		a.PREF64 = lastingLeft(now, h.pref64, comparePrefixes)
		all = append(all, spec.HeardRouter{Advertisement: a, At: h.at})
	}
	return all
}

// remaining is a prefix with the lifetimes that are left.
func remaining(now time.Time, p item[spec.AdvertisedPrefix]) spec.AdvertisedPrefix {
	said := p.said
	said.Valid, said.Preferred = left(now, p.ends, said.Valid), left(now, p.preferred, said.Preferred)
	return said
}

func lastingLeft[T comparable](now time.Time, all items[T, spec.Lasting[T]], compare func(a, b T) int) (list []spec.Lasting[T]) {
	for _, x := range all.sorted(compare) {
		if lifetime := left(now, x.ends, x.said.Lifetime); lifetime > 0 {
			list = append(list, spec.Lasting[T]{Value: x.said.Value, Lifetime: lifetime})
		}
	}
	return list
}

func (all items[K, T]) sorted(compare func(a, b K) int) []item[T] {
	keys := make([]K, 0, len(all))
	for key := range all {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compare)
	list := make([]item[T], len(keys))
	for i, key := range keys {
		list[i] = all[key]
	}
	return list
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// sorted are the routers by address.
func (r routers) sorted() []*heard {
	all := make([]*heard, 0, len(r))
	for _, h := range r {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *heard) int { return a.header.Source.Compare(b.header.Source) })
	return all
}
