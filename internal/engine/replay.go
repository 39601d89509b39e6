package engine

import (
	"context"
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
	// Before the first ruleset is built: it must not cut running containers off.
	e.defaultLinks = e.findDefaultLinks(ctx)
	for _, n := range e.networks {
		n.parent = e.findParent(ctx, n)
	}
	e.finishInterrupted(ctx)
	present, err := e.matchLinks(ctx)
	if err != nil {
		return err
	}
	e.dropDeparted(ctx, present)
	e.sweepPools()
	for _, ep := range e.endpoints {
		ep.announced = ep.Joined && !ep.linkGone // neighbours were told before the restart
	}
	e.reapply(ctx, e.allNetworks()...)
	for id, p := range e.pools {
		if p.OnLink && e.networkUsing(p.Prefix) != nil {
			e.wantRefill(id)
		}
	}
	return nil
}

// dropDeparted removes endpoints whose container ended while no daemon ran, and
// about which the container engine has given up telling us: their link is gone,
// or its other end is back in the host's namespace. A call for one of them that
// does come finds nothing, which is no error.
func (e *Engine) dropDeparted(ctx context.Context, present map[string]struct{}) {
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		if _, back := present[spec.SandboxName(id)]; !ep.Joined || !ep.linkGone && !back {
			continue
		}
		e.Log.Info("endpoint removed, its container ended meanwhile", "network", ep.NetworkID, "endpoint", id)
		if err := e.dropEndpoint(ctx, ep); err != nil {
			e.Log.Error("remove endpoint", "network", ep.NetworkID, "endpoint", id, "err", err)
		}
	}
}

// matchLinks removes links that are ours and nobody's, takes in which endpoints
// have lost theirs, and answers the links that are there.
func (e *Engine) matchLinks(ctx context.Context) (map[string]struct{}, error) {
	present, err := e.sweepLinks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the links of ours: %w", err)
	}
	for _, ep := range e.endpoints {
		_, ok := present[spec.VethName(ep.ID)]
		if ep.linkGone = ep.Joined && !ok; ep.linkGone {
			ep.announced = false
			e.setProxied(ep, "")
		}
	}
	return present, nil
}

// restoreEndpoint brings an endpoint back, or finishes its interrupted deletion.
// One whose container's end went with its sandbox cannot be brought back: the
// container engine will delete it.
func (e *Engine) restoreEndpoint(ctx context.Context, n *network, ep *endpoint) error {
	var err error
	switch {
	case ep.Phase != spec.PhaseReady:
		err = e.dropEndpoint(ctx, ep)
	case !ep.linkGone:
		err = e.applyEndpoint(ctx, n, ep)
	}
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", spec.ShortID(ep.ID), err)
	}
	return nil
}

// finishInterrupted completes deletions and takes creations back: a front end
// that had no answer asks again. What cannot be finished now stays as it is,
// degraded, and is tried again with the next change of a link or route.
func (e *Engine) finishInterrupted(ctx context.Context) {
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		if _, ok := e.networks[ep.NetworkID]; !ok || ep.Phase != spec.PhaseReady {
			if err := e.dropEndpoint(ctx, ep); err != nil {
				e.Log.Error("finish what was interrupted", "network", ep.NetworkID, "endpoint", ep.ID, "err", err)
			}
		}
	}
	for _, id := range sortedIDs(e.networks) {
		if n := e.networks[id]; n.Phase != spec.PhaseReady {
			if err := e.dropNetwork(ctx, n); err != nil {
				n.err = err
				e.Log.Error("finish what was interrupted", "network", n.ID, "err", err)
			}
		}
	}
}

// sweepPools drops what nobody accounts for, because the front end was cut off
// between asking for it and using it: pools without a lease that no network of
// ours uses, and leases of our networks' pools that are no endpoint's, gateway's
// or auxiliary address. CreateEndpoint takes such a lease again.
func (e *Engine) sweepPools() {
	for _, id := range sortedIDs(e.pools) {
		p := e.pools[id]
		n := e.networkUsing(p.Prefix)
		if n == nil && p.addrs.Len() > 0 {
			continue // another driver's network: its endpoints are unknown to us
		}
		var err error
		if n == nil {
			err = e.dropPool(id)
		} else {
			err = e.sweepLeases(p, n)
		}
		if err != nil {
			e.Log.Error("release what nobody uses", "pool", id, "err", err)
		}
	}
}

func (e *Engine) sweepLeases(p *pool, n *network) error {
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
	for _, l := range owned {
		if wanted[l.Alias] || !strings.HasPrefix(l.Alias, spec.LinkAliasMark) {
			present[l.Name] = struct{}{}
			continue
		}
		e.Log.Info("leftover link removed", "link", l.Name, "alias", l.Alias)
		if err := e.Links.Remove(ctx, l.Name, l.Alias); err != nil {
			e.Log.Error("remove leftover link", "link", l.Name, "err", err)
		}
	}
	return present, nil
}
