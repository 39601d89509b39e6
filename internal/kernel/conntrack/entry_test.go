package conntrack

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func attr(kind int, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, uint16(kind)), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func side(kind int, src, dst netip.AddrPort, protocol byte) []byte {
	ipSrc, ipDst := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if src.Addr().Is6() {
		ipSrc, ipDst = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	return nested(kind,
		nested(nl.CTA_TUPLE_IP, attr(ipSrc, src.Addr().AsSlice()...), attr(ipDst, dst.Addr().AsSlice()...)),
		nested(nl.CTA_TUPLE_PROTO, attr(nl.CTA_PROTO_NUM, protocol),
			attr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, src.Port())...),
			attr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, dst.Port())...)))
}

func message(e entry) []byte {
	b := []byte{unix.AF_INET, 0, 0, 0}
	b = append(b, side(nl.CTA_TUPLE_ORIG, e.original.src, e.original.dst, e.protocol)...)
	b = append(b, side(nl.CTA_TUPLE_REPLY, e.reply.src, e.reply.dst, e.protocol)...)
	return append(b, attr(nl.CTA_STATUS, 0, 0, 1, 0x8e)...)
}

func TestParse(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, want := range []entry{
		{unix.IPPROTO_UDP, tuple{at("192.0.2.9:4000"), at("192.0.2.1:5353")}, tuple{at("172.18.1.2:53"), at("192.0.2.9:4000")}},
		{unix.IPPROTO_SCTP, tuple{at("[2001:db8::9]:1"), at("[2001:db8::1]:2")}, tuple{at("[fd00::2]:3"), at("[2001:db8::9]:1")}},
	} {
		whole := message(want)
		if got, ok := parse(whole); !ok || got != want {
			t.Errorf("%v, %v; want %v", got, ok, want)
		}
		for n := range len(whole) - 8 { // the last attribute is not needed
			if _, ok := parse(whole[:n]); ok {
				t.Errorf("%d of %d bytes are taken for an entry", n, len(whole))
			}
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	at := netip.MustParseAddrPort
	m := message(entry{17, tuple{at("[2001:db8::9]:1"), at("[2001:db8::1]:2")}, tuple{at("[fd00::2]:3"), at("[2001:db8::9]:1")}})
	if n := testing.AllocsPerRun(100, func() { parse(m) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	at := netip.MustParseAddrPort
	f.Add(message(entry{17, tuple{at("192.0.2.9:4000"), at("192.0.2.1:5353")}, tuple{at("172.18.1.2:53"), at("192.0.2.9:4000")}}))
	f.Fuzz(func(_ *testing.T, b []byte) { parse(b) })
}
