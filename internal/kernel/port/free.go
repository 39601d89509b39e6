// Package port asks the kernel about the host's transport ports.
package port

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// types are the sockets of the protocols whose ports can be published.
var types = map[string]struct{ typ, proto int }{
	"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// Free reports whether port could be bound on addr, on every address of a family
// if addr is unspecified, or of both if addr is the zero Addr. The error says why not; it matches unix.EADDRINUSE when
// something listens there. A kernel without SCTP has every SCTP port free.
//
// The socket is bound and never listens, so that no connection is taken by it.
func Free(protocol string, addr netip.Addr, port uint16) error {
	t, ok := types[protocol]
	if !ok {
		return fmt.Errorf("protocol %q has no ports (allowed: tcp, udp, sctp)", protocol)
	}
	family, sockaddr := sockaddrOf(addr, port)
	fd, err := unix.Socket(family, t.typ|unix.SOCK_CLOEXEC, t.proto)
	if errors.Is(err, unix.EAFNOSUPPORT) && !addr.IsValid() { // the host was booted with ipv6.disable=1
		family, sockaddr = sockaddrOf(netip.IPv4Unspecified(), port)
		fd, err = unix.Socket(family, t.typ|unix.SOCK_CLOEXEC, t.proto)
	}
	if errors.Is(err, unix.EPROTONOSUPPORT) && protocol == "sctp" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s socket: %w", protocol, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	// A connection that was closed a moment ago must not count (socket(7)). UDP has none,
	// and with the option shares a port with whoever has set it, too: resolvers do.
	if t.typ == unix.SOCK_STREAM {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("%s socket: %w", protocol, err)
		}
	}
	if family == unix.AF_INET6 && addr.IsValid() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("%s socket: %w", protocol, err)
		}
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return fmt.Errorf("bind %s: %w", netip.AddrPortFrom(addrOrAny(addr), port), err)
	}
	return nil
}

// sockaddrOf is a socket's family and address. Without IPV6_V6ONLY the IPv6
// wildcard stands for both families (RFC 3493 §5.3).
func sockaddrOf(addr netip.Addr, port uint16) (int, unix.Sockaddr) {
	if addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: addrOrAny(addr).As16()}
}

func addrOrAny(addr netip.Addr) netip.Addr {
	if addr.IsValid() {
		return addr
	}
	return netip.IPv6Unspecified()
}
