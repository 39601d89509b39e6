package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetNeighbour has the host ask again who has addr on a link, in place of what
// it believes, such as the hardware address of the container that had addr
// before. No entry is made: the kernel's table is one for all namespaces, and
// holds 1,024 entries by default. The error matches [ErrNotFound] where there is
// no such link.
func (h *Handle) ForgetNeighbour(ctx context.Context, link string, addr netip.Addr) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("forget neighbour %s on %s: %w", addr, link, err)
	}
	l, err := h.find(link)
	if err != nil {
		return fmt.Errorf("forget neighbour %s: %w", addr, err)
	}
	err = h.netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: addr.Unmap().AsSlice()})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget neighbour %s on %s: %w", addr, link, err)
	}
	return nil
}
