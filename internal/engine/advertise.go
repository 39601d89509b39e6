package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// What is advertised.
const (
	advertisedHopLimit = 64   // the kernel's own default
	defaultRouter      = 1800 // AdvDefaultLifetime, RFC 4861 §6.2.1
	announcedRoute     = 1800 // three intervals, RFC 4191 §4
	advertisedItem     = 1800 // likewise, RFC 8106 §5.1 and RFC 8781 §4.1

	// RFC 9096 §3.4: ND_PREFERRED_LIMIT and ND_VALID_LIMIT. A prefix that goes
	// without a word is out of use within the hour.
	preferredLimit = 2700
	validLimit     = 5400
)

// applyAdvertisements has every link told what the present networks have to say
// there, and takes back what none says any more. What a link was told goes to
// the journal first: a prefix that goes, even while no daemon runs, is withdrawn
// by name (RFC 9096 §3.5).
func (e *Engine) applyAdvertisements(ctx context.Context) error {
	return e.advertise(ctx, e.allNetworks(), sortedIDs(e.advertised))
}

// applyAdvertisementsOf is applyAdvertisements for a network that has come to others or has
// left them, which have nothing to say on its bridge.
func (e *Engine) applyAdvertisementsOf(ctx context.Context, n *network) error {
	if n.Options.Advertise.Announce { // on a parent, where others may announce as well
		return e.applyAdvertisements(ctx)
	}
	var networks []*network
	if _, here := e.networks[n.ID]; here {
		networks = append(networks, n)
	}
	var told []string
	if _, ok := e.advertised[n.Bridge()]; ok {
		told = append(told, n.Bridge())
	}
	return e.advertise(ctx, networks, told)
}

// advertise has links told what networks have to say, and takes back what they do not say any
// more on links that were told of something.
func (e *Engine) advertise(ctx context.Context, networks []*network, told []string) error {
	wanted, kept := e.advertisements(networks)
	now := e.Clock.Now().UTC().Truncate(time.Second)
	var errs []error
	for _, link := range told {
		if _, ok := wanted[link]; ok || kept[link] {
			continue
		}
		if e.inherited[link] {
			// A daemon that has just started has told nothing yet, so has nothing to take
			// back. It names what an earlier one has told.
			e.Advertisers.Advertise(withdrawing(e.advertised[link], spec.Advertisement{Link: link, Source: e.advertised[link].Source}, now))
		}
		e.Advertisers.Withdraw(ctx, link)
		if err := e.Journal.DeleteAdvertised(link); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(e.advertised, link)
		delete(e.inherited, link)
	}
	var news []spec.Advertisement
	for _, link := range slices.Sorted(maps.Keys(wanted)) {
		before, told := e.advertised[link]
		wanted[link] = withdrawing(before, wanted[link], now)
		if !told || !reflect.DeepEqual(before, wanted[link]) {
			news = append(news, wanted[link])
		}
	}
	if len(news) > 0 {
		if err := e.Journal.PutAdvertised(news...); err != nil {
			for _, a := range news {
				delete(wanted, a.Link)
			}
			errs = append(errs, fmt.Errorf("advertise: %w", err))
			news = nil
		}
	}
	for _, a := range news {
		e.advertised[a.Link] = a
	}
	for _, link := range slices.Sorted(maps.Keys(wanted)) {
		delete(e.inherited, link)
		e.Advertisers.Advertise(wanted[link])
	}
	e.Advertisers.Listen(e.parents())
	return errors.Join(errs...)
}

// parents are the links on which the networks' upstream routers are.
func (e *Engine) parents() []string {
	var parents []string
	for _, n := range e.networks {
		if n.parent != "" && !n.Internal {
			parents = append(parents, n.parent)
		}
	}
	slices.Sort(parents)
	return slices.Compact(parents)
}

// advertisements are what networks have to say, by link. Kept links are those of
// networks that are not applied yet: what they were told stands until then.
func (e *Engine) advertisements(networks []*network) (wanted map[string]spec.Advertisement, kept map[string]bool) {
	wanted, kept = map[string]spec.Advertisement{}, map[string]bool{}
	for _, n := range networks {
		switch {
		case !n.isRouted():
			continue
		case n.mtu == 0:
			kept[n.Bridge()] = true
			if n.Options.Advertise.Announce {
				kept[n.parent] = true
			}
			continue
		case n.Options.RA != spec.SwitchOff && n.Options.GatewayMode6 != spec.GatewayIsolated:
			wanted[n.Bridge()] = n.advertisement()
		}
		for _, route := range n.announcedRoutes() {
			for _, link := range e.announcedOn(n, route) {
				a := wanted[link]
				a.Link = link
				a.Routes = append(a.Routes, route)
				wanted[link] = a
			}
		}
	}
	return wanted, kept
}

// announcedOn are the links that are told a network's route: its parent. While
// there is none, since the default route is away for a moment or for good, it is
// those that were told before: they reach the network as they did.
func (e *Engine) announcedOn(n *network, route spec.AdvertisedRoute) []string {
	if n.parent != "" {
		return []string{n.parent}
	}
	var links []string
	for _, link := range sortedIDs(e.advertised) {
		if slices.Contains(e.advertised[link].Routes, route) {
			links = append(links, link)
		}
	}
	return links
}

