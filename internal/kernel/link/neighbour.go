package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// SetNeighbour tells the host that addr is at mac on a link, in place of what it
// believes, such as the hardware address of the container that had addr before.
// The entry is STALE (RFC 4861 §7.3.2): used at once and verified on use. The
// error matches [ErrNotFound] where there is no such link.
func (h *Handle) SetNeighbour(ctx context.Context, link string, addr netip.Addr, mac net.HardwareAddr) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("set neighbour %s on %s: %w", addr, link, err)
	}
	l, err := h.find(link)
	if err != nil {
		return fmt.Errorf("set neighbour %s: %w", addr, err)
	}
	err = h.netlink.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, IP: addr.Unmap().AsSlice(), HardwareAddr: mac, State: netlink.NUD_STALE,
	})
	if err != nil {
		return fmt.Errorf("set neighbour %s on %s to %s: %w", addr, link, mac, err)
	}
	return nil
}
