package spec

import (
	"net/netip"
	"time"
)

// Denied is a packet that the firewall has dropped, with whom it is about. Packets in
// excess of a limit are not told one by one.
type Denied struct {
	Time    time.Time `json:"time"`
	Network string    `json:"network"`        // its ID
	Name    string    `json:"name,omitempty"` // the network's
	// Inward: somebody has called a container of the network; else one of its
	// containers has called.
	Inward    bool   `json:"inward"`
	Endpoint  string `json:"endpoint,omitempty"`  // of that container; empty: nobody has the address
	Container string `json:"container,omitempty"` // its name, where its engine tells it
	// Peer is the other side's container, if it is one of ours: its name, or its endpoint.
	Peer   string `json:"peer,omitempty"`
	Reason string `json:"reason"` // one word
	Why    string `json:"why"`    // for people
	Headers
}

// Headers are what a packet says of itself, as far as it could be read.
type Headers struct {
	From     netip.Addr `json:"from,omitzero"`
	To       netip.Addr `json:"to,omitzero"`
	Protocol string     `json:"protocol"`            // tcp, udp, sctp, icmp, icmpv6, arp, or a number
	FromPort uint16     `json:"from_port,omitempty"` // of tcp, udp and sctp
	ToPort   uint16     `json:"to_port,omitempty"`
	Type     *uint8     `json:"type,omitempty"` // of icmp and icmpv6; nil: it is not known
}
