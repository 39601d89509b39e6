package ra

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// maxRouters bounds the other routers of a link that are kept in mind.
const maxRouters = 16

// routers are the others of a link, by address, with what they last said.
type routers map[netip.Addr]heard

type heard struct {
	Decoded
	at time.Time
}

// hear takes in a valid advertisement.
func (r routers) hear(now time.Time, source netip.Addr, b []byte) {
	r.expire(now)
	if _, known := r[source]; known || len(r) < maxRouters {
		r[source] = heard{Decode(b), now}
	}
}

// expire forgets routers that have been silent for longer than anybody may be.
func (r routers) expire(now time.Time) {
	for source, h := range r {
		if now.Sub(h.at) > 3*defaultInterval {
			delete(r, source)
		}
	}
}

// status is what each has said last.
func (r routers) status() []spec.HeardRouter {
	var all []spec.HeardRouter
	for _, source := range r.sorted() {
		h := spec.HeardRouter{Advertisement: r[source].Advertisement, At: r[source].at}
		h.Source = source
		all = append(all, h)
	}
	return all
}

// follow takes the M and O flags over from the default routers of a link on
// which we are none: a host keeps those of the last advertisement that it heard
// (RFC 4861 §6.3.4), and they are not for us to change.
func (r routers) follow(a spec.Advertisement) spec.Advertisement {
	if a.RouterLifetime > 0 {
		return a
	}
	for _, h := range r {
		if h.RouterLifetime > 0 {
			a.Managed = a.Managed || h.Managed
			a.Other = a.Other || h.Other
		}
	}
	return a
}

func (r routers) sorted() []netip.Addr {
	sources := make([]netip.Addr, 0, len(r))
	for source := range r {
		sources = append(sources, source)
	}
	slices.SortFunc(sources, netip.Addr.Compare)
	return sources
}

// announces is the router that advertises a route to p.
func (r routers) announces(now time.Time, p netip.Prefix) (netip.Addr, bool) {
	for _, source := range r.sorted() {
		for _, route := range r[source].Routes {
			if route.Prefix == p && now.Before(r[source].at.Add(route.Lifetime.Duration())) {
				return source, true
			}
		}
	}
	return netip.Addr{}, false
}

// yield leaves out routes that another router has announced before us, and says
// so. Those that are ours already stay: of two hosts that announce the same the
// first one does, and not neither.
func (r routers) yield(now time.Time, a spec.Advertisement, ours map[netip.Prefix]bool) (spec.Advertisement, []string) {
	var notes []string
	a.Routes = slices.DeleteFunc(slices.Clone(a.Routes), func(route spec.AdvertisedRoute) bool {
		source, taken := r.announces(now, route.Prefix)
		switch {
		case !taken:
			return false
		case ours[route.Prefix] || !route.Until.IsZero():
			notes = append(notes, fmt.Sprintf("router %s announces route %s, too", source, route.Prefix))
			return false
		default:
			notes = append(notes, fmt.Sprintf("route %s is not announced: router %s announces it already", route.Prefix, source))
			return true
		}
	})
	return a, notes
}

// disagreements are the inconsistencies that RFC 4861 §6.2.7 has a router log:
// what another router says that differs from a, where both say something.
func (r routers) disagreements(a spec.Advertisement) []string {
	var notes []string
	for _, source := range r.sorted() {
		other := r[source]
		differ := func(what string, theirs, ours any) {
			notes = append(notes, fmt.Sprintf("router %s advertises %s %v, this host %v", source, what, theirs, ours))
		}
		if other.HopLimit != 0 && a.HopLimit != 0 && other.HopLimit != a.HopLimit {
			differ("hop limit", other.HopLimit, a.HopLimit)
		}
		if other.MTU != 0 && a.MTU != 0 && other.MTU != a.MTU {
			differ("MTU", other.MTU, a.MTU)
		}
		for _, p := range a.Prefixes {
			for _, o := range other.Prefixes {
				if p.Until.IsZero() && o.Prefix.Masked() == p.Prefix.Masked() && (o.Valid != p.Valid || o.Preferred != p.Preferred) {
					differ("prefix "+p.Prefix.String()+" with lifetimes", fmt.Sprintf("%d/%d s", o.Valid, o.Preferred), fmt.Sprintf("%d/%d s", p.Valid, p.Preferred))
				}
			}
		}
		if other.RouterLifetime > 0 && a.RouterLifetime > 0 {
			notes = append(notes, fmt.Sprintf("router %s advertises itself as a default router, too", source))
		}
	}
	return notes
}
