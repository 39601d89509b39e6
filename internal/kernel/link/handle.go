// Package link makes the kernel's links what a network wants them to be: its
// bridge, and the veth pair of each endpoint.
//
// Every Ensure is idempotent: it creates what is absent, corrects what has
// drifted, and on failure removes what it created. A link that does not carry
// the asked alias is somebody else's and is never touched.
package link

import (
	"errors"
	"fmt"
	"io/fs"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound says that there is no link of that name. It matches [fs.ErrNotExist].
	ErrNotFound = fmt.Errorf("no such link: %w", fs.ErrNotExist)
	// ErrForeign says that the link of that name is somebody else's.
	ErrForeign = errors.New("the link exists and is not ours")
)

// Handle reads and changes the links of one network namespace. Its methods may
// be called from any goroutine.
type Handle struct {
	netlink *netlink.Handle
	filters *mdlayher.Conn // for what the library of the other cannot say
}

// New opens a handle on the network namespace of the calling thread.
func New() (*Handle, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	filters, err := mdlayher.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open rtnetlink socket for filters: %w", err)
	}
	return &Handle{h, filters}, nil
}

// Close closes the handle's sockets, after the last call.
func (h *Handle) Close() {
	h.netlink.Close()
	_ = h.filters.Close()
}

// find reads one link by name, by its first one: the kernel tells of a link by no other
// (IFLA_ALT_IFNAME). The error matches [ErrNotFound].
func (h *Handle) find(name string) (netlink.Link, error) {
	l, err := h.netlink.LinkByName(name)
	if rtnl.IsAbsent(err) {
		return nil, fmt.Errorf("link %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read link %s: %w", name, err)
	}
	if is := l.Attrs().Name; is != name {
		return nil, fmt.Errorf("link %s is called %s, which is the name to use: %w", name, is, ErrNotFound)
	}
	return l, nil
}