// advertisement is what a network's containers are told. Docker has given them
// addresses and a default route already; a default route by advertisement beside
// it does harm (docs/ra.md), so that it is there only when it is asked for.
func (n *network) advertisement() spec.Advertisement {
	o := n.Options.Advertise
	a := spec.Advertisement{
		Link:     n.Bridge(),
		Source:   spec.LinkLocalGateway(n.ID).Addr(), // the next hop that containers have
		HopLimit: advertisedHopLimit,
		MTU:      n.mtu,
		DNS:      lasting(o.DNS...), Search: lasting(o.Search...), CaptivePortal: o.CaptivePortal,
	}
	if !o.NoUpstream {
		a.Upstream = n.parent
	}
	if o.PREF64.IsValid() {
		a.PREF64 = lasting(o.PREF64)
	}
	switch {
	case o.Lifetime != nil:
		a.RouterLifetime = *o.Lifetime
	case n.Options.RA == spec.SwitchOn:
		a.RouterLifetime = defaultRouter
	}
	if a.RouterLifetime > 0 {
		a.Preference = spec.PreferenceLow // a route that somebody has set comes first (RFC 4191 §2.1)
	}
	for _, s := range n.Present() {
		p := spec.AdvertisedPrefix{
			Prefix:     s.Prefix,
			OnLink:     n.Options.ICC,
			Autonomous: n.autonomous(s),
			Valid:      validLimit,
			Preferred:  preferredLimit,
			Upstream:   s.OnLink && (s.Lent == nil || s.Lent.IsShared()) && a.Upstream != "",
		}
		if s.Lent != nil {
			lent := s.Lent.Prefixes[0]
			p.PreferredUntil, p.ValidUntil = lent.Preferred, lent.Valid
			if lent.Former {
				// RFC 9096 §3.5: hosts begin nothing with it any more.
				p.Preferred, p.PreferredUntil = 0, time.Time{}
			}
		}
		a.Prefixes = append(a.Prefixes, p)
	}
	return a
}

func lasting[T comparable](values ...T) (all []spec.Lasting[T]) {
	for _, v := range values {
		all = append(all, spec.Lasting[T]{Value: v, Lifetime: advertisedItem})
	}
	return all
}

// autonomous reports whether hosts make addresses of a subnet themselves; they
// can of a /64 alone (RFC 4862 §5.5.3 d).
func (n *network) autonomous(s spec.Subnet) bool {
	return n.Options.Advertise.Autonomous && s.Prefix.Bits() == 64
}

// announcedRoutes are a network's pools that the parent link is told of: those
// that are reached through this host alone. An on-link pool is found by neighbor
// discovery, and nobody outside may see a masqueraded one.
func (n *network) announcedRoutes() []spec.AdvertisedRoute {
	if !n.Options.Advertise.Announce || n.Internal {
		return nil
	}
	var routes []spec.AdvertisedRoute
	for _, s := range n.Present() {
		s = s.FromOutside()
		if !s.OnLink && !n.MasqueradesIPv6(s) {
			routes = append(routes, spec.AdvertisedRoute{Prefix: s.Prefix, Lifetime: announcedRoute})
		}
	}
	return routes
}

// withdrawing adds to an advertisement what was said before and is said no
// more, with lifetimes of 0, for as long as somebody may still use it: of prefixes those
// that went last, since an advertisement is one packet.
func withdrawing(before, a spec.Advertisement, now time.Time) spec.Advertisement {
	most := len(a.Prefixes) + mostFormer
	for _, p := range before.Prefixes {
		if len(a.Prefixes) >= most {
			break
		}
		if slices.ContainsFunc(a.Prefixes, func(q spec.AdvertisedPrefix) bool { return p.Prefix == q.Prefix }) {
			continue
		}
		if p.Until.IsZero() {
			p.Until = now.Add(p.Valid.Duration())
			p.Valid, p.Preferred = 0, 0
		}
		if now.Before(p.Until) {
			a.Prefixes = append(a.Prefixes, p)
		}
	}
	for _, r := range before.Routes {
		if slices.ContainsFunc(a.Routes, func(q spec.AdvertisedRoute) bool { return r.Prefix == q.Prefix }) {
			continue
		}
		if r.Until.IsZero() {
			r.Until = now.Add(r.Lifetime.Duration())
			r.Lifetime = 0
		}
		if now.Before(r.Until) {
			a.Routes = append(a.Routes, r)
		}
	}
	a.DNS, a.Search, a.PREF64 = withdrawn(before.DNS, a.DNS, now), withdrawn(before.Search, a.Search, now), withdrawn(before.PREF64, a.PREF64, now)
	return a
}

func withdrawn[T comparable](before, all []spec.Lasting[T], now time.Time) []spec.Lasting[T] {
	for _, s := range before {
		if slices.ContainsFunc(all, func(q spec.Lasting[T]) bool { return s.Value == q.Value }) {
			continue
		}
		if s.Until.IsZero() {
			s.Until = now.Add(s.Lifetime.Duration())
			s.Lifetime = 0
		}
		if now.Before(s.Until) {
			all = append(all, s)
		}
	}
	return all
}
