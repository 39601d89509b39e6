package icmp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// typeEchoReply is that of RFC 4443 §4.2.
const typeEchoReply = 129

// EchoAs sends an echo request over a link from an address of the link's own prefix that
// is not this host's, but somebody's behind it, and reports whether the reply reaches the
// link within a second: to send it, who was asked has to find the address on the link. It
// goes on to whoever has the address, who did not ask and leaves it.
func EchoAs(ctx context.Context, link string, from, to netip.Addr) (comes bool, err error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return false, err
	}
	// The reply is not for this host, so that no socket of IP gets it.
	// An ipvlan takes it before sockets for IPv6 alone.
	replies, err := open(found, unix.ETH_P_ALL, neighborFilter(found, typeEchoReply))
	if err != nil {
		return false, err
	}
	defer func() { _ = replies.Close() }()
	free := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1) })
		return errors.Join(err, set)
	}}
	raw, err := free.ListenPacket(ctx, "ip6:ipv6-icmp", from.String())
	if err != nil {
		return false, fmt.Errorf("open ICMPv6 socket at %s: %w", from, err)
	}
	defer func() { _ = raw.Close() }()
	var none ipv6.ICMPFilter
	none.SetAll(true)
	conn := ipv6.NewPacketConn(raw)
	if err := conn.SetICMPFilter(&none); err != nil {
		return false, fmt.Errorf("filter of ICMPv6 socket: %w", err)
	}
	if err := replies.SetReadDeadline(time.Now().Add(retransTimer)); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = replies.SetReadDeadline(time.Unix(1, 0)) })()
	asked, err := sendEcho(conn, found.index, to)
	if err != nil {
		return false, fmt.Errorf("echo request from %s to %s on %s: %w", from, to, link, err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := replies.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, ctx.Err()
		}
		if err != nil {
			return false, fmt.Errorf("wait for the reply of %s to %s on %s: %w", to, from, link, err)
		}
		if n < icmpOffset || netip.AddrFrom16([16]byte(buf[icmpOffset-16:icmpOffset])) != from {
			continue
		}
		if asked.answeredBy(buf[icmpOffset:n]) {
			return true, nil
		}
	}
}

// echo is a request that was sent.
type echo struct{ id, seq int }

// sendEcho sends an echo request over a link.
func sendEcho(conn *ipv6.PacketConn, index int, to netip.Addr) (echo, error) {
	e := echo{os.Getpid() & 0xffff, time.Now().Nanosecond() & 0xffff}
	request, err := (&icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: e.id, Seq: e.seq, Data: []byte("v6net doctor")}}).Marshal(nil)
	if err != nil {
		return e, err
	}
	target := &net.IPAddr{IP: to.AsSlice()}
	if to.IsLinkLocalUnicast() {
		// The zone as a number: names are remembered by package net for a minute.
		target.Zone = fmt.Sprint(index)
	}
	_, err = conn.WriteTo(request, &ipv6.ControlMessage{IfIndex: index}, target)
	return e, err
}

// answeredBy reports whether a message is the reply to it.
func (e echo) answeredBy(message []byte) bool {
	m, err := icmp.ParseMessage(unix.IPPROTO_ICMPV6, message)
	if err != nil {
		return false
	}
	reply, ok := m.Body.(*icmp.Echo)
	return ok && m.Type == ipv6.ICMPTypeEchoReply && reply.ID == e.id && reply.Seq == e.seq
}
