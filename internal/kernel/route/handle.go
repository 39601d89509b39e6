// Package route answers what the engine asks about the kernel's routes and
// addresses: where the default route leads, which prefixes are on a link and
// which are in use anywhere. It makes no routes but those that lead nowhere, for
// what is lent to this host.
package route

import (
	"context"
	"fmt"

	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/vishvananda/netlink"
)

// Handle reads the routes of one network namespace. Its methods may be called
// from any goroutine.
type Handle struct {
	netlink *netlink.Handle
	lists   *rtnl.Lists
}

// New opens a handle on the network namespace of the calling thread.
func New() (*Handle, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	lists, err := rtnl.OpenLists()
	if err != nil {
		h.Close()
		return nil, err
	}
	return &Handle{h, lists}, nil
}

// Close releases the handle's sockets, after the last call.
func (h *Handle) Close() {
	h.netlink.Close()
	h.lists.Close()
}

// link reads one link by its first name. The error matches [fs.ErrNotExist].
func (h *Handle) link(name string) (netlink.Link, error) {
	return rtnl.Find(h.netlink, name)
}

// addresses lists those of a family, of all links or, by its index, of one.
func (h *Handle) addresses(ctx context.Context, link, family int) ([]netlink.Addr, error) {
	addrs, err := h.lists.Addresses(ctx, link, family)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return addrs, nil
}

func isDefault(r route) bool { return r.to.IsValid() && r.to.Bits() == 0 }
