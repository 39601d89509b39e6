package engine

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/v6net/v6net/internal/spec"
)

// LinkChanged takes in that a link of the host changed: parents are dialled
// again, containers whose link came up are announced, and a bridge of ours that
// somebody removed is made again.
func (e *Engine) LinkChanged(ctx context.Context, name string, up, deleted bool) {
	e.Proxy.LinkChanged(name)
	e.Advertisers.LinkChanged(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	if ep, ok := e.byLink[name]; ok {
		if n, ok := e.networks[ep.NetworkID]; ok {
			e.mode(n.Options).linkChanged(ctx, n, ep, up, deleted)
			if ep.linkGone {
				e.departed(ep)
			}
		}
		return
	}
	if spec.IsSandboxName(name) {
		return // a container's end, on its way there or gone: the host's end says what matters
	}
	e.linkCameUp(name, up, deleted)
	e.healSoon()
	e.parentChanged(ctx, name, up)
	if deleted {
		e.followNames(ctx, e.whereabouts())
		e.loseLinks(ctx, name)
		e.forgetSettings(ctx, name)
	}
	mtu := sync.OnceValue(func() int { mtu, _ := e.parentMTU(ctx, name); return mtu })
	var changed []*network
	for _, n := range e.allNetworks() {
		switch {
		case n.Bridge() == name && deleted:
			e.Log.Warn("bridge was removed by somebody else; making it again", aboutNetwork(n.Network, "bridge", name)...)
			changed = append(changed, n)
		case deleted && name == spec.ShimName(n.ID) && e.needsShim(n):
			e.Log.Warn("the host's own link was removed by somebody else; making it again", aboutNetwork(n.Network, "link", name)...)
			changed = append(changed, n)
		case (n.parent == name || n.isBase(name)) && (deleted || n.err != nil || n.Options.MTU == 0 && n.mtu != mtu()):
			changed = append(changed, n)
		}
	}
	if len(changed) > 0 {
		e.reapply(ctx, changed...)
	} else if !strings.HasPrefix(name, spec.LinkPrefix) {
		e.uplinksMayDiffer(ctx)
	}
	if up {
		e.probeAgain(ctx, name)
		e.keepAcceptRA(ctx, name)
	}
}

// RoutesChanged takes in that the host's default routes changed: networks whose
// parent is another one now follow it.
func (e *Engine) RoutesChanged(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.healSoon()
	e.seldom(&e.rerouted, func() { e.followRoutes(ctx) })
}

func (e *Engine) followRoutes(ctx context.Context) {
	e.followNames(ctx, e.whereabouts())
	e.avoidAllOthers(ctx)
	var moved []*network
	for _, n := range e.allNetworks() {
		router, _ := e.routerWithin(ctx, n.Network, n.proxied)
		if e.findParent(ctx, n) != n.parent || n.proxied != "" && router.IsValid() {
			moved = append(moved, n)
		}
	}
	if len(moved) > 0 || !slices.Equal(e.findDefaultLinks(ctx), e.defaultLinks) {
		e.reapply(ctx, moved...)
	}
}

// Resync makes the kernel match once more: events were lost.
func (e *Engine) Resync(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unreachable = nil // what is there of it is looked up
	clear(e.silent)     // sources whose link has come up meanwhile
	if _, err := e.matchLinks(ctx); err != nil {
		e.Log.Error("read the world again", "err", err)
	}
	e.followUntold(ctx)
	e.reapply(ctx, e.allNetworks()...)
	e.followSources(ctx) // what is free now
	e.dialAgain()
	for _, ep := range e.endpoints {
		if ep.Joined && !ep.linkGone && !ep.announced { // its link's event may be among the lost
			e.announce(ctx, ep)
			ep.announced = true
		}
	}
}

// reapply brings networks and their endpoints back, and finishes what was to be
// deleted. One that fails is degraded and does not keep the others from it; it is
// tried again.
func (e *Engine) reapply(ctx context.Context, networks ...*network) {
	e.locate(ctx, e.whereabouts(), networks)
	settled := e.settleAgain(networks)
	for _, n := range networks {
		before := e.networkError(n)
		if n.Phase != spec.PhaseReady {
			n.err = e.dropNetwork(ctx, n)
		} else {
			n.err = e.mode(n.Options).apply(ctx, n)
			for _, ep := range e.endpointsOf(n.ID) {
				ep.err = e.restoreEndpoint(ctx, n, ep)
			}
		}
		e.noteHealth(n, before)
	}
	before := e.hostErr
	e.hostErr = e.applyHost(ctx)
	e.logChange("host", before, e.hostErr)
	e.forgetNewlyTranslated(ctx, settled)
	var endpoints []*endpoint
	for _, n := range networks {
		endpoints = append(endpoints, e.endpointsOf(n.ID)...)
	}
	e.readdress(ctx, endpoints...)
	e.planHeal()
}

// findDefaultLinks are none where that cannot be found out: what is vouched for
// is then decided without them.
func (e *Engine) findDefaultLinks(ctx context.Context) []string {
	links, err := e.Host.DefaultLinks(ctx)
	if err != nil {
		e.Log.Warn("links of the default routes", "err", err)
	}
	return links
}

// findUplinks likewise: bridges by which packets leave this host are else taken for
// another engine's.
func (e *Engine) findUplinks(ctx context.Context) []string {
	bridges, err := e.Host.Uplinks(ctx)
	if err != nil {
		e.Log.Warn("bridges with a network card", "err", err)
	}
	return bridges
}

// uplinksMayDiffer has uplinks looked for in a moment, once for all links that change until
// then: it reads every link of the host.
func (e *Engine) uplinksMayDiffer(ctx context.Context) {
	if e.uplinksUnsure || !e.hasRouted() {
		return
	}
	e.uplinksUnsure = true
	e.later(uplinksWait, func() {
		e.uplinksUnsure = false
		if !slices.Equal(e.findUplinks(ctx), e.uplinks) {
			e.reapply(ctx)
		}
	})
}
