package icmp6

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxGroups bounds the memberships on one link. The kernel walks a link's list
// of groups for every multicast packet (net/ipv6/mcast.c ipv6_chk_mcast_addr).
// There may be room for fewer: a socket's memberships are in net.core.optmem_max,
// which before Linux 6.8 is 20 KiB, and so 365 of them.
const maxGroups = 512

// groups are the memberships of one link in solicited-node groups. They end
// with the socket that holds them.
type groups struct {
	link   ethernetLink
	socket *os.File

	mu      sync.Mutex
	members map[netip.Addr]map[netip.Addr]struct{} // group: addresses that need it
}

func newGroups(link ethernetLink) (*groups, error) {
	// The socket is never bound to a port: it holds memberships, receives nothing.
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open group socket for %s: %w", link.name, err)
	}
	return &groups{
		link:    link,
		socket:  os.NewFile(uintptr(fd), "groups:"+link.name),
		members: make(map[netip.Addr]map[netip.Addr]struct{}),
	}, nil
}

func (g *groups) close() error { return g.socket.Close() }

var errTooManyGroups = errors.New("too many groups")

// join is idempotent. When there are too many groups already, or no room for
// another, the error is errTooManyGroups.
func (g *groups) join(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := solicitedNode(addr)
	members, joined := g.members[group]
	if !joined {
		if len(g.members) >= maxGroups {
			return errTooManyGroups
		}
		err := g.set(unix.IPV6_JOIN_GROUP, group)
		if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS) {
			return errTooManyGroups
		}
		if err != nil {
			return fmt.Errorf("join %s on %s: %w", group, g.link.name, err)
		}
		members = make(map[netip.Addr]struct{})
		g.members[group] = members
	}
	members[addr] = struct{}{}
	return nil
}

// leave is idempotent.
func (g *groups) leave(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := solicitedNode(addr)
	members, joined := g.members[group]
	if !joined {
		return nil
	}
	if delete(members, addr); len(members) > 0 {
		return nil
	}
	delete(g.members, group)
	if err := g.set(unix.IPV6_LEAVE_GROUP, group); err != nil {
		return fmt.Errorf("leave %s on %s: %w", group, g.link.name, err)
	}
	return nil
}

func (g *groups) set(option int, group netip.Addr) error {
	mreq := unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.link.index)}
	return onDescriptor(g.socket, func(fd int) error {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option, &mreq)
	})
}

// solicitedNode is the group that solicitations for addr go to (RFC 4291 §2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}
