package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/nlattr"
	"github.com/v6net/v6net/internal/spec"
	"golang.org/x/sys/unix"
)

// Elsewhere lists the links that carry a mark of ours and are in the network
// namespaces of containers, whose runtime moved them there.
//
// No namespace is entered, which would take CAP_SYS_ADMIN and its path. The
// kernel has given this namespace an ID for each that a link of ours went to,
// and by its ID a namespace is asked for its links (IFLA_TARGET_NETNSID).
func (h *Handle) Elsewhere(ctx context.Context) ([]spec.OwnedLink, error) {
	found, err := h.elsewhere(ctx)
	if err != nil {
		return nil, fmt.Errorf("list links in other namespaces: %w", err)
	}
	owned := make([]spec.OwnedLink, len(found))
	for i, l := range found {
		owned[i] = spec.OwnedLink{Name: l.name, Alias: l.alias}
	}
	return owned, nil
}

// RemoveElsewhere deletes the links of that alias in other namespaces: a
// macvlan or ipvlan link has no other end here that could be deleted. None is success.
func (h *Handle) RemoveElsewhere(ctx context.Context, alias string) error {
	found, err := h.elsewhere(ctx)
	if err != nil {
		return fmt.Errorf("list links in other namespaces: %w", err)
	}
	var errs []error
	for _, l := range found {
		if l.alias == alias {
			if err := l.remove(); err != nil {
				errs = append(errs, fmt.Errorf("delete link %s (%s) in another namespace: %w", l.name, alias, err))
			}
		}
	}
	return errors.Join(errs...)
}

// dial opens a socket for requests that the library of [Handle] has no words for.
func dial() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	return conn, nil
}

// distantLink is a link in another namespace: what its indexes mean is that one's.
type distantLink struct {
	entry
	nsid uint32
}

// elsewhere are the links of ours.
func (h *Handle) elsewhere(ctx context.Context) ([]distantLink, error) {
	return distantLinks(ctx, func(l distantLink) bool { return strings.HasPrefix(l.alias, spec.LinkAliasMark) })
}

// distantLinks are the wanted ones in the namespaces that this one has an ID for.
func distantLinks(ctx context.Context, wanted func(distantLink) bool) ([]distantLink, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ids, err := namespaceIDs(ctx, conn)
	if err != nil {
		return nil, err
	}
	var found []distantLink
	for _, id := range ids {
		links, err := linksIn(ctx, conn, id)
		// The namespace has gone meanwhile, and its links with it.
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if distant := (distantLink{l, id}); wanted(distant) {
				found = append(found, distant)
			}
		}
	}
	return found, nil
}

// namespaceIDs are those that this namespace has for others (rtnl_net_dumpid in
// net/core/net_namespace.c).
func namespaceIDs(ctx context.Context, conn *netlink.Conn) ([]uint32, error) {
	messages, err := dump.Retry(ctx, func() ([]netlink.Message, error) {
		return ask(conn, netlink.Message{
			Header: netlink.Header{Type: unix.RTM_GETNSID, Flags: netlink.Request | netlink.Dump},
			Data:   make([]byte, 4), // struct rtgenmsg, padded
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var ids []uint32
	for _, m := range messages {
		for kind, value := range nlattr.All(m.Data[min(4, len(m.Data)):]) {
			if kind == unix.NETNSA_NSID {
				ids = append(ids, uint32(nlattr.Number(value)))
			}
		}
	}
	return ids, nil
}

func linksIn(ctx context.Context, conn *netlink.Conn, nsid uint32) ([]entry, error) {
	return dump.Retry(ctx, func() ([]entry, error) {
		return readEntries(conn, netlink.Request|netlink.Dump, func(e *netlink.AttributeEncoder) { e.Uint32(unix.IFLA_TARGET_NETNSID, nsid) })
	})
}

func (l distantLink) remove() error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request, err := linkRequest(l.nsid, l.index)
	if err != nil {
		return err
	}
	_, err = ask(conn, netlink.Message{
		Header: netlink.Header{Type: unix.RTM_DELLINK, Flags: netlink.Request | netlink.Acknowledge},
		Data:   request,
	})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) { // it, or its namespace, has gone
		return nil
	}
	return err
}

// linkRequest is struct ifinfomsg and the namespace that is meant.
func linkRequest(nsid uint32, index int) ([]byte, error) {
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.IFLA_TARGET_NETNSID, nsid)
	more, err := e.Encode()
	return append(header, more...), err
}
