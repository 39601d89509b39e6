package route

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

// Routers are the next hops of a link's default routes of both families in the
// main table, those of the lowest metric first. The error matches
// [fs.ErrNotExist] where there is no such link.
func (h *Handle) Routers(ctx context.Context, link string) ([]netip.Addr, error) {
	l, err := h.link(link)
	if err != nil {
		return nil, err
	}
	var routers []netip.Addr
	for _, family := range []int{netlink.FAMILY_V6, netlink.FAMILY_V4} {
		routes, err := h.routes(ctx, unicast(family), isDefault)
		if err != nil {
			return nil, fmt.Errorf("routers on %s: %w", link, err)
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
		for _, r := range routes {
			for _, hop := range nextHops(r) {
				if addr, ok := netipx.FromStdIP(hop.Gw); ok && hop.LinkIndex == l.Attrs().Index && !slices.Contains(routers, addr) {
					routers = append(routers, addr)
				}
			}
		}
	}
	return routers, nil
}

// nextHops are a route's, of which it has several or is one itself.
func nextHops(r netlink.Route) []*netlink.NexthopInfo {
	if len(r.MultiPath) > 0 {
		return r.MultiPath
	}
	return []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
}
