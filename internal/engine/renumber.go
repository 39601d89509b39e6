package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// DelegationsChanged takes in what a source lends on a link now: all of it. Networks
// that follow the source are renumbered, while their containers run.
func (e *Engine) DelegationsChanged(ctx context.Context, source spec.Source, link string, lent []spec.Delegation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := spec.SourceOnLink{Source: source, Link: link}
	before := e.lent[key]
	e.lent[key] = inSeconds(lent)
	if len(lent) > 0 {
		delete(e.silent, key)
	}
	e.tellDelegations(key, before, e.lent[key])
	e.followSources(ctx)
}

// inSeconds is what is lent, with lifetimes as they are compared with those of records.
func inSeconds(lent []spec.Delegation) []spec.Delegation {
	lent = slices.Clone(lent)
	for i := range lent {
		lent[i].Preferred, lent[i].Valid = spec.WholeSeconds(lent[i].Preferred), spec.WholeSeconds(lent[i].Valid)
	}
	return lent
}

// followSources brings all networks to what their sources lend now.
func (e *Engine) followSources(ctx context.Context) {
	now := e.Clock.Now()
	all := e.followers()
	plan := renumbering{networks: map[*network]spec.Network{}}
	if len(all) > 0 {
		plan.taken = e.prefixesInUse()
	}
	for _, source := range slices.SortedFunc(maps.Keys(all), compareSources) {
		e.planSource(ctx, now, source, all[source], &plan)
	}
	if plan.onlyProlongs() {
		e.prolong(ctx, plan.networks)
	} else {
		e.renumber(ctx, plan.networks)
	}
	e.planLapse(now)
}

// renumbering is what is about to be changed.
type renumbering struct {
	networks map[*network]spec.Network // as they are to be
	taken    []netip.Prefix            // by pools and networks, these included
}

// onlyProlongs reports whether nothing is changed but for how long what is in use lasts.
func (r renumbering) onlyProlongs() bool {
	timeless := func(subnets []spec.Subnet) []spec.Subnet {
		subnets = slices.Clone(subnets)
		for i, s := range subnets {
			if s.Lent == nil {
				continue
			}
			lent := *s.Lent
			lent.Prefixes = slices.Clone(lent.Prefixes)
			for j, p := range lent.Prefixes {
				if !p.Former { // whose time containers have, too
					lent.Prefixes[j].Preferred, lent.Prefixes[j].Valid = time.Time{}, time.Time{}
				}
			}
			subnets[i].Lent = &lent
		}
		return subnets
	}
	for n, to := range r.networks {
		if !reflect.DeepEqual(timeless(n.IPv6), timeless(to.IPv6)) {
			return false
		}
	}
	return true
}

// prolong takes in that prefixes in use last longer, or shorter, which concerns those alone
// who are told how long by router advertisement; and what is lent that nobody uses.
func (e *Engine) prolong(ctx context.Context, changed map[*network]spec.Network) {
	if len(changed) == 0 {
		e.minded(e.applyRoutes(ctx))
		return
	}
	if err := e.Journal.PutAll(slices.Collect(maps.Values(changed)), nil, nil); err != nil {
		e.Log.Error("note how long prefixes last", "err", err)
		e.later(minHealWait, e.followAgain)
		return
	}
	for n, to := range changed {
		n.Network = to
	}
	e.minded(errors.Join(e.applyRoutes(ctx), e.applyAdvertisements(ctx)))
}

// minded has what failed of the host's settings said, and done again.
func (e *Engine) minded(err error) {
	if err != nil {
		e.hostErr = errors.Join(e.hostErr, err)
		e.planHeal()
	}
}

func compareSources(a, b spec.SourceOnLink) int {
	return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Source, b.Source))
}

