package route

import (
	"context"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Default is one way out of the host by IPv6.
type Default struct {
	Link   string
	Router netip.Addr // zero: none, as on tunnels
	RA     bool       // by a router advertisement
	Usable bool       // its link is up and has carrier
}

// Defaults are the next hops of the IPv6 default routes of the main table, those of
// the lowest metric first.
func (h *Handle) Defaults(ctx context.Context) ([]Default, error) {
	routes, err := h.routes(ctx, unicast(netlink.FAMILY_V6), isDefault)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(routes, func(a, b route) int { return a.metric - b.metric })
	var defaults []Default
	for _, r := range routes {
		for _, hop := range r.hops() {
			l, err := h.linkByIndex(hop.link)
			if err != nil {
				return nil, err
			}
			if l == nil {
				continue // gone since
			}
			defaults = append(defaults, Default{Link: l.Attrs().Name, Router: hop.router, RA: r.protocol == unix.RTPROT_RA, Usable: isUsable(l)})
		}
	}
	return defaults, nil
}
