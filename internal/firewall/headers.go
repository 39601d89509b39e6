package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// The types of frames that the rules tell of (include/uapi/linux/if_ether.h).
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// Protocol numbers of IP that are said by name.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132
)

// Those of extension headers (RFC 8200 §4).
const (
	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoDestOpts = 60
)

var protocolNames = map[byte]string{ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPv6: "icmpv6", SCTP: "sctp"}

// ReadHeaders reads the beginning of a packet, which whoever sent it has made up, and
// of which the rest has been cut off. What cannot be read stays empty. ether is the
// frame's type.
func ReadHeaders(ether uint16, b []byte) spec.Headers {
	h := spec.Headers{Protocol: fmt.Sprintf("ethertype %#04x", ether)}
	switch ether {
	case etherIPv4:
		return readIPv4(b)
	case etherIPv6:
		return readIPv6(b)
	case etherARP:
		h.Protocol = "arp"
		if len(b) >= 28 { // RFC 826 for Ethernet and IPv4
			h.From, h.To = netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
		}
	}
	return h
}

func readIPv4(b []byte) spec.Headers {
	if len(b) < 20 || b[0]>>4 != 4 {
		return spec.Headers{Protocol: "ipv4"}
	}
	h := spec.Headers{From: netip.AddrFrom4([4]byte(b[12:16])), To: netip.AddrFrom4([4]byte(b[16:20]))}
	protocol, rest := Payload(b)
	return readTransport(h, protocol, rest)
}

func readIPv6(b []byte) spec.Headers {
	if len(b) < 40 || b[0]>>4 != 6 {
		return spec.Headers{Protocol: "ipv6"}
	}
	h := spec.Headers{From: netip.AddrFrom16([16]byte(b[8:24])), To: netip.AddrFrom16([16]byte(b[24:40]))}
	protocol, rest := Payload(b)
	return readTransport(h, protocol, rest)
}

// Payload is what follows the headers of an IP packet that has the first of them whole; nil:
// it is in another fragment, or has been cut off.
func Payload(b []byte) (protocol byte, rest []byte) {
	if b[0]>>4 == 4 {
		size := int(b[0]&0xf) * 4
		if first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0; !first || size < 20 || size > len(b) {
			return b[9], nil
		}
		return b[9], b[size:]
	}
	next, rest := b[6], b[40:]
	for {
		var size int
		switch next {
		case protoHopByHop, protoRouting, protoDestOpts:
			if len(rest) >= 2 {
				size = (int(rest[1]) + 1) * 8
			}
		case protoAH: // RFC 4302 §2.2
			if len(rest) >= 2 {
				size = (int(rest[1]) + 2) * 4
			}
		case protoFragment:
			size = 8
			if len(rest) >= size && binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
				return rest[0], nil
			}
		default:
			return next, rest
		}
		if size == 0 || size > len(rest) {
			return next, nil
		}
		next, rest = rest[0], rest[size:]
	}
}

func readTransport(h spec.Headers, protocol byte, b []byte) spec.Headers {
	h = named(h, protocol)
	switch protocol {
	case TCP, UDP, SCTP:
		if len(b) >= 4 {
			h.FromPort, h.ToPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	case ICMP, ICMPv6:
		if len(b) >= 1 {
			kind := b[0]
			h.Type = &kind
		}
	}
	return h
}

func named(h spec.Headers, protocol byte) spec.Headers {
	if h.Protocol = protocolNames[protocol]; h.Protocol == "" {
		h.Protocol = fmt.Sprintf("protocol %d", protocol)
	}
	return h
}
