package icmp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv6"
)

// Echo sends an echo request (RFC 4443 §4.1) over a link from one of the host's
// addresses, whatever link has it, and reports whether the reply comes back to it
// within a second. An invalid from is the address that the kernel chooses.
func Echo(ctx context.Context, link string, from, to netip.Addr) (comes bool, err error) {
	device, err := net.InterfaceByName(link)
	if err != nil {
		return false, fmt.Errorf("echo request on %s: %w", link, err)
	}
	local := "::"
	if from.IsValid() {
		local = from.String()
	}
	raw, err := new(net.ListenConfig).ListenPacket(ctx, "ip6:ipv6-icmp", local)
	if err != nil {
		return false, fmt.Errorf("open ICMPv6 socket at %s: %w", local, err)
	}
	defer func() { _ = raw.Close() }()
	conn := ipv6.NewPacketConn(raw)
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeEchoReply)
	if err := conn.SetICMPFilter(&filter); err != nil {
		return false, fmt.Errorf("filter of ICMPv6 socket: %w", err)
	}
	if err := raw.SetReadDeadline(time.Now().Add(retransTimer)); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	asked, err := sendEcho(conn, device.Index, to)
	if err != nil {
		return false, fmt.Errorf("echo request from %s to %s on %s: %w", local, to, link, err)
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := raw.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, ctx.Err()
		}
		if err != nil {
			return false, fmt.Errorf("wait for the reply of %s on %s: %w", to, link, err)
		}
		if asked.answeredBy(buf[:n]) {
			return true, nil
		}
	}
}
