package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/clock"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/kernel/watch"
	"github.com/v6net/v6net/internal/spec"
)

// observe passes on what the kernel says.
func (d *daemon) observe(ctx context.Context) func(watch.Event) {
	up := d.linksUp(ctx) // many a change of a link that is up is not of what is behind it
	return func(ev watch.Event) {
		switch {
		case ev.Kind == watch.Resync:
			d.engine.Resync(ctx)
			now := d.linksUp(ctx)
			for _, link := range cameUp(up, now) {
				d.sources.LinkChanged(link)
			}
			up = now
			d.sources.AddressesChanged("")
		case ev.Kind == watch.Namespace:
			d.engine.NamespaceGone()
		case ev.Kind == watch.Link:
			if ev.Renamed != "" {
				d.engine.LinkRenamed(ctx, ev.Link, ev.Renamed)
			}
			d.engine.LinkChanged(ctx, ev.Link, ev.Up, ev.Deleted)
			if ev.Up && !up[ev.Link] {
				d.sources.LinkChanged(ev.Link)
			}
			if delete(up, ev.Link); ev.Up && !ev.Deleted {
				up[ev.Link] = true
			}
		case ev.Kind == watch.Address && ev.Prefix.Addr().IsLinkLocalUnicast():
			d.proxy.LinkChanged(ev.Link) // what they advertise comes from that address
			d.advertisers.LinkChanged(ev.Link)
			if !ev.Deleted {
				d.sources.LinkChanged(ev.Link)
			}
		case ev.Kind == watch.Address && ev.Prefix.Addr().Is6(), ev.Kind == watch.Route && route.IsOfLink(ev.Protocol, ev.Prefix):
			if !ev.Deleted {
				d.engine.AddressesChanged(ctx)
			}
			d.sources.AddressesChanged(ev.Link)
		case ev.Kind == watch.Route && ev.Prefix.Bits() == 0:
			d.engine.RoutesChanged(ctx)
		case ev.Kind == watch.Route && ev.Deleted && ev.Protocol == route.Protocol: // of a router's there may be no end
			d.engine.RouteGone(ev.Prefix)
		}
	}
}

// linksUp are the links that are up and have a carrier. Where the host does not say,
// none are known to be.
func (d *daemon) linksUp(ctx context.Context) map[string]bool {
	up := map[string]bool{}
	links, err := d.links.Usable(ctx)
	if err != nil {
		return up
	}
	for _, l := range links {
		up[l] = true
	}
	return up
}

// cameUp are the links that are up now and were not before.
func cameUp(before, now map[string]bool) []string {
	var links []string
	for _, link := range slices.Sorted(maps.Keys(now)) {
		if !before[link] {
			links = append(links, link)
		}
	}
	return links
}

// clockChanged passes on that the wall clock was set, or that the machine has slept.
func (d *daemon) clockChanged(ctx context.Context, doubt *clock.Doubt, log *slog.Logger) {
	slept, set, ok := doubt.Arises()
	if !ok {
		return
	}
	if err := d.journal.PutClock(d.clock.Record()); err != nil {
		log.Error("how far the wall clock is off", "err", err)
	}
	log.Info("the clock was set, or the machine has slept: what is lent is asked for anew", "slept", slept.Round(time.Second), "set", set.Round(time.Second))
	d.sources.ClockChanged()
	d.engine.ClockChanged(ctx)
}

// lent passes on what sources lend; none does before the engine is there.
func (d *daemon) lent(ctx context.Context, source spec.Source, link string, lent []spec.Delegation) {
	d.engine.DelegationsChanged(ctx, source, link, lent)
}
