package dhcp6

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is an IPv6 packet that carries a UDP datagram. Its hop limit is one: it is
// for the link.
func packet(source, to netip.Addr, from, port uint16, message []byte) []byte {
	length := uint16(udpLen + len(message))
	p := make([]byte, 0, ipv6Len+int(length))
	p = append(p, 6<<4, 0, 0, 0)
	p = binary.BigEndian.AppendUint16(p, length)
	p = append(p, unix.IPPROTO_UDP, 1)
	p = append(p, source.AsSlice()...)
	p = append(p, to.AsSlice()...)
	p = binary.BigEndian.AppendUint16(p, from)
	p = binary.BigEndian.AppendUint16(p, port)
	p = binary.BigEndian.AppendUint16(p, length)
	p = append(p, 0, 0)
	p = append(p, message...)
	sum := checksum(p[8:ipv6Len], p[ipv6Len:])
	if sum == 0 {
		sum = 0xffff // RFC 8200 §8.1: zero were none
	}
	binary.BigEndian.PutUint16(p[ipv6Len+6:], sum)
	return p
}

// unpack is the datagram of a packet that the socket's filter has passed, and where it
// came from. A checksum that the kernel has not verified is.
func unpack(p []byte, verified bool) (message []byte, from netip.Addr, ok bool) {
	if len(p) < ipv6Len+udpLen || p[0]>>4 != 6 || p[6] != unix.IPPROTO_UDP {
		return nil, from, false
	}
	datagram := p[ipv6Len:]
	length := int(binary.BigEndian.Uint16(datagram[4:]))
	if length < udpLen || length > len(datagram) || length > int(binary.BigEndian.Uint16(p[4:])) {
		return nil, from, false
	}
	datagram = datagram[:length]
	if !verified && (binary.BigEndian.Uint16(datagram[6:]) == 0 || checksum(p[8:ipv6Len], datagram) != 0) {
		return nil, from, false
	}
	return datagram[udpLen:], netip.AddrFrom16([16]byte(p[8:24])), true
}

// checksum is zero over a datagram with its correct checksum (RFC 8200 §8.1).
func checksum(addresses, datagram []byte) uint16 {
	sum := uint32(len(datagram)) + unix.IPPROTO_UDP
	for _, b := range [][]byte{addresses, datagram} {
		for i, octet := range b {
			sum += uint32(octet) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
