package ndproxy

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

var (
	router   = [6]byte{0x02, 0, 0, 0, 0, 0x01} // the proxy's link
	neighbor = [6]byte{0x02, 0, 0, 0, 0, 0x02}
	stranger = [6]byte{0x02, 0, 0, 0, 0, 0x03}

	here = Station{HardwareAddr: router, LinkLocal: netip.MustParseAddr("fe80::ff:fe00:1")}

	leased  = netip.MustParseAddr("2001:db8::c0a8:5")
	unknown = netip.MustParseAddr("2001:db8::c0a8:6")
	host    = netip.MustParseAddr("2001:db8::2")
	anyone  = netip.IPv6Unspecified()
)

// set is the simplest Leases.
type set map[netip.Addr]bool

func (s set) Has(addr netip.Addr) bool    { return s[addr] }
func (s set) Leased(addr netip.Addr) bool { return s[addr] }

func groupOf(addr netip.Addr) netip.Addr {
	b := addr.As16()
	g := allNodes.As16()
	copy(g[:], solicitedNode[:])
	copy(g[13:], b[13:])
	return netip.AddrFrom16(g)
}

// frame describes a solicitation; mdlayher/ndp marshals it, not the code under test.
type frame struct {
	from, to            [6]byte
	source, destination netip.Addr
	target              netip.Addr
	options             []ndp.Option
}

// multicast is what a host sends to resolve target (RFC 4861 §7.2.2).
func multicast(target netip.Addr) frame {
	group := groupOf(target)
	return frame{neighbor, multicastMAC(group), host, group, target, sourceLinkLayer(neighbor)}
}

// unicast is an unreachability probe, which needs no option (RFC 4861 §7.2.2).
func unicast(target netip.Addr) frame {
	return frame{neighbor, router, host, target, target, nil}
}

// dad is what a host sends before it takes target (RFC 4862 §5.4.2).
func dad(target netip.Addr) frame {
	group := groupOf(target)
	return frame{neighbor, multicastMAC(group), anyone, group, target, []ndp.Option{ndp.NewNonce()}}
}

func sourceLinkLayer(mac [6]byte) []ndp.Option {
	return []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac[:]}}
}

func (f frame) marshal(t testing.TB) []byte {
	t.Helper()
	m, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: f.target, Options: f.options}, f.source, f.destination)
	if err != nil {
		t.Fatal(err)
	}
	b := append(f.to[:], f.from[:]...)
	b = append(b, 0x86, 0xdd, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	b = append(b, 58, 255)
	b = append(b, f.source.AsSlice()...)
	b = append(b, f.destination.AsSlice()...)
	return append(b, m...)
}

// fixChecksum corrects the checksum after a test spoiled something else.
func fixChecksum(b []byte) {
	message := b[54:]
	message[2], message[3] = 0, 0
	sum := uint32(len(message)) + 58
	for i, octet := range append(append([]byte(nil), b[22:54]...), message...) {
		sum += uint32(octet) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))
}
