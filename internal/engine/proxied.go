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

// setPrefixProxied moves the answering for all of a network's prefixes to a link, or ends it.
func (e *Engine) setPrefixProxied(n *network, link string) {
	var prefixes []netip.Prefix
	if link != "" {
		for _, s := range n.Present() {
			if s = s.FromOutside(); s.OnLink && n.astray[s.Prefix] == "" { // else of a network of before this was refused
				prefixes = append(prefixes, s.Prefix)
			}
		}
	}
	moveAnswers(e.Proxy.RemovePrefix, n.proxied, n.proxiedPrefixes, e.Proxy.AddPrefix, link, prefixes)
	n.proxied, n.proxiedPrefixes = link, prefixes
}

// answerFor answers for those addresses of an endpoint that are to be.
func (e *Engine) answerFor(n *network, ep *endpoint) {
	var proxied []netip.Addr
	for _, a := range n.AddressesOf(ep.Endpoint) {
		if n.proxies(a) {
			proxied = append(proxied, n.Public(a))
		}
	}
	e.setProxied(ep, n.parent, proxied...)
}

// proxies reports whether solicitations for an address on the parent must be
// answered by us (RFC 4861 §7.2.8).
func (n *network) proxies(addr netip.Addr) bool {
	// Other hosts of a parent's link find what is on it by itself, too.
	if !addr.Is6() || n.parent == "" || n.Options.OnParent() && !n.Options.L3() || n.Options.NDProxy == spec.SwitchOff {
		return false
	}
	for _, s := range n.Present() {
		if s.Prefix.Contains(addr) {
			if n.astray[s.Prefix] != "" {
				return false
			}
			return s.OnLink || s.OutsideOnLink || n.Options.NDProxy == spec.SwitchOn || n.Options.NDProxy == spec.SwitchPrefix
		}
	}
	return false
}

// setProxied answers for these addresses of an endpoint on a link, and for no others
// of it and nowhere else.
func (e *Engine) setProxied(ep *endpoint, link string, addrs ...netip.Addr) {
	if len(addrs) == 0 {
		link = ""
	}
	moveAnswers(e.Proxy.Remove, ep.proxied, ep.answered, e.Proxy.Add, link, addrs)
	ep.proxied, ep.answered = link, addrs
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
