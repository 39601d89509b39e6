package ndproxy

import (
	"encoding/binary"
	"net/netip"
)

// probe asks the link whether somebody else has target, as a host does before it
// takes an address (RFC 4862 §5.4.2, RFC 7527 §4.1). Routers that do not learn
// from advertisements may learn from it.
func probe(b []byte, target netip.Addr, at Station) []byte {
	nonce := at.Nonces.of(target)
	return appendSolicitation(b, at.HardwareAddr, netip.IPv6Unspecified(), target, optionNonce, nonce)
}

// solicit asks for target on behalf of source, so that target learns of source
// (RFC 4861 §7.2.3), whether it listens to advertisements of what it has not
// asked for (RFC 9131) or not.
func solicit(b []byte, source, target netip.Addr, at Station) []byte {
	return appendSolicitation(b, at.HardwareAddr, source, target, optionSourceLinkLayer, at.HardwareAddr)
}

// appendSolicitation appends the frame of a multicast neighbor solicitation
// (RFC 4861 §4.3) with one option.
func appendSolicitation(b []byte, from [6]byte, source, target netip.Addr, option byte, value [6]byte) []byte {
	start := len(b)
	to := solicitedNodeOf(target)
	mac, s, d, t := multicastMAC(to), source.As16(), to.As16(), target.As16()
	b = append(b, mac[:]...)
	b = append(b, from[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, neighborLen+lladdrLen)
	b = append(b, protocolICMPv6, ndHopLimit)
	b = append(b, s[:]...)
	b = append(b, d[:]...)
	b = append(b, typeSolicitation, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, t[:]...)
	b = append(b, option, lladdrLen/8)
	b = append(b, value[:]...)
	f := b[start:]
	binary.BigEndian.PutUint16(f[icmpOffset+2:], checksum(f[ipv6Offset+8:icmpOffset], f[icmpOffset:]))
	return b
}

// solicitedNodeOf is the group that solicitations for addr go to (RFC 4291 §2.7.1).
func solicitedNodeOf(addr netip.Addr) netip.Addr {
	a := addr.As16()
	g := [16]byte{13: a[13], 14: a[14], 15: a[15]}
	copy(g[:], solicitedNode[:])
	return netip.AddrFrom16(g)
}
