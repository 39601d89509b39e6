package spec

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseCall(t *testing.T) {
	six, four := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")
	for _, tc := range []struct {
		from, to, port string
		want           Call
		says           string // of an error
	}{
		{"2001:db8::1", "2001:db8::1", "80", Call{six, six, "tcp", 80}, ""},
		{"192.0.2.1", "192.0.2.1", "53/udp", Call{four, four, "udp", 53}, ""},
		{"2001:db8::1", "2001:db8::1", "ping", Call{six, six, "ping", 0}, ""},
		{"2001:db8::1", "2001:db8::1", "53/UDP", Call{six, six, "udp", 53}, ""},
		{"2001:db8::1", "2001:db8::1", "Ping", Call{six, six, "ping", 0}, ""},
		{"web", "2001:db8::1", "80", Call{}, `"web"`},
		{"2001:db8::1", "web", "80", Call{}, `"web"`},
		{"2001:db8::1", "192.0.2.1", "80", Call{}, "families"},
		{"fe80::1%eth0", "fe80::1", "80", Call{}, "zones"},
		{"2001:db8::1", "2001:db8::1", "0", Call{}, "port 0 is nobody's to be called at (allowed: 1 to 65535)"},
		{"2001:db8::1", "2001:db8::1", "0/udp", Call{}, "port 0 is nobody's"},
		{"2001:db8::1", "2001:db8::1", "80/ping", Call{}, "a ping has no port"},
		{"2001:db8::1", "ff02::1", "80", Call{}, "ff02::1 is not the address of one host"},
		{"::", "2001:db8::1", "80", Call{}, ":: is not the address of one host"},
		{"192.0.2.1", "224.0.0.1", "80", Call{}, "224.0.0.1 is not"},
		{"192.0.2.1", "255.255.255.255", "67/udp", Call{}, "255.255.255.255 is not"},
		{"2001:db8::1", "2001:db8::1", "80/icmp", Call{}, "tcp, udp, sctp, ping"},
		{"2001:db8::1", "2001:db8::1", "http", Call{}, `"http"`},
		{"2001:db8::1", "2001:db8::1", "65536", Call{}, `"65536"`},
	} {
		got, err := ParseCall(tc.from, tc.to, tc.port)
		if tc.says == "" && (err != nil || got != tc.want) {
			t.Errorf("%s %s %s: %+v, %v", tc.from, tc.to, tc.port, got, err)
		}
		if tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s %s %s: error %v does not say %q", tc.from, tc.to, tc.port, err, tc.says)
		}
	}
	if err := (Call{}).Validate(); err == nil || !strings.Contains(err.Error(), "two addresses, from and to") {
		t.Errorf("a call from nobody: %v", err)
	}
}
