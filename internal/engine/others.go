package engine

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// avoidOthers keeps from containers what the parent's routers have of a pool,
// and what this host itself has of it in IPv4: in IPv6 duplicate address
// detection finds that, too.
func (e *Engine) avoidOthers(ctx context.Context, p *pool, parent string, known []netip.Addr) error {
	n := e.networkUsing(p.Prefix)
	avoid := func(a netip.Addr, who string) {
		if p.Lent != nil && n != nil {
			a = n.HomeOf(a)
		}
		if p.Prefix.Contains(a) && p.addrs.Reserve(a) == nil {
			p.others[a] = who
		}
	}
	if parent != "" {
		for _, router := range append(e.routers(ctx, parent), known...) {
			avoid(router, "that of a router on "+parent)
		}
	}
	if p.Prefix.Addr().Is6() {
		return nil
	}
	taken, err := e.Host.Taken(ctx, p.Prefix)
	if err != nil {
		return fmt.Errorf("pool %s: addresses of this host: %w", p.ID, err)
	}
	for _, t := range taken {
		if t.IsSingleIP() {
			avoid(t.Addr(), "this host's own")
		}
	}
	return nil
}

// avoidAllOthers is avoidOthers for the pools of all networks on a parent.
func (e *Engine) avoidAllOthers(ctx context.Context) {
	for _, n := range e.allNetworks() {
		if n.isRouted() {
			continue
		}
		for _, s := range n.Subnets() {
			if p, ours := e.pools[s.Prefix.String()]; ours {
				if err := e.avoidOthers(ctx, p, n.upstream(), s.Routers); err != nil {
					e.Log.Error("addresses that containers must not have", aboutNetwork(n.Network, "err", err)...)
				}
			}
		}
	}
}

// upstream is the link on which the network's routers are; empty: it has none.
func (n *network) upstream() string {
	if n.Internal {
		return ""
	}
	return n.parent
}

// routers are the upstream routers of a parent: the next hops of this host's own
// default routes there, and those that advertise themselves. No parent has none.
func (e *Engine) routers(ctx context.Context, parent string) spec.HostRouters {
	if parent == "" {
		return nil
	}
	routers, err := e.Host.Routers(ctx, parent)
	if err != nil {
		e.Log.Warn("routers of the parent", "parent", parent, "err", err)
	}
	return append(routers, e.advertisers(parent)...)
}

// advertisers are the routers that advertise themselves on a link.
func (e *Engine) advertisers(link string) []netip.Addr {
	var routers []netip.Addr
	for _, a := range e.Advertisers.Status() {
		if a.Link != link {
			continue
		}
		for _, heard := range a.Routers {
			if heard.RouterLifetime > 0 {
				routers = append(routers, heard.Source)
			}
		}
	}
	return routers
}
