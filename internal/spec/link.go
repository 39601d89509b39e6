package spec

import "net/netip"

// Interface names: `v6n` and the network's ID for a bridge; a letter that is no
// hex digit tells the two ends of an endpoint's veth pair from it.
const (
	LinkPrefix    = "v6n"
	vethPrefix    = "v6nv"
	sandboxPrefix = "v6nx"
	networkAlias  = "v6net network "
	endpointAlias = "v6net endpoint "
	LinkAliasMark = "v6net " // every alias of ours starts with it
)

// LinkLocalGateway is every bridge's own address on its link and the containers'
// next hop: it stays when the prefix changes.
var LinkLocalGateway = netip.MustParsePrefix("fe80::1/64")

// BridgeName is the bridge of a network without a name of the user's.
func BridgeName(networkID string) string { return LinkPrefix + networkID[:12] }

// VethName is the host's end of an endpoint's veth pair.
func VethName(endpointID string) string { return vethPrefix + endpointID[:11] }

// SandboxName is the container's end of the pair until the engine renames it.
func SandboxName(endpointID string) string { return sandboxPrefix + endpointID[:11] }

// NetworkAlias and EndpointAlias mark a link as ours and say whose it is.
func NetworkAlias(id string) string { return networkAlias + id }

// EndpointAlias marks both ends of an endpoint's veth pair.
func EndpointAlias(id string) string { return endpointAlias + id }

// Bridge is the wanted state of a network's bridge.
type Bridge struct {
	Name      string
	Alias     string
	MTU       int
	Addresses []netip.Prefix // the gateways, and fe80::1/64
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
}

// OwnedLink is a link that carries our mark.
type OwnedLink struct {
	Name  string
	Alias string
}
