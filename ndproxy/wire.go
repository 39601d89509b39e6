package ndproxy

import (
	"encoding/binary"
	"net/netip"
)

// Offsets and sizes of an Ethernet frame with an ICMPv6 message, in bytes.
const (
	ethernetLen = 14 // destination, source, EtherType
	ipv6Len     = 40 // RFC 8200 §3
	neighborLen = 24 // RFC 4861 §4.3, §4.4: up to and with the target address
	lladdrLen   = 8  // RFC 4861 §4.6.1 on Ethernet, RFC 2464 §6

	ipv6Offset   = ethernetLen
	icmpOffset   = ipv6Offset + ipv6Len
	optionOffset = icmpOffset + neighborLen
)

// Protocol numbers: IANA, and the RFCs named.
const (
	etherTypeIPv6 = 0x86dd // RFC 2464 §3

	protocolHopByHop  = 0  // RFC 8200 §4.3
	protocolRouting   = 43 // RFC 8200 §4.4
	protocolFragment  = 44 // RFC 8200 §4.5
	protocolAH        = 51 // RFC 4302
	protocolICMPv6    = 58
	protocolDestOpts  = 60  // RFC 8200 §4.6
	protocolMobility  = 135 // RFC 6275
	protocolHIP       = 139 // RFC 7401
	protocolShim6     = 140 // RFC 5533
	ndHopLimit        = 255 // RFC 4861 §7.1.1: it cannot have crossed a router
	typeSolicitation  = 135 // RFC 4861 §4.3
	typeAdvertisement = 136 // RFC 4861 §4.4

	optionSourceLinkLayer = 1 // RFC 4861 §4.6.1
	optionTargetLinkLayer = 2
	optionNonce           = 14 // RFC 3971 §5.3.2
)

var (
	allNodes = netip.MustParseAddr("ff02::1") // RFC 4291 §2.7.1

	// solicitedNode is ff02::1:ff00:0/104 (RFC 4291 §2.7.1).
	solicitedNode = [13]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}
)

// multicastMAC is where Ethernet carries an IPv6 multicast destination (RFC 2464 §7).
func multicastMAC(group netip.Addr) [6]byte {
	b := group.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// checksum is the complement of the one's complement sum over the pseudo-header
// (RFC 8200 §8.1) and message, for an IPv6 packet without extension headers.
// Over a message that holds its correct checksum it is zero.
func checksum(addresses, message []byte) uint16 {
	sum := uint64(len(message)) + protocolICMPv6
	sum = add(sum, addresses)
	sum = add(sum, message)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// add sums b in 32-bit words: their one's complement sum folds to that of the
// 16-bit words (RFC 1071 §2 C), and 64 bits hold the carries of any packet.
func add(sum uint64, b []byte) uint64 {
	for len(b) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}
