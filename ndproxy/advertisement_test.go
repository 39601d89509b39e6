package ndproxy

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/mdlayher/ndp"
)

// Captured between two hosts with Linux 6.18: what it sends to resolve, to probe
// and to take an address, and the answers, whose checksums tcpdump found right.
func TestGoldenFrames(t *testing.T) {
	station := func(mac [6]byte, linkLocal string) Station {
		return Station{HardwareAddr: mac, LinkLocal: netip.MustParseAddr(linkLocal)}
	}
	for name, c := range map[string]struct {
		at               Station
		received, answer string
		want             Reason
	}{
		"resolution": {
			station([6]byte{0xe6, 0x41, 0x8a, 0x68, 0x89, 0x29}, "fe80::e441:8aff:fe68:8929"),
			`3333ff000005 2e7b41d85eb0 86dd
			 60000000 0020 3a ff 20010db8000000000000000000000002 ff0200000000000000000001ff000005
			 87 00 4f1d 00000000 20010db8000000000000000000000005 0101 2e7b41d85eb0`,
			`2e7b41d85eb0 e6418a688929 86dd
			 60000000 0020 3a ff fe80000000000000e4418afffe688929 20010db8000000000000000000000002
			 88 00 6b01 c0000000 20010db8000000000000000000000005 0201 e6418a688929`,
			Solicited,
		},
		"unreachability probe": {
			station([6]byte{0xe6, 0x41, 0x8a, 0x68, 0x89, 0x29}, "fe80::e441:8aff:fe68:8929"),
			`e6418a688929 2e7b41d85eb0 86dd
			 60000000 0020 3a ff fe800000000000002c7b41fffed85eb0 20010db8000000000000000000000005
			 87 00 829f 00000000 20010db8000000000000000000000005 0101 2e7b41d85eb0`,
			`2e7b41d85eb0 e6418a688929 86dd
			 60000000 0020 3a ff fe80000000000000e4418afffe688929 fe800000000000002c7b41fffed85eb0
			 88 00 ce37 c0000000 20010db8000000000000000000000005 0201 e6418a688929`,
			Probed,
		},
		"duplicate address detection": {
			station([6]byte{0x46, 0x1b, 0xf3, 0x7c, 0x24, 0x91}, "fe80::441b:f3ff:fe7c:2491"),
			`3333ff000005 6e70f13159ca 86dd
			 60000000 0020 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000005
			 87 00 4692 00000000 20010db8000000000000000000000005 0e01 ea0fcdfe403b`,
			`333300000001 461bf37c2491 86dd
			 60000000 0020 3a ff fe80000000000000441bf3fffe7c2491 ff020000000000000000000000000001
			 88 00 110e 80000000 20010db8000000000000000000000005 0201 461bf37c2491`,
			Defended,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := Decide(unhex(t, c.received), c.at, set{netip.MustParseAddr("2001:db8::5"): true})
			if v.Reason != c.want {
				t.Fatalf("verdict %v, want %v", v.Reason, c.want)
			}
			if got, want := v.Advertisement.AppendFrame(nil), unhex(t, c.answer); !bytes.Equal(got, want) {
				t.Errorf("answer\n%x, want\n%x", got, want)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// judge has mdlayher/ndp read an advertisement's frame and say what it would
// have sent in its place, checksum included.
func judge(t testing.TB, frame []byte) *ndp.NeighborAdvertisement {
	t.Helper()
	if len(frame) != FrameLen {
		t.Fatalf("frame of %d bytes, want %d", len(frame), FrameLen)
	}
	if frame[21] != 255 {
		t.Errorf("hop limit %d, want 255 (RFC 4861 §7.1.2)", frame[21])
	}
	m, err := ndp.ParseMessage(frame[54:])
	if err != nil {
		t.Fatalf("%x: %v", frame, err)
	}
	na, ok := m.(*ndp.NeighborAdvertisement)
	if !ok {
		t.Fatalf("%T, want an advertisement", m)
	}
	source, destination := netip.AddrFrom16([16]byte(frame[22:])), netip.AddrFrom16([16]byte(frame[38:]))
	want, err := ndp.MarshalMessageChecksum(na, source, destination)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(frame[54:], want) {
		t.Errorf("message\n%x, mdlayher/ndp writes\n%x", frame[54:], want)
	}
	return na
}

// The flags and option of RFC 4861 §7.2.4, §7.2.8.
func TestAdvertisement(t *testing.T) {
	for name, c := range map[string]struct {
		advertisement Advertisement
		solicited     bool
	}{
		"to one":                     {here.advertise(leased, host, neighbor), true},
		"to all":                     {unsolicited(leased, here), false},
		"without link-local address": {unsolicited(leased, Station{HardwareAddr: router}), false},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := []byte("kept")
			b := c.advertisement.AppendFrame(prefix)
			if !bytes.HasPrefix(b, prefix) {
				t.Fatal("AppendFrame does not append")
			}
			na := judge(t, b[len(prefix):])
			if na.TargetAddress != leased || !na.Router || na.Override || na.Solicited != c.solicited {
				t.Errorf("advertisement %+v, want target %v, R=1, O=0, S=%v", na, leased, c.solicited)
			}
			if len(na.Options) != 1 {
				t.Fatalf("options %v, want one", na.Options)
			}
			lla, ok := na.Options[0].(*ndp.LinkLayerAddress)
			if !ok || lla.Direction != ndp.Target || !bytes.Equal(lla.Addr, router[:]) {
				t.Errorf("option %+v, want our target link-layer address", na.Options[0])
			}
		})
	}
}
