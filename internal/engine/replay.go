package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// Replay brings the kernel to what the journal holds and removes what is ours
// and not in it. It runs once, before any front end is served. Running
// containers do not notice. A network that cannot be brought back is degraded
// and does not keep the others from it.
func (e *Engine) Replay(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.networks {
		n.uplink = e.findUplink(ctx, n) // before the first ruleset is built: it must not cut running containers off
	}
	if err := e.finishInterrupted(ctx); err != nil {
		return fmt.Errorf("finish what was interrupted: %w", err)
	}
	if err := e.sweepLeases(); err != nil {
		return err
	}
	links, err := e.sweepLinks(ctx)
	if err != nil {
		return fmt.Errorf("remove leftover links: %w", err)
	}
	for _, ep := range e.endpoints {
		_, present := links[spec.VethName(ep.ID)]
		ep.linkGone = ep.Joined && !present
		ep.announced = present && ep.Joined
	}
	e.reapply(ctx, e.allNetworks()...)
	return nil
}

// restoreEndpoint brings an endpoint back. One whose container's end went with
// its sandbox cannot be: the container engine will delete it.
func (e *Engine) restoreEndpoint(ctx context.Context, n *network, ep *endpoint) error {
	if ep.linkGone {
		return nil
	}
	if err := e.applyEndpoint(ctx, n, ep); err != nil {
		return fmt.Errorf("endpoint %s: %w", spec.ShortID(ep.ID), err)
	}
	return nil
}

// finishInterrupted completes deletions and takes creations back: a front end
// that had no answer asks again.
func (e *Engine) finishInterrupted(ctx context.Context) error {
	var errs []error
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		if _, ok := e.networks[ep.NetworkID]; !ok || ep.Phase != spec.PhaseReady {
			errs = append(errs, e.dropEndpoint(ctx, ep))
		}
	}
	for _, id := range sortedIDs(e.networks) {
		if n := e.networks[id]; n.Phase != spec.PhaseReady {
			errs = append(errs, e.dropNetwork(ctx, n))
		}
	}
	return errors.Join(errs...)
}

// sweepLeases drops leases of our networks' pools that no endpoint, gateway or
// auxiliary address accounts for: the front end was cut off between asking for
// an address and using it. CreateEndpoint takes such a lease again.
func (e *Engine) sweepLeases() error {
	for _, p := range e.pools {
		n := e.networkUsing(p.Prefix)
		if n == nil {
			continue // another driver's network: its endpoints are unknown to us
		}
		keep := map[netip.Addr]bool{}
		for _, s := range n.Subnets() {
			keep[s.Gateway] = true
			for _, a := range s.Aux {
				keep[a] = true
			}
		}
		for a := range p.addrs.All() {
			if _, used := e.byAddr[a]; used || keep[a] {
				continue
			}
			if err := e.Journal.DeleteLease(p.ID, a); err != nil {
				return err
			}
			p.addrs.Release(a)
			e.Log.Info("lease without an endpoint released", "pool", p.ID, "address", a)
		}
	}
	return nil
}

// sweepLinks removes links that carry our mark and are nobody's, and answers those that stay.
func (e *Engine) sweepLinks(ctx context.Context) (map[string]struct{}, error) {
	wanted := map[string]bool{}
	for id := range e.networks {
		wanted[spec.NetworkAlias(id)] = true
	}
	for id := range e.endpoints {
		wanted[spec.EndpointAlias(id)] = true
	}
	owned, err := e.Links.Owned(ctx)
	if err != nil {
		return nil, err
	}
	present := map[string]struct{}{}
	var errs []error
	for _, l := range owned {
		if wanted[l.Alias] || !strings.HasPrefix(l.Alias, spec.LinkAliasMark) {
			present[l.Name] = struct{}{}
			continue
		}
		e.Log.Info("leftover link removed", "link", l.Name, "alias", l.Alias)
		errs = append(errs, e.Links.Remove(ctx, l.Name, l.Alias))
	}
	return present, errors.Join(errs...)
}
