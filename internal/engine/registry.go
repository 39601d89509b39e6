package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

const (
	// absentTime is for how long a network has to be unknown to its front end
	// before it goes: longer than a file is away that is being replaced.
	absentTime = time.Second
	// departTime is for how long the link of a container has to be gone before its
	// endpoint is removed unasked: longer than a front end that is about to ask takes.
	departTime = 10 * time.Second
	// takenTime is for how long a link may be on the host that a front end is to take into a
	// container: longer than Podman's plugin takes, or takes to give up (internal/netavark).
	takenTime = 20 * time.Second
)

// Registry is where front ends that do not say when a network is deleted keep
// their networks.
type Registry interface {
	// Knows reports whether the network's front end still has it. An error says
	// that this cannot be known now.
	Knows(n spec.Network) (bool, error)
}

// RegistryChanged takes in that a front end has changed what it keeps: networks
// that it no longer has go, if no container is on them.
func (e *Engine) RegistryChanged() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.allNetworks() {
		e.watchAbandoned(n, 0)
	}
}

// watchAbandoned has a network removed that its front end does not have from
// after a wait on, for absentTime.
func (e *Engine) watchAbandoned(n *network, wait time.Duration) {
	if n.FrontEnd == "" || e.Registry == nil {
		return
	}
	id := n.ID
	e.later(wait, func() {
		if e.isAbandoned(id) {
			e.later(absentTime, func() { e.dropAbandoned(id) })
		}
	})
}

// isAbandoned reports whether a network is there, without containers, and its
// front end has it no longer.
func (e *Engine) isAbandoned(id string) bool {
	n, ok := e.networks[id]
	if !ok || n.FrontEnd == "" || n.Phase != spec.PhaseReady {
		return false
	}
	known, err := e.Registry.Knows(n.Network)
	if err != nil {
		e.Log.Warn("whether a network is still wanted", aboutNetwork(n.Network, "err", err)...)
		return false
	}
	n.registered = n.registered || known
	if !n.registered && time.Since(n.made) < settleTime {
		return false // the front end writes it down when it has our answer
	}
	return !known && len(e.byNetwork[id]) == 0
}

func (e *Engine) dropAbandoned(id string) {
	if !e.isAbandoned(id) {
		return
	}
	n := e.networks[id]
	e.Log.Info("network removed: its container engine does not have it any more", aboutNetwork(n.Network)...)
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	if n.err = e.dropNetwork(ctx, n); n.err != nil {
		e.Log.Error("remove network", aboutNetwork(n.Network, "err", n.err)...)
		e.planHeal()
	}
}

// departed has an endpoint removed whose container's end of the link is gone for
// good, if the front end is one that may not say so: netavark calls no plugin for
// a sandbox that has vanished.
func (e *Engine) departed(ep *endpoint) {
	if ep.Container == "" {
		return
	}
	e.later(departTime, func() {
		if e.endpoints[ep.ID] == ep && ep.linkGone {
			e.dropGone(ep)
		}
	})
}

// awaitTaken has an endpoint removed whose link nobody takes into its container, if the front
// end is one that cannot say so: Podman's plugin has been killed in between, and may not be
// run for that container again.
func (e *Engine) awaitTaken(ep *endpoint) {
	if ep.Container == "" || !ep.Joined {
		return
	}
	joined := ep.here
	e.later(takenTime, func() {
		if e.endpoints[ep.ID] != ep || !ep.Joined || !ep.here.Equal(joined) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
		defer cancel()
		if here, err := e.isHere(ctx, ep); err != nil || !here {
			return
		}
		e.Log.Warn("link was never taken into its container: has Podman's plugin been killed?", subject(ep.Endpoint)...)
		e.dropGone(ep)
	})
}

// awaitJoined has an endpoint removed that is in no sandbox for as long as a container engine
// never takes: Docker was killed between two of its calls, or before it had written the
// endpoint down, and then does not say so.
func (e *Engine) awaitJoined(ep *endpoint) {
	if ep.Container != "" || ep.Joined {
		return
	}
	since := time.Now()
	ep.idle = since
	e.later(settleTime, func() {
		if e.endpoints[ep.ID] != ep || ep.Joined || !ep.idle.Equal(since) {
			return
		}
		e.dropUnasked(ep, "its container engine has not used it", e.removeEndpoint)
	})
}

// NamespaceGone takes in that a network namespace is gone, to which links of ours may
// have been moved. A macvlan or ipvlan link has no end here that would tell: so it is
// looked whether any is missing now, and, in case one was only on its way, again.
func (e *Engine) NamespaceGone() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.looking {
		return
	}
	e.looking = true
	e.later(absentTime, func() { // the links go after the namespace's ID
		e.looking = false
		for _, ep := range e.missing() {
			e.later(departTime, func() {
				if slices.Contains(e.missing(), ep) {
					e.dropGone(ep)
				}
			})
		}
	})
}

// missing are the endpoints of such front ends whose links on a parent are neither
// in a container nor here. One whose parent was deleted is not among them: its
// container may run.
func (e *Engine) missing() []*endpoint {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	var gone []*endpoint
	var elsewhere func(*endpoint) bool
	for _, id := range sortedIDs(e.endpoints) {
		ep := e.endpoints[id]
		n, known := e.networks[ep.NetworkID]
		if ep.Container == "" || !ep.Joined || ep.linkGone || !known || n.isRouted() {
			continue
		}
		if elsewhere == nil {
			elsewhere = e.linksElsewhere(ctx)
		}
		if elsewhere(ep) {
			continue
		}
		if here, err := e.isHere(ctx, ep); err == nil && !here {
			gone = append(gone, ep)
		}
	}
	return gone
}

// dropGone removes an endpoint whose container has no link.
func (e *Engine) dropGone(ep *endpoint) {
	e.dropUnasked(ep, "its container has no link", e.dropAttached)
	if n, ok := e.networks[ep.NetworkID]; ok && ep.err == nil {
		e.watchAbandoned(n, 0) // it may have waited for its last container
	}
}

// dropUnasked removes an endpoint that its container engine does not ask to be removed. Where
// that fails it is tried again.
func (e *Engine) dropUnasked(ep *endpoint, why string, drop func(context.Context, *endpoint) error) {
	e.Log.Info("endpoint removed: "+why, subject(ep.Endpoint)...)
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	if ep.err = drop(ctx, ep); ep.err != nil {
		e.Log.Error("remove endpoint", subject(ep.Endpoint, "err", ep.err)...)
		e.planHeal()
	}
}

// ofContainer are a container's endpoints, that of its first network first.
func (e *Engine) ofContainer(container string) []*endpoint {
	var eps []*endpoint
	for _, ep := range e.endpoints {
		if ep.Container == container && container != "" {
			eps = append(eps, ep)
		}
	}
	slices.SortFunc(eps, func(a, b *endpoint) int { return cmp.Compare(a.Rank, b.Rank) })
	return eps
}

// rank is the place of a container's next endpoint: its interface's number, or the
// first free one after that. It is the endpoint's for as long as that lives.
func (e *Engine) rank(container, link string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	rank := spec.InterfaceNumber(link)
	for _, ep := range e.ofContainer(container) {
		if ep.Rank == rank {
			rank++
		}
	}
	return rank
}
