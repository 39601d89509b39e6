package spec

import "net/netip"

// Headers are what a packet says of itself, as far as it could be read.
type Headers struct {
	From, To         netip.Addr
	Protocol         string // tcp, udp, sctp, icmp, icmpv6, arp, or a number
	FromPort, ToPort uint16 // of tcp, udp and sctp
	Type             *uint8 // of icmp and icmpv6; nil: it is not known
}
