// Package dhcp6 carries a DHCPv6 client's messages on a link, beside whatever other
// client the host has there.
//
// It does not bind port 546. A unicast answer to a bound port goes to one socket
// alone, whatever SO_REUSEADDR and SO_REUSEPORT say (udp6_lib_lookup2 in
// net/ipv6/udp.c): of two clients one would hear nothing, and which one depends on who
// came last. Nor could the other be asked to allow it: dhclient, dhcpcd and networkd
// each set other options. A packet socket is given a copy of what arrives, before
// any UDP socket and the host's firewall; and a message to a multicast group needs no
// neighbor to be resolved, so that it goes out by the same socket. Where no other client
// is, the kernel answers the server's reply with a port unreachable, which no server
// minds: the kernel does not tell sockets that are not connected.
package dhcp6

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
)

// servers is where all messages go: All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1).
var servers = netip.MustParseAddr("ff02::1:2")

// Ports of RFC 8415 §7.2.
const (
	clientPort = 546
	serverPort = 547
)

const (
	ipv6Len = 40
	udpLen  = 8
)

// A Conn carries messages on one link, as that was at the time of Dial.
type Conn struct {
	file   *os.File
	link   link
	source netip.Addr
	oob    []byte // Receive's own
}

// Dial opens a link, which must be up and have a link-local address.
func Dial(ctx context.Context, name string) (*Conn, error) {
	l, err := find(ctx, name)
	if err != nil {
		return nil, err
	}
	source, err := l.linkLocal(ctx)
	if err != nil {
		return nil, err
	}
	file, err := open(l, source)
	if err != nil {
		return nil, err
	}
	return &Conn{file: file, link: l, source: source, oob: make([]byte, 128)}, nil
}

// Send sends a message to all servers and relays of the link.
func (c *Conn) Send(message []byte) error {
	p := packet(c.source, servers, clientPort, serverPort, message)
	to := unix.SockaddrLinklayer{Protocol: afpacket.NetworkOrder(unix.ETH_P_IPV6), Ifindex: c.link.index}
	if c.link.ethernet {
		g := servers.As16()
		to.Halen = 6
		to.Addr = [8]byte{0x33, 0x33, g[12], g[13], g[14], g[15]} // RFC 2464 §7
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Write(func(fd uintptr) (done bool) {
		failed = unix.Sendto(int(fd), p, 0, &to)
		return failed != unix.EAGAIN && failed != unix.EINTR
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("link %s: send: %w", c.link.name, failed)
	}
	return nil
}

// Receive waits for a message from a server or relay to this link's client port, and
// says where it came from.
func (c *Conn) Receive(b []byte) (n int, from netip.Addr, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, netip.Addr{}, err
	}
	buffer := make([]byte, ipv6Len+udpLen+len(b))
	for {
		var got, oobn int
		var failed error
		if err := raw.Read(func(fd uintptr) (done bool) {
			got, oobn, _, _, failed = unix.Recvmsg(int(fd), buffer, c.oob, 0)
			return failed != unix.EAGAIN && failed != unix.EINTR
		}); err != nil {
			return 0, netip.Addr{}, err
		}
		if failed != nil {
			return 0, netip.Addr{}, fmt.Errorf("link %s: receive: %w", c.link.name, failed)
		}
		if message, source, ok := unpack(buffer[:got], verified(c.oob[:oobn])); ok {
			return copy(b, message), source, nil
		}
	}
}

// Close ends a Receive that is waiting.
func (c *Conn) Close() error { return c.file.Close() }

// verified reports whether the kernel has seen to a packet's checksum: it is right, or
// is yet to be filled in since the packet has met no wire (veth, virtio).
func verified(oob []byte) bool {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for _, m := range messages {
		// struct tpacket_auxdata begins with its status.
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data)&(unix.TP_STATUS_CSUMNOTREADY|unix.TP_STATUS_CSUM_VALID) != 0
		}
	}
	return false
}
