package engine

import (
	"context"
	"fmt"
	"slices"
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
	defer e.whileWaiting("bringing the kernel in step with the journal", "networks", len(e.networks), "endpoints", len(e.endpoints))()
	// Before the first ruleset is built: it must not cut running containers off.
	e.defaultLinks, e.uplinks = e.findDefaultLinks(ctx), e.findUplinks(ctx)
	e.adoptShared(ctx)
	e.followUntold(ctx)
	for _, n := range e.networks {
		n.parent = e.findParent(ctx, n)
	}
	e.finishInterrupted(ctx)
	if e.rebooted {
		e.dropFormer()
	}
	present, err := e.matchLinks(ctx)
	if err != nil {
		return err
	}
	e.dropDeparted(ctx, present)
	e.settleAll()
	e.sweepPools()
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		e.awaitJoined(ep)
		ep.announced = ep.Joined && !ep.linkGone // neighbours were told before the restart
		// Routers that ask meanwhile give an address up after three seconds (RFC 4861 §10), and
		// all that comes next takes its time, other programs' included.
		if n, known := e.networks[ep.NetworkID]; known && ep.announced && ep.Phase == spec.PhaseReady && n.Phase == spec.PhaseReady {
			e.answerFor(n, ep)
		}
	}
	e.reapply(ctx, e.allNetworks()...)
	for _, n := range e.allNetworks() {
		e.watchAbandoned(n, 0)
	}
	for id, p := range e.pools {
		n := e.networkUsing(p.Prefix)
		if p.isShared() && n != nil {
			e.wantRefill(id)
		}
	}
	e.avoidAllOthers(ctx)
	e.followSources(ctx) // what has ended meanwhile
	if !e.rebooted {
		return nil
	}
	return e.Journal.Booted(e.BootID) // a start that was killed before is one after a boot yet
}

// dropFormer forgets prefixes that are not in use any more. After a boot of the machine
// there are no connections that they could be kept for.
func (e *Engine) dropFormer() {
	var networks []*network
	var records []spec.Network
	for _, n := range e.allNetworks() {
		to := n.Network
		to.IPv6 = slices.Clone(n.IPv6)
		changed := false
		for i, s := range to.IPv6 {
			if s.Lent == nil || !slices.ContainsFunc(s.Lent.Prefixes, spec.LentPrefix.IsFormer) {
				continue
			}
			lent := *s.Lent
			lent.Prefixes = slices.DeleteFunc(slices.Clone(lent.Prefixes), spec.LentPrefix.IsFormer)
			to.IPv6[i].Lent, changed = &lent, true
		}
		if changed {
			networks, records = append(networks, n), append(records, to)
		}
	}
	if len(records) == 0 {
		return
	}
	if err := e.Journal.PutAll(records, nil, nil); err != nil {
		e.Log.Error("forget former prefixes", "err", err)
		return
	}
	for i, n := range networks {
		n.Network = records[i]
	}
}

