package icmp6

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

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
	raw    *net.IPConn // of conn
	conn   *ipv6.PacketConn
	link   ethernetLink
	source netip.Addr
	oob    []byte // Read's own
}

// DialRouter opens a RouterConn whose messages come from source, a link-local
// address of the link; zero takes one that the link has. The link must be up and
// of the Ethernet kind.
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
	// Bound to the source, the socket sends from it, and receives what goes to it
	// or to a group that it joins.
	// The zone is the link's index: of names package net remembers the index for a
	// minute, and the link may be made again within one.
	zone := strconv.Itoa(found.index)
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "ip6:ipv6-icmp", source.WithZone(zone).String())
	if err != nil {
		return nil, fmt.Errorf("open ICMPv6 socket from %s on %s: %w", source, link, err)
	}
	raw, ok := conn.(*net.IPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("ICMPv6 socket on %s is a %T", link, conn), conn.Close())
	}
	c := &RouterConn{raw: raw, conn: ipv6.NewPacketConn(conn), link: found, source: source, oob: make([]byte, 256)}
	if err := c.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("ICMPv6 socket on %s: %w", link, err), c.Close())
	}
	return c, nil
}

func (c *RouterConn) configure() error {
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	device := &net.Interface{Index: c.link.index, Name: c.link.name}
	return errors.Join(
		c.conn.SetICMPFilter(&filter),
		c.conn.SetControlMessage(ipv6.FlagHopLimit, true),
		c.tellFragments(),
		c.conn.SetHopLimit(hopLimit),
		c.conn.SetMulticastHopLimit(hopLimit),
		c.conn.SetMulticastInterface(device),
		c.conn.JoinGroup(device, &net.IPAddr{IP: allRouters.AsSlice()}),
		// The kernel is a member itself; the socket must be, too, since it is bound.
		c.conn.JoinGroup(device, &net.IPAddr{IP: allNodes.AsSlice()}),
	)
}

// tellFragments has Read see which messages came in fragments (RFC 6980 §5): the
// kernel puts them together before any socket sees them.
func (c *RouterConn) tellFragments() error {
	raw, err := c.raw.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE, 1)
	})
	return errors.Join(err, failed)
}

// Read waits for a message. The kernel drops those with a wrong checksum.
func (c *RouterConn) Read(b []byte) (ra.Received, error) {
	for {
		// Not by conn: of the control messages it knows no fragments.
		n, oobn, _, from, err := c.raw.ReadMsgIP(b, c.oob)
		if err != nil {
			// An ICMPv6 error that one of our messages has met says nothing of the link.
			if errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED) {
				continue
			}
			return ra.Received{}, err
		}
		source, ok := netip.AddrFromSlice(from.IP)
		if !ok {
			continue
		}
		r, ok := control(c.oob[:oobn])
		if !ok {
			continue
		}
		r.Len, r.Source = n, source
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
	if to.IsMulticast() {
		if err := c.conn.SetMulticastLoopback(to == allRouters); err != nil {
			return err
		}
	}
	// By the link's index and not by a zone: to look that up, package socket would
	// list the host's links for every message.
	_, err := c.conn.WriteTo(b, &ipv6.ControlMessage{IfIndex: c.link.index}, &net.IPAddr{IP: to.AsSlice()})
	return err
}

// Source is the address that messages come from.
func (c *RouterConn) Source() netip.Addr { return c.source }

// HardwareAddr is the link's MAC address at the time of DialRouter.
func (c *RouterConn) HardwareAddr() [6]byte { return c.link.hardwareAddr }

// Close ends a Read that is waiting, and the socket's memberships.
func (c *RouterConn) Close() error { return c.conn.Close() }
