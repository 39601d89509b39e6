package driver

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/spec"
)

// maxPath is PATH_MAX without the final NUL (include/uapi/linux/limits.h).
const maxPath = 4095

func (d *networkDriver) createEndpoint(ctx context.Context, r network.CreateEndpointRequest) (network.CreateEndpointResponse, error) {
	var none network.CreateEndpointResponse
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return none, err
	}
	if err := checkEndpointOptions(r.Options); err != nil {
		return none, err
	}
	asked := network.EndpointInterface{}
	if r.Interface != nil {
		asked = *r.Interface
	}
	ep, err := wantedEndpoint(r, asked)
	if err != nil {
		return none, err
	}
	made, err := d.engine.CreateEndpoint(ctx, ep)
	if err != nil {
		return none, err
	}
	return network.CreateEndpointResponse{Interface: filledIn(asked, made)}, nil
}

// wantedEndpoint is the endpoint as it was asked for.
func wantedEndpoint(r network.CreateEndpointRequest, asked network.EndpointInterface) (ep spec.Endpoint, err error) {
	ep.ID, ep.NetworkID = r.EndpointID, r.NetworkID
	if ep.IPv4, err = parseOptionalPrefix(false, asked.Address); err != nil {
		return ep, fmt.Errorf("endpoint's address: %w", err)
	}
	if ep.IPv6, err = parseOptionalPrefix(true, asked.AddressIPv6); err != nil {
		return ep, fmt.Errorf("endpoint's IPv6 address: %w", err)
	}
	mac := asked.MacAddress
	if mac == "" && r.Options[labelMAC] != nil {
		var octets net.HardwareAddr // base64 on the wire, as any []byte
		if err := convert(r.Options[labelMAC], &octets); err != nil {
			return ep, fmt.Errorf("option %s: %w", labelMAC, err)
		}
		mac = octets.String()
	}
	if ep.MAC, err = parseMAC(mac); err != nil {
		return ep, fmt.Errorf("endpoint's MAC: %w", err)
	}
	return ep, nil
}

// filledIn is what made has and asked had not. The engine takes anything else
// for an attempt to change what it decided and fails the call (SetMacAddress
// and SetIPAddress in moby daemon/libnetwork/endpoint_info.go). Nil: nothing.
func filledIn(asked network.EndpointInterface, made spec.Endpoint) *network.EndpointInterface {
	var answer network.EndpointInterface
	if asked.Address == "" && made.IPv4.IsValid() {
		answer.Address = made.IPv4.String()
	}
	if asked.AddressIPv6 == "" && made.IPv6.IsValid() {
		answer.AddressIPv6 = made.IPv6.String()
	}
	if asked.MacAddress == "" {
		answer.MacAddress = made.MAC
	}
	if answer == (network.EndpointInterface{}) {
		return nil
	}
	return &answer
}

func (d *networkDriver) deleteEndpoint(ctx context.Context, r network.DeleteEndpointRequest) (done, error) {
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return done{}, err
	}
	return done{}, gone(d.engine.DeleteEndpoint(ctx, r.NetworkID, r.EndpointID))
}

// endpointInfo answers under the names that Docker's bridge driver uses.
func (d *networkDriver) endpointInfo(ctx context.Context, r network.InfoRequest) (infoResponse, error) {
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return infoResponse{}, err
	}
	ep, err := d.engine.Endpoint(ctx, r.NetworkID, r.EndpointID)
	if err != nil {
		return infoResponse{}, err
	}
	value := map[string]any{}
	if ep.MAC != "" { // an ipvlan link has its parent's
		value[labelMAC] = ep.MAC
	}
	if len(ep.Ports) > 0 {
		bindings := make([]portBinding, len(ep.Ports))
		for i, p := range ep.Ports {
			bindings[i] = binding(p)
		}
		value[labelPortMap] = bindings
	}
	return infoResponse{Value: value}, nil
}

func (d *networkDriver) join(ctx context.Context, r network.JoinRequest) (joinResponse, error) {
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return joinResponse{}, err
	}
	if len(r.SandboxKey) > maxPath {
		return joinResponse{}, fmt.Errorf("sandbox key has %d characters (allowed: %d)", len(r.SandboxKey), maxPath)
	}
	a, err := d.engine.Join(ctx, r.NetworkID, r.EndpointID, r.SandboxKey)
	if err != nil {
		return joinResponse{}, err
	}
	answer := joinResponse{
		InterfaceName: interfaceName{InterfaceName: network.InterfaceName{SrcName: a.Interface, DstPrefix: a.Prefix}},
		Gateway:       addrText(a.Gateway4),
		GatewayIPv6:   addrText(a.Gateway6),
		// A container none of whose endpoints has an IPv4 gateway (before 28;
		// since then, a gateway of either family) is attached to docker_gwbridge
		// behind its owner's back, unless told not to. Told so needlessly, the
		// engine forgets that this endpoint is a gateway and does the same for
		// the sake of a second network (needDefaultGW in default_gateway.go).
		DisableGatewayService: !a.Gateway4.IsValid(),
	}
	for _, p := range a.Routes {
		answer.StaticRoutes = append(answer.StaticRoutes, network.StaticRoute{Destination: p.String(), RouteType: connectedRoute})
	}
	if a.Gateway6.IsLinkLocalUnicast() {
		// The engine adds the default route at once, and only if there is a
		// route to its next hop. The kernel's own to fe80::/64 comes when the
		// link has its carrier, which may be too late.
		answer.StaticRoutes = append(answer.StaticRoutes, network.StaticRoute{
			Destination: netip.PrefixFrom(a.Gateway6, a.Gateway6.BitLen()).String(),
			RouteType:   connectedRoute,
		})
	}
	// Up to 29 no engine hands an ifname to a remote driver's Join nor looks at
	// DstName; the field has long been part of the protocol.
	answer.InterfaceName.DstName, _ = r.Options[labelIfname].(string)
	return answer, nil
}

func (d *networkDriver) leave(ctx context.Context, r network.LeaveRequest) (done, error) {
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return done{}, err
	}
	return done{}, gone(d.engine.Leave(ctx, r.NetworkID, r.EndpointID))
}

// program publishes ports. The port map comes with CreateEndpoint and Join too,
// but only this call says that the endpoint is the one to publish them.
func (d *networkDriver) program(ctx context.Context, r network.ProgramExternalConnectivityRequest) (done, error) {
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return done{}, err
	}
	ports, err := publishedPorts(r.Options)
	if err != nil {
		return done{}, err
	}
	return done{}, d.engine.Publish(ctx, r.NetworkID, r.EndpointID, ports)
}

func (d *networkDriver) revoke(ctx context.Context, r network.RevokeExternalConnectivityRequest) (done, error) {
	if err := checkEndpoint(r.NetworkID, r.EndpointID); err != nil {
		return done{}, err
	}
	return done{}, gone(d.engine.Unpublish(ctx, r.NetworkID, r.EndpointID))
}

func checkEndpoint(networkID, endpointID string) error {
	if err := spec.CheckID("network", networkID); err != nil {
		return err
	}
	return spec.CheckID("endpoint", endpointID)
}

// addrText is an address, empty for none.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
