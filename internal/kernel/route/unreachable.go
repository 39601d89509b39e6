package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes, as rtnetlink's rtm_protocol; iproute2 knows it as no
// other program's.
const Protocol = 118

// unreachableMetric lets every other route to the same prefix win.
const unreachableMetric = 1<<31 - 1

// EnsureUnreachable makes a route that rejects what goes to a prefix and to no network
// in it. Without one the packets to the unused part of a delegated prefix would go
// back to the router by the default route, and to and fro until their hop limit ends
// (RFC 7084 §4.2, WPD-5). Making it again is no change.
func (h *Handle) EnsureUnreachable(ctx context.Context, prefix netip.Prefix) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.netlink.RouteAdd(unreachable(prefix)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make unreachable route to %s: %w", prefix, err)
	}
	return nil
}

// RemoveUnreachable is the way back; an unknown route is no error.
func (h *Handle) RemoveUnreachable(ctx context.Context, prefix netip.Prefix) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.netlink.RouteDel(unreachable(prefix)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove unreachable route to %s: %w", prefix, err)
	}
	return nil
}

// Unreachable lists the prefixes that have such a route, sorted.
func (h *Handle) Unreachable(ctx context.Context) ([]netip.Prefix, error) {
	routes, err := h.routes(ctx, which{family: netlink.FAMILY_V6, table: unix.RT_TABLE_MAIN, kind: unix.RTN_UNREACHABLE}, isUnreachable)
	if err != nil {
		return nil, err
	}
	prefixes := make([]netip.Prefix, 0, len(routes))
	for _, r := range routes {
		prefixes = append(prefixes, r.to.Masked())
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return prefixes, nil
}

func unreachable(prefix netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:      netipx.PrefixIPNet(prefix.Masked()),
		Type:     unix.RTN_UNREACHABLE,
		Table:    unix.RT_TABLE_MAIN,
		Protocol: Protocol,
		Priority: unreachableMetric,
	}
}

// isUnreachable reports whether a route is one of EnsureUnreachable's.
func isUnreachable(r route) bool {
	return r.kind == unix.RTN_UNREACHABLE && r.protocol == Protocol
}
