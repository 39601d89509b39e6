package route

import (
	"context"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
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
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	var defaults []Default
	for _, r := range routes {
		for _, hop := range nextHops(r) {
			l, err := h.linkByIndex(hop.LinkIndex)
			if err != nil {
				return nil, err
			}
			if l == nil {
				continue // gone since
			}
			d := Default{Link: l.Attrs().Name, RA: r.Protocol == unix.RTPROT_RA, Usable: isUsable(l)}
			d.Router, _ = netipx.FromStdIP(hop.Gw)
			defaults = append(defaults, d)
		}
	}
	return defaults, nil
}
