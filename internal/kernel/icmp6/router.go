package icmp6

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/ra"
)

// allRouters is where solicitations of hosts go (RFC 4291 §2.7.1).
var allRouters = netip.MustParseAddr("ff02::2")

// A RouterConn is a raw ICMPv6 socket for the router solicitations and
// advertisements of one link. It implements ra.Conn.
//
// It belongs to the link as it was dialed: after the link was deleted or changed
// its MAC, it must be dialed again.
type RouterConn struct {
	file   *os.File
	link   ethernetLink
	source netip.Addr
	oob    []byte // Read's own
}

// DialRouter opens a RouterConn whose messages come from source, a link-local
// address of the link; zero takes one that the link has. The link must be up and
// of the Ethernet kind.
//
// The socket is none of package net's: to name the zone of an address that lists all links
// of the host, for each new link, and they may be thousands.
func DialRouter(ctx context.Context, link string, source netip.Addr) (*RouterConn, error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return nil, err
	}
	if !source.IsValid() {
		if source, err = found.linkLocal(ctx); err != nil {
			return nil, err
		}
		if !source.IsValid() {
			return nil, fmt.Errorf("link %s: no link-local address to advertise from", link)
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return nil, fmt.Errorf("open ICMPv6 socket: %w", err)
	}
	c := &RouterConn{file: os.NewFile(uintptr(fd), "ICMPv6 socket on "+link), link: found, source: source, oob: make([]byte, 256)}
	if err := c.configure(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("ICMPv6 socket from %s on %s: %w", source, link, err), c.Close())
	}
	return c, nil
}

func (c *RouterConn) configure(fd int) error {
	filter := unix.ICMPv6Filter{Data: [8]uint32{}}
	for i := range filter.Data {
		filter.Data[i] = 1<<32 - 1 // none passes (RFC 3542 §3.2)
	}
	for _, accepted := range []ipv6.ICMPType{ipv6.ICMPTypeRouterSolicitation, ipv6.ICMPTypeRouterAdvertisement} {
		filter.Data[accepted>>5] &^= 1 << (accepted & 31)
	}
	option := func(name, value int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, name, value) }
	join := func(group netip.Addr) error {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(c.link.index)})
	}
	return errors.Join(
		unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter),
		option(unix.IPV6_RECVHOPLIMIT, 1),
		// Read sees which messages came in fragments (RFC 6980 §5): the kernel puts them
		// together before any socket sees them.
		option(unix.IPV6_RECVFRAGSIZE, 1),
		option(unix.IPV6_UNICAST_HOPS, hopLimit),
		option(unix.IPV6_MULTICAST_HOPS, hopLimit),
		option(unix.IPV6_MULTICAST_IF, c.link.index),
		// Bound to the source, the socket sends from it, and receives what goes to it
		// or to a group that it joins.
		unix.Bind(fd, &unix.SockaddrInet6{Addr: c.source.As16(), ZoneId: uint32(c.link.index)}),
		join(allRouters),
		join(allNodes), // the kernel is a member itself; the socket must be, too, since it is bound
	)
}

// Read waits for a message. The kernel drops those with a wrong checksum.
func (c *RouterConn) Read(b []byte) (ra.Received, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return ra.Received{}, err
	}
	for {
		var n, oobn int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, from, failed = unix.Recvmsg(int(fd), b, c.oob, 0)
			return !errors.Is(failed, unix.EAGAIN)
		})
		// An ICMPv6 error that one of our messages has met says nothing of the link.
		if errors.Is(failed, unix.EHOSTUNREACH) || errors.Is(failed, unix.ECONNREFUSED) || errors.Is(failed, unix.EINTR) {
			continue
		}
		if err := errors.Join(err, failed); err != nil {
			return ra.Received{}, err
		}
		sender, ok := from.(*unix.SockaddrInet6)
		if !ok {
			continue
		}
		r, ok := control(c.oob[:oobn])
		if !ok {
			continue
		}
		r.Len, r.Source = n, netip.AddrFrom16(sender.Addr)
		return r, nil
	}
}

// control reads what the kernel says beside a message. Without a hop limit it is
// not ok.
func control(oob []byte) (r ra.Received, ok bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return r, false
	}
	for _, m := range messages {
		if m.Header.Level != unix.IPPROTO_IPV6 || len(m.Data) < 4 {
			continue
		}
		switch value := binary.NativeEndian.Uint32(m.Data); m.Header.Type {
		case unix.IPV6_HOPLIMIT:
			r.HopLimit, ok = int(value), true
		case unix.IPV6_RECVFRAGSIZE:
			r.Fragmented = true
		}
	}
	return r, ok
}

// Write sends a message; the kernel fills in its checksum. The host's own daemons
// are not to take us for another router, but are asked as others are. It is not
// called by two at once.
func (c *RouterConn) Write(b []byte, to netip.Addr) error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		if to.IsMulticast() {
			loop := 0
			if to == allRouters {
				loop = 1
			}
			if failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, loop); failed != nil {
				return true
			}
		}
		failed = unix.Sendto(int(fd), b, 0, &unix.SockaddrInet6{Addr: to.As16(), ZoneId: uint32(c.link.index)})
		return !errors.Is(failed, unix.EAGAIN)
	})
	return errors.Join(err, failed)
}

// Source is the address that messages come from.
func (c *RouterConn) Source() netip.Addr { return c.source }

// HardwareAddr is the link's MAC address at the time of DialRouter.
func (c *RouterConn) HardwareAddr() [6]byte { return c.link.hardwareAddr }

// Close ends a Read that is waiting, and the socket's memberships.
func (c *RouterConn) Close() error { return c.file.Close() }
