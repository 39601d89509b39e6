package ra

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// announcesOnly reports whether routes are all that is said: to the parent link,
// where this host is no router otherwise.
func announcesOnly(a spec.Advertisement) bool {
	return len(a.Routes) > 0 && a.RouterLifetime == 0 && a.HopLimit == 0 && a.MTU == 0 && len(a.Prefixes) == 0
}

// follow takes the M and O flags over from the default routers of a link on
// which we announce routes alone: a host keeps those of the last advertisement
// that it heard (RFC 4861 §6.3.4), and there they are not for us to change. On a
// network's own link they are, and no container's.
func (r routers) follow(now time.Time, a spec.Advertisement) spec.Advertisement {
	if !announcesOnly(a) {
		return a
	}
	for _, h := range r {
		if h.defaults(now) {
			a.Managed = a.Managed || h.header.Managed
			a.Other = a.Other || h.header.Other
		}
	}
	return a
}

// announces is the router that advertises a route to p: a default router before
// others, then the lowest address.
func (r routers) announces(now time.Time, p netip.Prefix) (found *heard) {
	for _, h := range r.sorted() {
		if route, ok := h.routes[p]; ok && now.Before(route.ends) && (found == nil || h.defaults(now) && !found.defaults(now)) {
			found = h
		}
	}
	return found
}

// claims are a host's own announced routes.
type claims struct {
	source netip.Addr
	ours   map[netip.Prefix]bool      // announced by us at last
	told   map[netip.Prefix]time.Time // until when hosts may use them by us
}

// inherit takes over what an earlier daemon told. When it last did is not known:
// just now, at the latest.
func (c *claims) inherit(now time.Time, routes []spec.AdvertisedRoute) {
	for _, r := range routes {
		if r.Lifetime > 0 {
			c.told[r.Prefix] = ends(now, r.Lifetime)
		}
	}
}

// yield leaves out routes that another router announces, and says so: any that
// was there before us, and of those that have begun at the same time a default
// router and the lowest address. Each host that decides so comes to the same,
// so that in the end one announces, and not both or neither. What others
// may still use by us is taken back by name.
func (r routers) yield(now time.Time, a spec.Advertisement, c claims) (spec.Advertisement, []string) {
	var notes []string
	var routes []spec.AdvertisedRoute
	for _, route := range a.Routes {
		other := r.announces(now, route.Prefix)
		switch {
		case other == nil || !route.Until.IsZero():
			routes = append(routes, route)
		case c.ours[route.Prefix] && !other.defaults(now) && c.source.Less(other.header.Source):
			notes = append(notes, fmt.Sprintf("router %s announces route %s, too", other.header.Source, route.Prefix))
			routes = append(routes, route)
		default:
			notes = append(notes, fmt.Sprintf("route %s is not announced: router %s announces it already", route.Prefix, other.header.Source))
			if until := c.told[route.Prefix]; now.Before(until) {
				route.Lifetime, route.Until = 0, until
				routes = append(routes, route)
			}
		}
	}
	a.Routes = routes
	return a, notes
}

// disagreements are the inconsistencies that RFC 4861 §6.2.7 has a router log:
// what another router says that differs from a, where both say something.
func (r routers) disagreements(now time.Time, a spec.Advertisement) []string {
	var notes []string
	for _, other := range r.sorted() {
		differ := func(what string, theirs, ours any) {
			notes = append(notes, fmt.Sprintf("router %s advertises %s %v, this host %v", other.header.Source, what, theirs, ours))
		}
		if other.header.HopLimit != 0 && a.HopLimit != 0 && other.header.HopLimit != a.HopLimit {
			differ("hop limit", other.header.HopLimit, a.HopLimit)
		}
		if other.header.MTU != 0 && a.MTU != 0 && other.header.MTU != a.MTU {
			differ("MTU", other.header.MTU, a.MTU)
		}
		for _, p := range a.Prefixes {
			if o, ok := other.prefixes[p.Prefix.Masked()]; ok && p.Until.IsZero() && (o.said.Valid != p.Valid || o.said.Preferred != p.Preferred) {
				differ("prefix "+p.Prefix.String()+" with lifetimes", fmt.Sprintf("%d/%d s", o.said.Valid, o.said.Preferred), fmt.Sprintf("%d/%d s", p.Valid, p.Preferred))
			}
		}
		if announcesOnly(a) || silent(a) {
			continue // the others are the link's routers
		}
		if other.header.Managed != a.Managed {
			differ("managed (M)", onOff(other.header.Managed), onOff(a.Managed))
		}
		if other.header.Other != a.Other {
			differ("other (O)", onOff(other.header.Other), onOff(a.Other))
		}
		switch {
		case !other.defaults(now):
		case a.RouterLifetime > 0:
			notes = append(notes, fmt.Sprintf("router %s advertises itself as a default router, too", other.header.Source))
		default:
			notes = append(notes, fmt.Sprintf("router %s advertises itself as a default router, which this host is not on this link", other.header.Source))
		}
	}
	return notes
}

func onOff(set bool) string {
	if set {
		return "on"
	}
	return "off"
}
