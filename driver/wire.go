package driver

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/spec"
)

// Labels of the engine's own options (moby daemon/libnetwork/netlabel).
const (
	labelPrefix     = "com.docker.network."
	labelGeneric    = labelPrefix + "generic" // what the user gave with -o
	labelInternal   = labelPrefix + "internal"
	labelEnableIPv4 = labelPrefix + "enable_ipv4"
	labelEnableIPv6 = labelPrefix + "enable_ipv6"
	labelGateway    = labelPrefix + "gateway"
	labelPortMap    = labelPrefix + "portmap"
	labelMAC        = labelPrefix + "endpoint.macaddress"
	labelIfname     = labelPrefix + "endpoint.ifname"
	labelNoIPv6     = labelPrefix + "driver.private.no_proxy_6to4" // see publishedPorts

	// requestAddressType is the IPAM option that says what an address is for
	// (moby daemon/libnetwork/ipamapi).
	requestAddressType = "RequestAddressType"
)

// manifest answers /Plugin.Activate.
type manifest struct{ Implements []string }

// networkFailure carries an error of the network protocol (drivers/remote/api Response).
type networkFailure struct{ Err string }

// ipamFailure carries an error of the IPAM protocol (ipams/remote/api Response),
// which has another name for it; ipam.ErrorResponse has the network's.
type ipamFailure struct{ Error string }

// done is the answer of a call that has nothing to say.
type done struct{}

// networkCapabilities adds what engine 28 asks for.
type networkCapabilities struct {
	network.CapabilitiesResponse
	GwAllocChecker bool // the engine calls GwAllocCheck before it asks for pools
}

type gwAllocCheckRequest struct {
	Options map[string]any // as in network.CreateNetworkRequest
}

// gwAllocCheckResponse says for which family no gateway address is to be reserved.
type gwAllocCheckResponse struct {
	SkipIPv4 bool
	SkipIPv6 bool
}

// interfaceName adds the name that the user asked for with ifname.
type interfaceName struct {
	network.InterfaceName
	DstName string `json:",omitempty"`
}

// joinResponse is network.JoinResponse with the newer interfaceName.
type joinResponse struct {
	InterfaceName         interfaceName
	Gateway               string
	GatewayIPv6           string
	StaticRoutes          []network.StaticRoute `json:",omitempty"`
	DisableGatewayService bool
}

// connectedRoute is the network.StaticRoute type of a destination on the link
// itself (moby daemon/libnetwork/types CONNECTED).
const connectedRoute = 1

// infoResponse is network.InfoResponse with values that need not be strings.
type infoResponse struct {
	Value map[string]any
}

// ipamCapabilities adds RequiresRequestReplay: whether the engine is to repeat
// its requests for what exists when it starts.
type ipamCapabilities struct {
	ipam.CapabilitiesResponse
	RequiresRequestReplay bool
}

// portBinding is one entry of labelPortMap (moby daemon/libnetwork/types
// PortBinding). Its net.IP are text, empty for none, just as a netip.Addr is.
type portBinding struct {
	Proto       uint8 // IANA protocol number
	IP          netip.Addr
	Port        uint16
	HostIP      netip.Addr
	HostPort    uint16
	HostPortEnd uint16
}

// protocols are the transport protocols of libnetwork by their IANA numbers.
var protocols = map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}

// port is the binding in v6net's words.
func (b portBinding) port() (spec.Port, error) {
	protocol, ok := protocols[b.Proto]
	switch {
	case !ok:
		return spec.Port{}, fmt.Errorf("published port %d: protocol %d is not one of tcp (6), udp (17), sctp (132)", b.Port, b.Proto)
	case b.Port == 0:
		return spec.Port{}, fmt.Errorf("published port 0/%s: no such port", protocol)
	case b.HostIP.Zone() != "":
		return spec.Port{}, fmt.Errorf("published port %d/%s: host address %s has a zone", b.Port, protocol, b.HostIP)
	case b.HostPortEnd != 0 && (b.HostPort == 0 || b.HostPortEnd < b.HostPort):
		return spec.Port{}, fmt.Errorf("published port %d/%s: %d-%d is no range of host ports", b.Port, protocol, b.HostPort, b.HostPortEnd)
	}
	p := spec.Port{Protocol: protocol, Port: b.Port, HostIP: b.HostIP.Unmap(), HostPort: b.HostPort}
	if b.HostPortEnd > b.HostPort {
		p.HostEnd = b.HostPortEnd
	}
	return p, nil
}

// binding is a published port in the engine's words.
func binding(p spec.Port) portBinding {
	b := portBinding{Port: p.Port, HostIP: p.HostIP, HostPort: p.HostPort, HostPortEnd: max(p.HostPort, p.HostEnd)}
	for number, name := range protocols {
		if name == p.Protocol {
			b.Proto = number
		}
	}
	return b
}

// convert decodes an option's value, which is of any type on the wire, into dst.
func convert(value, dst any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, dst)
}
