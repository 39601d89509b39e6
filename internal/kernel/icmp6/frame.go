package icmp6

import (
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

const (
	ethernetLen = 14
	ipv6Len     = 40
	neighborLen = 24  // RFC 4861 §4.3, §4.4: up to and with the target address
	hopLimit    = 255 // RFC 4861 §7.1

	typeSolicitation  = 135 // RFC 4861 §4.3
	typeAdvertisement = 136 // RFC 4861 §4.4
)

var (
	unspecified = netip.IPv6Unspecified()
	allNodes    = netip.MustParseAddr("ff02::1") // RFC 4291 §2.7.1

	broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// neighborFrame is an Ethernet frame with a neighbor discovery message to a
// multicast group.
func neighborFrame(from [6]byte, source, group netip.Addr, m ndp.Message) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(m, source, group)
	if err != nil {
		return nil, err
	}
	g := group.As16()
	f := []byte{0x33, 0x33, g[12], g[13], g[14], g[15]} // RFC 2464 §7
	f = append(f, from[:]...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IPV6)
	f = append(f, 6<<4, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(message)))
	f = append(f, unix.IPPROTO_ICMPV6, hopLimit)
	f = append(f, source.AsSlice()...)
	f = append(f, g[:]...)
	return append(f, message...), nil
}

// arpAnnouncement is an Ethernet frame that says that addr is at mac (RFC 5227 §3).
func arpAnnouncement(addr netip.Addr, mac [6]byte) []byte {
	f := append([]byte(nil), broadcast[:]...)
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_ARP)
	f = append(f, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	f = append(f, mac[:]...)
	f = append(f, addr.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, addr.AsSlice()...)
}

// received is a neighbor solicitation or advertisement, as far as a probe has to
// know it.
type received struct {
	solicitation   bool
	source, target netip.Addr
	nonce          []byte // RFC 3971 §5.3.2; nil: none
}

const optionNonce = 14 // RFC 3971 §5.3.2

// parseNeighbor reads a frame that neighborFilter passed. What RFC 4861 §7.1.1
// or §7.1.2 calls invalid is not ok. Of the options it reads the nonce alone:
// the contents of others must not decide whether an objection is heard.
func parseNeighbor(frame []byte) (m received, ok bool) {
	if len(frame) < ethernetLen+ipv6Len {
		return m, false
	}
	ip := frame[ethernetLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[6] != unix.IPPROTO_ICMPV6 || ip[7] != hopLimit || length < neighborLen || length > len(ip)-ipv6Len {
		return m, false
	}
	message := ip[ipv6Len:][:length]
	if message[1] != 0 || checksum(ip[8:ipv6Len], message) != 0 {
		return m, false
	}
	m.solicitation = message[0] == typeSolicitation
	if !m.solicitation && message[0] != typeAdvertisement {
		return m, false
	}
	m.source = netip.AddrFrom16([16]byte(ip[8:]))
	m.target = netip.AddrFrom16([16]byte(message[8:]))
	for o := message[neighborLen:]; len(o) > 0; o = o[int(o[1])*8:] {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return m, false
		}
		if o[0] == optionNonce {
			m.nonce = o[2 : int(o[1])*8]
		}
	}
	return m, true
}

// checksum is zero over a message with its correct checksum (RFC 8200 §8.1).
func checksum(addresses, message []byte) uint16 {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, b := range [][]byte{addresses, message} {
		for i, octet := range b {
			sum += uint32(octet) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
