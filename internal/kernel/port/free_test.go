package port

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFree(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's listener
	used := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, tc := range []struct {
		name, protocol string
		addr           netip.Addr
		inUse          bool
	}{
		{"same address", "tcp", netip.MustParseAddr("127.0.0.1"), true},
		{"every address includes that one", "tcp", netip.Addr{}, true},
		{"another address", "tcp", netip.MustParseAddr("127.0.0.2"), false},
		{"every IPv4 address includes that one", "tcp", netip.IPv4Unspecified(), true},
		{"every IPv6 address does not", "tcp", netip.IPv6Unspecified(), false},
		{"another protocol", "udp", netip.MustParseAddr("127.0.0.1"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Free(tc.protocol, tc.addr, used)
			if errors.Is(err, unix.EADDRINUSE) != tc.inUse || (err != nil) != tc.inUse {
				t.Errorf("Free(%s, %s, %d) = %v, want in use: %v", tc.protocol, tc.addr, used, err, tc.inUse)
			}
		})
	}
	// A resolver lets others share its port (SO_REUSEADDR), and is in use all the same.
	shares := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
	}}
	for _, address := range []string{"127.0.0.53:0", "0.0.0.0:0"} {
		resolver, err := shares.ListenPacket(t.Context(), "udp4", address)
		if err != nil {
			t.Fatal(err)
		}
		port := uint16(resolver.LocalAddr().(*net.UDPAddr).Port)
		if err := Free("udp", netip.IPv4Unspecified(), port); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("UDP port %d is in use by a resolver at %s, and Free = %v", port, address, err)
		}
		if err := resolver.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Free("udp", netip.IPv4Unspecified(), port); err != nil {
			t.Errorf("UDP port %d is no longer in use, and Free = %v", port, err)
		}
	}
	if err := Free("icmp", netip.Addr{}, 1); err == nil {
		t.Error("a protocol without ports must be refused")
	}
}
