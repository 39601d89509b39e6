package nflog

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mdlayher/netlink"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// attribute is one of a message.
type attribute struct {
	kind  uint16
	value []byte
}

func message(attributes ...attribute) netlink.Message {
	e := netlink.NewAttributeEncoder()
	for _, a := range attributes {
		e.Bytes(a.kind, a.value)
	}
	b, err := e.Encode()
	if err != nil {
		panic(err)
	}
	return netlink.Message{Header: netlink.Header{Type: msgPacket}, Data: append(make([]byte, familyBytes), b...)}
}

func index(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// udp is a datagram from 192.0.2.9, port 4000, to 172.18.0.5, port 53.
var udp = []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 9, 172, 18, 0, 5, 0x0f, 0xa0, 0, 53, 0, 8, 0, 0}

func TestDecode(t *testing.T) {
	got, ok := decode(message(
		attribute{attrHeader, []byte{8, 0, 2, 0}}, attribute{attrPrefix, []byte("v6net-in-unpublished\x00")},
		attribute{attrIn, index(3)}, attribute{attrOut, index(7)}, attribute{attrPort, index(5)},
		attribute{attrMAC, []byte{0, 6, 0, 0, 2, 0, 0, 0, 0, 5, 0, 0}}, attribute{attrPayload, udp},
	))
	want := told{in: 3, out: 7, port: 5, Refusal: firewall.Refusal{Inward: true, Reason: firewall.DeniedUnpublished, MAC: "02:00:00:00:00:05", Headers: spec.Headers{
		From: netip.MustParseAddr("192.0.2.9"), To: netip.MustParseAddr("172.18.0.5"), Protocol: "udp", FromPort: 4000, ToPort: 53,
	}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(told{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" || !ok {
		t.Errorf("decoded %v (-want +got):\n%s", ok, diff)
	}
}

// What others tell in the same group, and what is no packet, is none of ours.
func TestDecodeLeavesOthers(t *testing.T) {
	ours := attribute{attrPrefix, []byte("v6net-out-forged\x00")}
	config := message(ours)
	config.Header.Type = msgConfig
	torn := message(ours, attribute{attrPayload, udp})
	torn.Data = torn.Data[:len(torn.Data)-3]
	for name, m := range map[string]netlink.Message{
		"another prefix": message(attribute{attrPrefix, []byte("ulogd\x00")}, attribute{attrPayload, udp}),
		"no prefix":      message(attribute{attrPayload, udp}),
		"an answer":      config,
		"nothing":        {Header: netlink.Header{Type: msgPacket}},
		"a torn one":     torn,
	} {
		if got, ok := decode(m); ok {
			t.Errorf("%s: decoded as %+v", name, got)
		}
	}
	// Numbers of another size, and a MAC address of InfiniBand, are not read.
	got, ok := decode(message(ours, attribute{attrIn, []byte{1}}, attribute{attrHeader, []byte{8}}, attribute{attrMAC, []byte{0, 20, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}}))
	if !ok || got.in != 0 || got.MAC != "" || got.From.IsValid() {
		t.Errorf("%v, %+v", ok, got)
	}
}

func FuzzDecode(f *testing.F) {
	prefix := attribute{attrPrefix, []byte("v6net-in-nobody\x00")}
	f.Add(message(prefix, attribute{attrHeader, []byte{8, 0, 2, 0}}, attribute{attrPayload, udp}).Data)
	f.Add(message(prefix, attribute{attrHeader, []byte{0x86, 0xdd, 2, 0}}, attribute{attrPayload, make([]byte, 60)}, attribute{attrIn, index(1)}).Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := decode(netlink.Message{Header: netlink.Header{Type: msgPacket}, Data: b})
		if ok && (got.Reason.Words() == "" || got.Protocol == "") {
			t.Errorf("decoded as %+v", got)
		}
	})
}
