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

	mdlayher "github.com/mdlayher/netlink"
	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound says that there is no link of that name. It matches [fs.ErrNotExist].
	ErrNotFound = rtnl.ErrAbsent
	// ErrForeign says that the link of that name is somebody else's.
	ErrForeign = errors.New("the link exists and is not ours")
)

// Handle reads and changes the links of one network namespace. Its methods may
// be called from any goroutine.
type Handle struct {
	netlink *netlink.Handle
	raw     *mdlayher.Conn // for what the library of the other cannot say
	lists   *rtnl.Lists
}

// New opens a handle on the network namespace of the calling thread.
func New() (*Handle, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	raw, err := mdlayher.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	lists, err := rtnl.OpenLists()
	if err != nil {
		h.Close()
		return nil, errors.Join(err, raw.Close())
	}
	return &Handle{h, raw, lists}, nil
}

// Close closes the handle's sockets, after the last call.
func (h *Handle) Close() {
	h.netlink.Close()
	_ = h.raw.Close()
	h.lists.Close()
}

// find reads one link by its first name. The error matches [ErrNotFound].
func (h *Handle) find(name string) (netlink.Link, error) {
	return rtnl.Find(h.netlink, name)
}
