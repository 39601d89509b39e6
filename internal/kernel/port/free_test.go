package port

import (
	"errors"
	"net"
	"net/netip"
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
	if err := Free("icmp", netip.Addr{}, 1); err == nil {
		t.Error("a protocol without ports must be refused")
	}
}
