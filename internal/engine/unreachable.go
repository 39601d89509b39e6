package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// applyRoutes has what is lent and used by nobody lead nowhere, and takes that back
// for what is lent no more. Neighbours ask for addresses of an on-link delegation,
// so that there is nothing to send back.
func (e *Engine) applyRoutes(ctx context.Context) error {
	wanted := map[netip.Prefix]bool{}
	said := true // by all sources of networks, since the daemon's start
	for source, followers := range e.followers() {
		if !slices.ContainsFunc(followers, func(f follower) bool { return f.network != nil }) {
			continue
		}
		if _, now := e.lent[source]; !now {
			said = false
		}
		for _, d := range e.lentBy(source, followers) {
			if !d.OnLink && d.Prefix.IsValid() {
				wanted[d.Prefix.Masked()] = true
			}
		}
		for _, f := range followers {
			for _, p := range f.lent().Prefixes {
				if p.Of.IsValid() && !p.OnLink {
					wanted[p.Of] = true
				}
			}
		}
	}
	if e.unreachable == nil {
		present, err := e.Routes.Unreachable(ctx)
		if err != nil {
			return fmt.Errorf("routes of what is lent: %w", err)
		}
		e.unreachable = map[netip.Prefix]bool{}
		for _, p := range present {
			e.unreachable[p] = true
		}
	}
	var errs []error
	for _, p := range slices.SortedFunc(maps.Keys(wanted), netip.Prefix.Compare) {
		if e.unreachable[p] {
			continue
		}
		if err := e.Routes.EnsureUnreachable(ctx, p); err != nil {
			errs = append(errs, err)
			continue
		}
		e.unreachable[p] = true
	}
	for _, p := range slices.SortedFunc(maps.Keys(e.unreachable), netip.Prefix.Compare) {
		if wanted[p] || !said {
			continue
		}
		if err := e.Routes.RemoveUnreachable(ctx, p); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(e.unreachable, p)
	}
	if len(errs) > 0 {
		e.unreachable = nil // what failed may have been done all the same
	}
	return errors.Join(errs...)
}

// RouteGone takes in that an unreachable route of ours is no more. One that somebody else
// has removed is made again, after a moment: whoever does it again and again is not to
// keep this host busy.
func (e *Engine) RouteGone(prefix netip.Prefix) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.unreachable[prefix] {
		return
	}
	e.Log.Warn("unreachable route was removed by somebody else; making it again", "prefix", prefix)
	e.unreachable = nil
	e.later(minHealWait, func() {
		if e.unreachable != nil {
			return // it was, with something else
		}
		ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
		defer cancel()
		e.minded(e.applyRoutes(ctx))
	})
}
