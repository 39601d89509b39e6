package spec

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// Interface names: `v6n` and the network's ID for a bridge; a letter that is no
// hex digit tells the two ends of an endpoint's veth pair from it.
const (
	LinkPrefix     = "v6n"
	VethPrefix     = "v6nv" // of the host's ends of containers' cables
	sandboxPrefix  = "v6nx"
	shimPrefix     = "v6nh"
	trialPrefix    = "v6nt"
	pairPrefix     = "v6np"
	pairPeerPrefix = "v6nq"
	networkAlias   = "v6net network "
	endpointAlias  = "v6net endpoint "
	vlanAlias      = "v6net vlan "
	LinkAliasMark  = "v6net " // every alias of ours starts with it
)

// LinkLocalGateway is a bridge's own address on its link and the next hop of the
// network's containers, fe80::1: and the first 12 digits of the network's ID. It
// stays when the prefix changes, and every network has another one: the Docker
// engine asks a container's routes for the next hop alone, whatever the link (moby
// libnetwork/osl/route_linux.go, programGateway).
func LinkLocalGateway(networkID string) netip.Prefix {
	a := [16]byte{0: 0xfe, 1: 0x80, 9: 1}
	_, _ = hex.Decode(a[10:], []byte(networkID[:12])) // CheckID has seen that it is hex
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// BridgeName is the bridge of a network without a name of the user's.
func BridgeName(networkID string) string { return LinkPrefix + networkID[:12] }

// VethName is the host's end of an endpoint's veth pair.
func VethName(endpointID string) string { return VethPrefix + endpointID[:11] }

// SandboxName is the container's end of the pair until the engine renames it.
func SandboxName(endpointID string) string { return sandboxPrefix + endpointID[:11] }

// IsSandboxName reports whether a link is named as such an end.
func IsSandboxName(name string) bool { return strings.HasPrefix(name, sandboxPrefix) }

// NetworkAlias and EndpointAlias mark a link as ours and say whose it is.
func NetworkAlias(id string) string { return networkAlias + id }

// EndpointAlias marks both ends of an endpoint's veth pair.
func EndpointAlias(id string) string { return endpointAlias + id }

// Bridge is the wanted state of a network's bridge.
type Bridge struct {
	Name      string
	Alias     string
	MTU       int
	Addresses []netip.Prefix // the gateways, of which one is link-local
	// Former are gateways, too, of prefixes that are not in use any more: the host itself is
	// not to send from them (RFC 4862 §5.5.4).
	Former []netip.Prefix
}

// Veth is the wanted state of an endpoint's veth pair. The container's end is
// made with its MAC and MTU and is then the engine's to move and rename.
type Veth struct {
	Name     string
	Peer     string
	Alias    string
	Bridge   string
	MAC      string
	MTU      int
	Isolated bool // no traffic to other isolated ports of the bridge (IFLA_BRPORT_ISOLATED)
	Guarded  bool // what only routers and DHCP servers send is not taken from the container
	Judged   bool // the firewall judges each frame that the container sends, where it comes in
}

// OwnedLink is a link that carries our mark.
type OwnedLink struct {
	Name  string
	Alias string
}

// InterfaceNumber is the number at the end of an interface's name, 0 for none.
func InterfaceNumber(name string) int {
	number, _ := strconv.Atoi(name[len(strings.TrimRight(name, "0123456789")):]) // none, or more than anybody has
	return number
}
