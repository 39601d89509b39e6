package firewall

import (
	"cmp"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// Config is everything that the ruleset depends on.
type Config struct {
	Networks []Network
	// Parents are the interfaces towards the upstream network. They matter
	// where a parent is a bridge, which is else taken for another engine's.
	Parents []string
	// LogGroup is the NFLOG group by which networks with Log tell; 0: [DefaultLogGroup].
	LogGroup uint16
}

// wanted says by which group anything is told, and whether any prefix is translated.
func (c Config) wanted() (w wanted) {
	for _, n := range c.Networks {
		if n.Log {
			w.log = logging(cmp.Or(c.LogGroup, DefaultLogGroup))
		}
		w.translation = w.translation || len(n.Translations) > 0
	}
	return w
}

// Network is a network as the firewall sees it.
type Network struct {
	ID       string
	Bridge   string
	Internal bool // nothing is forwarded to or from other links, whatever else is set
	Isolate  bool // not reached from other networks, nor reaching them, but for published ports
	ICC      bool // containers of the bridge reach each other
	Inbound  spec.Inbound
	// Unprotected are the families in which every port of the containers' own
	// addresses is open, whatever Inbound says; Isolated those in which the host
	// itself is not reached from the bridge.
	Unprotected4, Unprotected6 bool
	Isolated4, Isolated6       bool

	Pools []netip.Prefix
	// Live are the addresses of the pools that somebody has. Packets from
	// elsewhere to the others are dropped before the host asks who has them.
	Live []netip.Addr
	// Autonomous are the pools of which hosts make addresses themselves (RFC
	// 4862), so that any of them may be somebody's.
	Autonomous []netip.Prefix
	// Masquerade are the pools whose addresses mean nothing outside this host.
	Masquerade []netip.Prefix
	// Outbound4 and Outbound6 are the host's addresses under which those leave;
	// zero: the one that the route says.
	Outbound4, Outbound6 netip.Addr
	// Translations are of pools whose addresses are others outside (RFC 6296).
	Translations []spec.Translation
	Published    []Published
	Containers   []Container
	// AnySource lets containers send from whatever address they like.
	AnySource bool
	// Shared are addresses that any of the containers may have, and that may move
	// between them; Gateways are the bridge's own.
	Shared, Gateways []netip.Addr
	// Resolvers are the bridge's own addresses on which a name server may answer
	// the network's containers, and nobody else.
	Resolvers []netip.Addr
	// Asked says that one does answer there. What containers ask it is vouched for,
	// for hosts whose own rules let nothing in.
	Asked bool
	// Log tells what is denied, by the NFLOG group of the configuration.
	Log bool
}

// Container is what a container of the network may send from.
type Container struct {
	Name      string // for people
	Port      string // of the bridge: the host's end of its cable
	MAC       string
	Addresses []netip.Addr
	// Elsewhere are its addresses on other networks. It may send from them here, since
	// its default route may lead by this network to who has asked it by another; it has
	// no claim to them here.
	Elsewhere []netip.Addr
}

// Published is one port that anyone may connect to.
type Published struct {
	Protocol  string // tcp, udp or sctp
	Container netip.Addr
	Port      uint16     // the container's
	HostIP    netip.Addr // zero or unspecified: every address of the host. IPv4 loopback: the host itself; ::1: nobody
	HostPort  uint16     // 0: not translated, the container's own port is opened
}

// accepts reports whether anyone outside may open a connection into the network.
func (n Network) accepts() bool { return !n.Internal && n.Inbound != spec.InboundNone }
