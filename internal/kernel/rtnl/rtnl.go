// Package rtnl opens sockets to the kernel's links, addresses and routes
// (rtnetlink), and reads what it says of links that are not there.
package rtnl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
)

// ReplyTimeout bounds the wait for the next part of the kernel's reply. The
// kernel has handled a request when sending it returns, so only a lost reply
// takes that long.
const ReplyTimeout = 10 * time.Second

// Open opens a socket in the network namespace of the calling thread. The
// library's own functions do that for each call, and wait for ever.
func Open() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	if err := h.SetSocketTimeout(ReplyTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("set timeout of rtnetlink socket: %w", err)
	}
	return h, nil
}

// Ask puts one question to the kernel on a socket of its own, in the network namespace
// of the calling thread; again while the answer changed under it, as [dump.Retry] does.
func Ask[T any](ctx context.Context, question func(*netlink.Handle) (T, error)) (answer T, err error) {
	h, err := Open()
	if err != nil {
		return answer, err
	}
	defer h.Close()
	return dump.Retry(ctx, func() (T, error) { return question(h) })
}

// ErrAbsent says that there is no link of that name. It matches [fs.ErrNotExist].
var ErrAbsent = fmt.Errorf("no such link: %w", fs.ErrNotExist)

// Find reads one link by name, by its first one: the kernel tells of a link by no other
// (IFLA_ALT_IFNAME). The error matches [ErrAbsent].
func Find(h *netlink.Handle, name string) (netlink.Link, error) {
	l, err := h.LinkByName(name)
	if IsAbsent(err) {
		return nil, fmt.Errorf("link %s: %w", name, ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("read link %s: %w", name, err)
	}
	if err := CheckName(name, l.Attrs().Name); err != nil {
		return nil, err
	}
	return l, nil
}

// CheckName refuses a link that has been found by another name than its first.
func CheckName(asked, first string) error {
	if asked != first {
		return fmt.Errorf("link %s is called %s, which is the name to use: %w", asked, first, ErrAbsent)
	}
	return nil
}

// IsAbsent reports whether an error says that a link is not there: the library's
// own for a name, the kernel's where the link went since it was read.
func IsAbsent(err error) bool {
	notFound := netlink.LinkNotFoundError{}
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}
