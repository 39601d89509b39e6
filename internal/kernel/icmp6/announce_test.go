package icmp6

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// RFC 4861 §7.2.6 with O=1 and no router flag; RFC 5227 §3.
func TestAnnouncement(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	for addr, want := range map[string]string{
		"2001:db8::5": `333300000001 0200000000bb 86dd
			60000000 0020 3a ff 20010db8000000000000000000000005 ff020000000000000000000000000001
			88 00 f868 20000000 20010db8000000000000000000000005 0201 0200000000bb`,
		"192.0.2.5": `ffffffffffff 0200000000bb 0806
			0001 0800 06 04 0001 0200000000bb c0000205 000000000000 c0000205`,
	} {
		got, err := announcement(netip.MustParseAddr(addr), mac)
		if err != nil || hex.EncodeToString(got) != strings.Join(strings.Fields(want), "") {
			t.Errorf("%s: error %v\n%x, want\n%s", addr, err, got, want)
		}
	}
}