// dropDeparted removes endpoints whose container ended while no daemon ran, and
// about which the container engine has given up telling us: their link is gone,
// or its other end is back in the host's namespace, where it is not because it has never
// left it. A call for one of them that
// does come finds nothing, which is no error.
func (e *Engine) dropDeparted(ctx context.Context, present map[string]struct{}) {
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		_, back := present[spec.SandboxName(id)]
		if !ep.Joined || !ep.linkGone && (!back || e.isMarkedHere(ctx, id)) {
			continue
		}
		if n, known := e.networks[ep.NetworkID]; known && !n.isRouted() && !back {
			// The parent may have gone and taken it from a container that runs.
			e.Log.Warn("endpoint removed, its link is gone, with its container or with its parent: a container that runs has to be restarted", subject(ep.Endpoint, "parent", n.parent)...)
		} else {
			e.Log.Info("endpoint removed, its container ended meanwhile", subject(ep.Endpoint)...)
		}
		if ep.err = e.dropEndpoint(ctx, ep); ep.err != nil {
			e.Log.Error("remove endpoint", subject(ep.Endpoint, "err", ep.err)...)
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
	elsewhere := e.linksElsewhere(ctx)
	for _, ep := range e.endpoints {
		_, ok := present[e.modeOf(ep.Endpoint).link(ep.ID)]
		if ep.linkGone = ep.Joined && !ok && !elsewhere(ep); ep.linkGone {
			ep.announced = false
			e.setProxied(ep, "")
			e.departed(ep)
		}
		if _, here := present[spec.SandboxName(ep.ID)]; here {
			e.awaitTaken(ep)
		}
	}
	return present, nil
}

// restoreEndpoint brings an endpoint back, or finishes its interrupted deletion.
// One whose container's end went with its sandbox cannot be brought back: the
// container engine will delete it. On a parent it may be the parent that took the
// link along, from a container that still runs.
func (e *Engine) restoreEndpoint(ctx context.Context, n *network, ep *endpoint) error {
	var err error
	switch {
	case ep.Phase != spec.PhaseReady:
		err = e.dropEndpoint(ctx, ep)
	case !ep.linkGone:
		err = e.applyEndpoint(ctx, n, ep)
	case !n.isRouted():
		err = fmt.Errorf("its link on parent %s is gone: restart the container", n.parent)
	}
	return err
}

// finishInterrupted completes deletions and takes creations back: a front end
// that had no answer asks again. What cannot be finished now stays as it is,
// degraded, and is tried again.
func (e *Engine) finishInterrupted(ctx context.Context) {
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		if _, ok := e.networks[ep.NetworkID]; !ok || ep.Phase != spec.PhaseReady {
			if ep.err = e.dropEndpoint(ctx, ep); ep.err != nil {
				e.Log.Error("finish what was interrupted", subject(ep.Endpoint, "err", ep.err)...)
			}
		}
	}
	for _, id := range sortedIDs(e.networks) {
		if n := e.networks[id]; n.Phase != spec.PhaseReady {
			if n.err = e.dropNetwork(ctx, n); n.err != nil {
				e.Log.Error("finish what was interrupted", aboutNetwork(n.Network, "err", n.err)...)
			}
		}
	}
}

// sweepPools drops what nobody accounts for, because the front end was cut off
// between asking for it and using it: leases of our networks' pools that are no
// endpoint's, gateway's or auxiliary address, and, if it does not go on to use
// them, pools without leases. CreateEndpoint takes such a lease again. A pool of MakeNetwork's
// whose network was not made is no front end's, and would keep its prefix from the same
// request, which comes again.
func (e *Engine) sweepPools() {
	for _, id := range sortedIDs(e.pools) {
		p := e.pools[id]
		var err error
		switch n := e.networkUsing(p.Prefix); {
		case n != nil:
			err = e.sweepLeases(p, n)
		case p.FrontEnd != "":
			err = e.dropPool(id)
		case !p.Settled:
			for a := range p.addrs.All() { // a network of ours may come to be on it, and not use them
				e.loosen(p, a)
			}
			e.later(settleTime, func() { e.settleOrDrop(p) })
		}
		if err != nil {
			e.Log.Error("release what nobody uses", "pool", id, "err", err)
		}
	}
}

// sweepLeases takes back what an earlier daemon gave. After a boot of the machine
// nobody is left who could release it, nor ever where the front end knows of no leases,
// and the addresses need no rest: containers are to have the same ones again.
func (e *Engine) sweepLeases(p *pool, n *network) error {
	for a := range p.addrs.All() {
		if e.accountsFor(n, a) {
			continue
		}
		if err := e.sweepLease(p, a); err != nil {
			return err
		}
		if (e.rebooted || n.FrontEnd != "") && p.takeResting(a) {
			p.addrs.Release(a)
		}
	}
	return nil
}

// sweepLinks removes links that carry our mark and are nobody's, and answers those that stay.
func (e *Engine) sweepLinks(ctx context.Context) (map[string]struct{}, error) {
	wanted := map[string]bool{}
	for id := range e.networks {
		wanted[spec.NetworkAlias(id)] = true
		wanted[spec.VLANAlias(e.networks[id].namedParent())] = true
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