// planSource adds the networks that follow a source and are to be changed, as they
// are to be then.
func (e *Engine) planSource(ctx context.Context, now time.Time, source spec.SourceOnLink, followers []follower, plan *renumbering) {
	lent := e.lentBy(source, followers)
	_, said := e.lent[source]
	usable := prefix.Usable(lent, now)
	var claims []prefix.Claim
	for _, f := range followers {
		claims = append(claims, f.claim(e, usable))
	}
	taken := e.takenOf(ctx, usable, claims, plan.taken)
	if source.IsShared() {
		taken = append(taken, e.sharedByOthers(usable, claims)...)
	}
	got, failed := prefix.Assign(usable, claims, taken)
	for _, a := range got {
		plan.taken = append(plan.taken, a.Part)
	}
	for _, f := range followers {
		if f.network == nil {
			continue // its containers are another driver's
		}
		l := *f.lent()
		var part *prefix.Assigned
		key := f.prefix().String()
		if a, ok := got[key]; ok {
			part = &a
		}
		if part != nil && source.IsShared() && !l.Uses(part.Part) {
			if err := e.isFreePart(f, *part); err != nil {
				part, failed[key] = nil, err
			}
		}
		if part == nil && source.IsShared() && !errors.Is(failed[key], prefix.ErrNothingLent) {
			part = f.inUseYet(lent, now) // until there is another one
		}
		f.network.noteParts(f.prefix(), failed[key])
		if part == nil && l.Fallback == spec.FallbackULA && !l.ULA.IsValid() {
			l.ULA = e.fallbackPrefix(ctx, f.prefix().Bits(), plan.taken)
			plan.taken = append(plan.taken, l.ULA)
		}
		to := followed(l, part, lent, said, now)
		if reflect.DeepEqual(to, *f.lent()) {
			continue
		}
		if err := failed[key]; err != nil && part == nil {
			e.Log.Warn("network has lost its prefix", aboutNetwork(f.network.Network, "source", source.Source, "link", source.Link, "err", err)...)
		}
		n, begun := plan.networks[f.network]
		if !begun {
			n = f.network.Network
			n.IPv6 = slices.Clone(n.IPv6)
		}
		n.IPv6[f.subnet].Lent = &to
		plan.networks[f.network] = n
	}
}

// takenOf is what others have of delegations: of inUse, our pools and networks, those
// that make no claim, and what the host has beside them. Routes to a whole delegation say
// how it comes here, or that the rest of it is nobody's.
func (e *Engine) takenOf(ctx context.Context, lent []spec.Delegation, claims []prefix.Claim, inUse []netip.Prefix) []netip.Prefix {
	seeks := func(c prefix.Claim) bool { return !c.Has.IsValid() }
	if len(lent) == 0 || !slices.ContainsFunc(claims, seeks) {
		return nil // nobody looks for a part
	}
	taken := slices.DeleteFunc(slices.Clone(inUse), func(t netip.Prefix) bool {
		return slices.ContainsFunc(claims, func(c prefix.Claim) bool { return slices.Contains(c.Own, t) })
	})
	host, err := e.Host.Taken(ctx, spec.Everywhere(true))
	if err != nil {
		e.Log.Warn("what the host has of what is lent", "err", err)
	}
	for _, t := range host {
		inside := slices.ContainsFunc(lent, func(d spec.Delegation) bool { return t.Bits() > d.Prefix.Bits() && d.Prefix.Overlaps(t) })
		ours := slices.ContainsFunc(claims, func(c prefix.Claim) bool { return slices.ContainsFunc(c.Own, t.Overlaps) })
		if inside && !ours {
			taken = append(taken, t)
		}
	}
	return taken
}

// fallbackPrefix is a unique local prefix for a network that has lost its own; zero
// where none can be had.
func (e *Engine) fallbackPrefix(ctx context.Context, bits int, taken []netip.Prefix) netip.Prefix {
	request := spec.PoolRequest{V6: true, Source: spec.SourceULA, Bits: bits, Allocation: spec.Sequential}
	p, err := prefix.Choose(ctx, chooser{e.Host, e, false}, request, taken, e.globalID, e.seed)
	if err != nil {
		e.Log.Error("fallback for a lost prefix", "err", err)
		return netip.Prefix{}
	}
	return p.Prefix
}

