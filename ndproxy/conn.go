package ndproxy

import (
	"io"
	"net/netip"
)

// A Conn is one link as the proxy sees it. Its methods are safe for concurrent use.
type Conn interface {
	// Read returns one whole Ethernet frame that the link received and Write
	// sends one. An error of Read is final: the link must be dialed again.
	// Close ends a Read that is waiting.
	io.ReadWriteCloser

	// HardwareAddr is the link's own MAC address.
	HardwareAddr() [6]byte

	// LinkLocal is the link's own link-local address, zero while it has none.
	LinkLocal() netip.Addr

	// Changed reports whether the link is not as it was dialed: that it has gone,
	// went down, or has other addresses of its own. What the proxy itself sets on a
	// link is told of as a change of it, too, and is none.
	Changed() bool

	// Gateways are the routers on the link that the host sends by, for which a
	// lease is to be known.
	Gateways() []netip.Addr

	// Join makes sure that solicitations for addr arrive, by membership of its
	// solicited-node group (RFC 4861 §7.2.8) or, for many, as JoinAll does, and then
	// says so. Leave ends that. Both are idempotent.
	Join(addr netip.Addr) (all bool, err error)
	Leave(addr netip.Addr) error

	// JoinAll has the link receive all multicast, so that solicitations for any
	// address arrive that no switch on the way prunes by MLD.
	JoinAll() error
}

// A FastPath is a Conn that answers for the leases itself what needs no
// judgement, once it is attached; the rest, and until then all, comes to Read as
// with any Conn.
type FastPath interface {
	Conn

	// Load makes ready what the methods below need, and takes its time. If it fails the
	// Conn is one without a fast path.
	Load() error

	// Attach begins to answer for what was added, as Decide would on a link where
	// the host appears as at, within the limits of knobs. There is no moment without
	// answers.
	Attach(at Station, knobs Knobs) error

	// Add and Remove have taken effect when they return, before Attach or after.
	Add(addr netip.Addr) error
	Remove(addr netip.Addr) error

	// AddAll is Add for many.
	AddAll(addrs []netip.Addr) error

	// Reserve makes room for n addresses in all.
	Reserve(n int) error

	// SetPrefixes replaces the prefixes that are answered for as a whole.
	SetPrefixes(prefixes []netip.Prefix) error

	// Detach ends what Attach began. It is what remains when something fails, Close
	// included: it can be called again, and after Close.
	Detach() error

	// Count calls f with every reason and how many frames it has settled, also
	// after Close.
	Count(f func(Reason, uint64))
}

// A Station is how the host appears on a link.
type Station struct {
	HardwareAddr [6]byte

	// LinkLocal is the source of advertisements, an address of the link itself
	// (RFC 4861 §4.4). While it is zero their source is their target.
	LinkLocal netip.Addr

	Override, TargetAsSource bool // see [Knobs]

	Nonces Nonces // of the probes that it sends
}
