package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// isHere reports whether an endpoint's link is in the host's namespace.
func (e *Engine) isHere(ctx context.Context, ep *endpoint) (bool, error) {
	facts, err := e.Links.Parent(ctx, spec.SandboxName(ep.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return facts.Alias == spec.EndpointAlias(ep.ID), err
}

// isElsewhere reports whether an endpoint's link is in a container. It is while
// the endpoint is joined, and for a moment afterwards: the container engine has
// us leave before it takes the link back.
func (e *Engine) isElsewhere(ctx context.Context, ep *endpoint) (bool, error) {
	if ep.Joined || ep.Phase == spec.PhaseCreating {
		return ep.Joined, nil
	}
	if here, err := e.isHere(ctx, ep); err != nil || here {
		return false, err
	}
	links, err := e.Links.Elsewhere(ctx)
	return slices.ContainsFunc(links, func(l spec.OwnedLink) bool { return l.Alias == spec.EndpointAlias(ep.ID) }), err
}

// linksElsewhere reports which endpoints have their links in the namespaces of
// containers. Where that cannot be found out they are taken to be there.
func (e *Engine) linksElsewhere(ctx context.Context) func(*endpoint) bool {
	if !slices.ContainsFunc(e.allNetworks(), func(n *network) bool { return !n.isRouted() }) {
		return func(*endpoint) bool { return false }
	}
	links, err := e.Links.Elsewhere(ctx)
	if err != nil {
		e.Log.Warn("links of containers", "err", err)
	}
	there := map[string]bool{}
	for _, l := range links {
		there[l.Alias] = true
	}
	return func(ep *endpoint) bool {
		n, known := e.networks[ep.NetworkID]
		return known && !n.isRouted() && (err != nil || there[spec.EndpointAlias(ep.ID)])
	}
}

// loseLinks takes in that a parent was deleted, with the links on it: running
// containers have none any more. Where it was moved to another namespace they
// have theirs still.
func (e *Engine) loseLinks(ctx context.Context, parent string) {
	lost := func(ep *endpoint, elsewhere func(*endpoint) bool) bool {
		if !ep.Joined || ep.linkGone || elsewhere(ep) {
			return false
		}
		here, err := e.isHere(ctx, ep)
		return err == nil && !here
	}
	var elsewhere func(*endpoint) bool
	for _, n := range e.allNetworks() {
		if n.isRouted() || n.parent != parent {
			continue
		}
		if elsewhere == nil {
			elsewhere = e.linksElsewhere(ctx)
		}
		for _, ep := range e.endpointsOf(n.ID) {
			if lost(ep, elsewhere) {
				ep.linkGone, ep.announced = true, false
				e.setProxied(ep, "")
			}
		}
	}
}
