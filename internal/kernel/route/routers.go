package route

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
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
		slices.SortStableFunc(routes, func(a, b route) int { return a.metric - b.metric })
		for _, r := range routes {
			for _, hop := range r.hops() {
				if hop.router.IsValid() && hop.link == l.Attrs().Index && !slices.Contains(routers, hop.router) {
					routers = append(routers, hop.router)
				}
			}
		}
	}
	return routers, nil
}