// renumber brings networks to other prefixes: into the journal, then into the kernel,
// as a start would do with what the journal holds. First the bridges, then the rules,
// and the containers last, whose new addresses are of use from then on.
func (e *Engine) renumber(ctx context.Context, changed map[*network]spec.Network) {
	var networks []*network
	var records []spec.Network
	for _, n := range e.allNetworks() {
		if to, ok := changed[n]; ok {
			networks, records = append(networks, n), append(records, to)
		}
	}
	var endpoints []*endpoint
	gone := map[netip.Addr]bool{}
	before := make([]spec.Network, len(networks))
	withNobodys := make([][]netip.Prefix, len(networks))
	for i, n := range networks {
		before[i], withNobodys[i] = n.Network, n.withNobodys()
		for _, ep := range e.endpointsOf(n.ID) {
			endpoints = append(endpoints, ep)
			for _, a := range n.AddressesOf(ep.Endpoint) {
				gone[a] = true
			}
		}
	}
	settled, takeBack := e.settleOn(networks, records, endpoints)
	if err := e.Journal.PutAll(records, nil, settled.records()); err != nil {
		takeBack()
		e.Log.Error("renumber", "err", err)
		e.later(minHealWait, e.followAgain)
		return
	}
	for i := range networks {
		e.logRenumbered(before[i], records[i])
		e.tellRenumbered(before[i], records[i])
	}
	for _, ep := range endpoints {
		for _, a := range e.addressesOf(ep) {
			delete(gone, a)
		}
	}
	e.probeAnew(before, records)
	e.reapply(ctx, networks...)
	e.forgetNewlyTranslated(ctx, settled)
	if len(gone) > 0 {
		if err := e.Conntrack.Forget(ctx, slices.Collect(maps.Keys(gone))); err != nil {
			e.Log.Error("forget connections of addresses that are gone", "err", err)
		}
	}
	var pools []netip.Prefix
	for i, n := range networks {
		now := n.withNobodys()
		pools = append(pools, slices.DeleteFunc(withNobodys[i], func(p netip.Prefix) bool { return slices.Contains(now, p) })...)
	}
	if err := e.forgetPools(ctx, pools); err != nil {
		e.Log.Error("forget connections of prefixes that are gone", "err", err)
	}
}

// followAgain is followSources for later.
func (e *Engine) followAgain() {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	e.followSources(ctx)
}

// logRenumbered says what becomes of a network's prefixes; that they last longer is no news.
func (e *Engine) logRenumbered(from, to spec.Network) {
	list := func(n spec.Network) (words []string) {
		for _, s := range n.Present() {
			if s.Lent == nil {
				continue
			}
			word := s.Prefix.String()
			if s.Lent.Prefixes[0].Former {
				word += " (former)"
			}
			words = append(words, word)
		}
		return words
	}
	if was, is := list(from), list(to); !slices.Equal(was, is) {
		e.Log.Info("network renumbered", aboutNetwork(to, "from", was, "to", is)...)
	}
}

// ClockChanged takes in that the wall clock was set, or that the machine has slept, with
// all that was to be done meanwhile.
func (e *Engine) ClockChanged(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lapseDue = time.Time{} // counted in time that stood still
	e.followSources(ctx)
}

// planLapse has networks looked at again when the next lifetime of theirs ends,
// whether their sources say something then or not.
func (e *Engine) planLapse(now time.Time) {
	var next time.Time
	for _, n := range e.networks {
		for _, s := range n.Present() {
			if s.Lent == nil {
				continue
			}
			for _, t := range []time.Time{s.Lent.Prefixes[0].Preferred, s.Lent.Prefixes[0].Valid} {
				if t.After(now) && (next.IsZero() || t.Before(next)) {
					next = t
				}
			}
		}
	}
	if next.IsZero() || !e.lapseDue.IsZero() && !next.Before(e.lapseDue) {
		return
	}
	e.lapseDue = next
	e.later(next.Sub(now), func() {
		if e.lapseDue.Equal(next) {
			e.lapseDue = time.Time{}
			e.followAgain()
		}
	})
}
