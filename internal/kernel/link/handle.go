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
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound says that there is no link of that name. It matches [fs.ErrNotExist].
	ErrNotFound = fmt.Errorf("no such link: %w", fs.ErrNotExist)
	// ErrForeign says that the link of that name is somebody else's.
	ErrForeign = errors.New("the link exists and is not ours")
)

// replyTimeout bounds the wait for the kernel's reply. The kernel has handled a
// request when sending it returns, so only a lost reply takes that long.
const replyTimeout = 10 * time.Second

// Handle reads and changes the links of one network namespace. Its methods may
// be called from any goroutine.
type Handle struct{ netlink *netlink.Handle }

// New opens a handle on the network namespace of the calling thread.
func New() (*Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	if err := h.SetSocketTimeout(replyTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("set timeout of rtnetlink socket: %w", err)
	}
	return &Handle{h}, nil
}

// Close releases the handle's socket, after the last call.
func (h *Handle) Close() { h.netlink.Close() }

// find reads one link by name. The error matches [ErrNotFound].
func (h *Handle) find(name string) (netlink.Link, error) {
	l, err := h.netlink.LinkByName(name)
	if isAbsent(err) {
		return nil, fmt.Errorf("link %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read link %s: %w", name, err)
	}
	return l, nil
}

// isAbsent reports whether an error of package netlink says that a link is not there.
func isAbsent(err error) bool {
	notFound := netlink.LinkNotFoundError{}
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}
