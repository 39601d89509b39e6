package engine

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// checkPrefixProxied refuses to answer for all of a prefix that is not on the
// parent's link, or that is not all ours there.
func (e *Engine) checkPrefixProxied(ctx context.Context, n spec.Network) error {
	if n.Options.NDProxy != spec.SwitchPrefix {
		return nil
	}
	for _, s := range n.IPv6 {
		if !s.OnLink {
			return fmt.Errorf("option ndproxy=prefix: subnet %s is not of a prefix that is on a parent's link, where nobody would ask for it (allowed here: auto, on, off)", s.Prefix)
		}
	}
	if router, s := e.routerWithin(ctx, n, n.IPv6[0].Parent); router.IsValid() {
		return fmt.Errorf("option ndproxy=prefix: subnet %s holds %s, a router on %s, which is not to be answered for (allowed here: auto, on, off)", s, router, n.IPv6[0].Parent)
	}
	return nil
}

// routerWithin is a router of the parent that has its address in the network, in whatever
// prefix that has now.
func (e *Engine) routerWithin(ctx context.Context, n spec.Network, parent string) (router netip.Addr, in netip.Prefix) {
	routers := e.routers(ctx, parent)
	for _, s := range n.Present() {
		if within := routers.AllIn(s.Prefix); len(within) > 0 {
			return within[0], s.Prefix
		}
	}
	return netip.Addr{}, netip.Prefix{}
}

// proxyPrefix answers for all of the network on its parent, where it is to.
func (e *Engine) proxyPrefix(ctx context.Context, n *network) error {
	if n.Options.NDProxy != spec.SwitchPrefix {
		return nil
	}
	if router, in := e.routerWithin(ctx, n.Network, n.parent); router.IsValid() {
		e.setPrefixProxied(n, "")
		return fmt.Errorf("option ndproxy=prefix: not all of %s is answered for: %s, a router on %s, is within", in, router, n.parent)
	}
	e.setPrefixProxied(n, n.parent)
	return nil
}

// moveAnswers ends the answers for what was on a link and is not to be there any more, and
// then begins those for what is new on this one.
func moveAnswers[T comparable](end func(string, T), from string, had []T, begin func(string, T), to string, wanted []T) {
	for _, v := range had {
		if from != to || !slices.Contains(wanted, v) {
			end(from, v)
		}
	}
	for _, v := range wanted {
		if from != to || !slices.Contains(had, v) {
			begin(to, v)
		}
	}
}

// dialAgain has the links on which the host is heard looked at, as after an event
// of each: what changed of them was lost with the events.
func (e *Engine) dialAgain() {
	links := map[string]bool{}
	for _, ep := range e.endpoints {
		links[ep.proxied] = true
	}
	for _, n := range e.networks {
		links[n.proxied] = true
	}
	for link := range e.advertised {
		links[link] = true
	}
	for _, n := range e.networks {
		links[n.parent] = true // whose routers are heard
	}
	delete(links, "")
	for _, link := range slices.Sorted(maps.Keys(links)) {
		e.Proxy.LinkChanged(link)
		e.Advertisers.LinkChanged(link)
	}
}
