package icmp6

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

var (
	probed = netip.MustParseAddr("2001:db8::5")
	other  = netip.MustParseAddr("2001:db8::6")
	host   = netip.MustParseAddr("fe80::1")
	mac    = [6]byte{2, 0, 0, 0, 0, 1}
)

func nonceOption(value ...byte) ndp.Option {
	return &ndp.RawOption{Type: optionNonce, Length: 1, Value: value}
}

func TestProbeHears(t *testing.T) {
	nonce := []byte{1, 2, 3, 4, 5, 6}
	for name, c := range map[string]struct {
		source  netip.Addr
		message ndp.Message
		spoil   func([]byte)
		taken   bool
	}{
		"RFC 4862 §5.4.4: advertisement":             {host, &ndp.NeighborAdvertisement{TargetAddress: probed}, nil, true},
		"advertisement for another target":           {host, &ndp.NeighborAdvertisement{TargetAddress: other}, nil, false},
		"RFC 4862 §5.4.3: somebody else's probe":     {unspecified, &ndp.NeighborSolicitation{TargetAddress: probed}, nil, true},
		"RFC 7527 §4.2: probe with another nonce":    {unspecified, &ndp.NeighborSolicitation{TargetAddress: probed, Options: []ndp.Option{nonceOption(6, 5, 4, 3, 2, 1)}}, nil, true},
		"RFC 7527 §4.2: own probe that came back":    {unspecified, &ndp.NeighborSolicitation{TargetAddress: probed, Options: []ndp.Option{nonceOption(nonce...)}}, nil, false},
		"RFC 4862 §5.4.3: somebody who looks for it": {host, &ndp.NeighborSolicitation{TargetAddress: probed}, nil, false},
		"option that is not to be looked into": {host, &ndp.NeighborAdvertisement{TargetAddress: probed, Options: []ndp.Option{
			&ndp.RawOption{Type: 38, Length: 1, Value: make([]byte, 6)}}}, nil, true},
		"RFC 4861 §7.1.2: hop limit":     {host, &ndp.NeighborAdvertisement{TargetAddress: probed}, func(b []byte) { b[21] = 64 }, false},
		"RFC 4861 §7.1.2: checksum":      {host, &ndp.NeighborAdvertisement{TargetAddress: probed}, func(b []byte) { b[56] ^= 1 }, false},
		"RFC 4861 §7.1.2: code":          {host, &ndp.NeighborAdvertisement{TargetAddress: probed}, func(b []byte) { b[55]++; b[57]-- }, false},
		"RFC 4861 §7.1.2: option length": {host, &ndp.NeighborAdvertisement{TargetAddress: probed, Options: []ndp.Option{nonceOption(nonce...)}}, func(b []byte) { b[79]--; b[57]++ }, false},
	} {
		t.Run(name, func(t *testing.T) {
			frame, err := neighborFrame(mac, c.source, allNodes, c.message)
			if err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				c.spoil(frame)
			}
			p := &probe{nonces: map[netip.Addr][]byte{probed: nonce}, taken: map[netip.Addr]bool{}}
			if m, ok := parseNeighbor(frame); ok {
				p.hear(m)
			}
			if p.taken[probed] != c.taken || p.taken[other] {
				t.Errorf("taken %v, want %v", p.taken, c.taken)
			}
		})
	}
}

func FuzzParseNeighbor(f *testing.F) {
	for _, m := range []ndp.Message{
		&ndp.NeighborAdvertisement{TargetAddress: probed},
		&ndp.NeighborSolicitation{TargetAddress: probed, Options: []ndp.Option{nonceOption(1, 2, 3, 4, 5, 6)}},
	} {
		frame, err := neighborFrame(mac, host, allNodes, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, ok := parseNeighbor(frame)
		if ok && (len(frame) < 78 || frame[21] != 255 || !m.target.IsValid() || !m.source.IsValid()) {
			t.Errorf("took %x for %+v", frame, m)
		}
	})
}
