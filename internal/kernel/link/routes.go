package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// ensureRoutes has exactly the wanted single addresses reached on a link, of
// the routes that were put there by us: the protocol tells.
func (h *Handle) ensureRoutes(ctx context.Context, l netlink.Link, want []netip.Addr) error {
	have, err := dump.Retry(ctx, func() ([]netlink.Route, error) { return h.netlink.RouteList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list routes on %s: %w", l.Attrs().Name, err)
	}
	var kept []netip.Addr
	for _, r := range have {
		if r.Protocol != unix.RTPROT_STATIC || r.Dst == nil {
			continue
		}
		p, _ := netipx.FromStdIPNet(r.Dst)
		if p.IsSingleIP() && slices.Contains(want, p.Addr()) {
			kept = append(kept, p.Addr())
			continue
		}
		if err := h.netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route to %s on %s: %w", p, l.Attrs().Name, err)
		}
	}
	for _, a := range want {
		if slices.Contains(kept, a) {
			continue
		}
		r := netlink.Route{
			LinkIndex: l.Attrs().Index, Protocol: unix.RTPROT_STATIC,
			Dst: netipx.PrefixIPNet(netip.PrefixFrom(a, a.BitLen())),
		}
		if a.Is4() {
			r.Scope = netlink.SCOPE_LINK
		}
		if err := h.netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("add route to %s on %s: %w", a, l.Attrs().Name, err)
		}
	}
	return nil
}
