package icmp6

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

func FuzzParseICMPv6(f *testing.F) {
	frame, err := neighborFrame([6]byte{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("fe80::1"), allNodes, &ndp.RouterAdvertisement{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Fuzz(func(t *testing.T, frame []byte) {
		from, message, ok := parseICMPv6(frame)
		if ok && (from.Len != len(message) || len(message) < 4 || !from.Source.IsValid()) {
			t.Errorf("took %x for %+v", frame, from)
		}
	})
}
