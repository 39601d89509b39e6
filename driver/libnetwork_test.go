package driver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/libnetwork/driverapi"
	"github.com/docker/docker/libnetwork/drivers/remote"
	"github.com/docker/docker/libnetwork/ipamapi"
	ipamremote "github.com/docker/docker/libnetwork/ipams/remote"
	"github.com/docker/docker/libnetwork/netlabel"
	"github.com/docker/docker/libnetwork/scope"
	"github.com/docker/docker/libnetwork/types"
	"github.com/docker/docker/pkg/plugingetter"
	"github.com/docker/docker/pkg/plugins"
	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// plugin is a running plugin as the engine's plugin store has it.
type plugin struct {
	plugingetter.PluginGetter // what is not called
	client                    *plugins.Client
}

func (p plugin) Name() string             { return "v6net:latest" }
func (p plugin) ScopedPath(string) string { return "" }
func (p plugin) IsV1() bool               { return false }
func (p plugin) Client() *plugins.Client  { return p.client }

func (p plugin) GetAllManagedPluginsByCap(string) []plugingetter.CompatPlugin {
	return []plugingetter.CompatPlugin{p}
}
func (p plugin) Handle(string, func(string, *plugins.Client)) {}

// registry takes what registers with the engine.
type registry struct {
	network    driverapi.Driver
	capability driverapi.Capability
	ipam       ipamapi.Ipam
	ipamCaps   *ipamapi.Capability
}

func (r *registry) RegisterDriver(_ string, d driverapi.Driver, c driverapi.Capability) error {
	r.network, r.capability = d, c
	return nil
}

func (r *registry) RegisterIpamDriver(_ string, d ipamapi.Ipam) error {
	r.ipam = d
	return nil
}

func (r *registry) RegisterIpamDriverWithCapabilities(_ string, d ipamapi.Ipam, c *ipamapi.Capability) error {
	r.ipam, r.ipamCaps = d, c
	return nil
}

// endpoint is what the engine knows of an endpoint. As the engine's own, it
// does not let a driver change what has been decided.
type endpoint struct {
	t                  *testing.T
	mac                net.HardwareAddr
	ipv4, ipv6         *net.IPNet
	src, prefix, name  string
	gateway4, gateway6 net.IP
	connected          []string // destinations of connected routes
	noGatewayService   bool
}

func (e *endpoint) MacAddress() net.HardwareAddr { return e.mac }
func (e *endpoint) Address() *net.IPNet          { return e.ipv4 }
func (e *endpoint) AddressIPv6() *net.IPNet      { return e.ipv6 }
func (e *endpoint) NetnsPath() string            { return "" }
func (e *endpoint) SetCreatedInContainer(bool)   {}
func (e *endpoint) DisableGatewayService()       { e.noGatewayService = true }

func (e *endpoint) SetMacAddress(mac net.HardwareAddr) error {
	if e.mac != nil {
		return types.ForbiddenErrorf("endpoint interface MAC address present (%s)", e.mac)
	}
	e.mac = mac
	return nil
}

func (e *endpoint) SetIPAddress(a *net.IPNet) error {
	field := &e.ipv6
	if a.IP.To4() != nil {
		field = &e.ipv4
	}
	if *field != nil {
		return types.ForbiddenErrorf("endpoint interface IP present (%s)", *field)
	}
	*field = a
	return nil
}

func (e *endpoint) InterfaceName() driverapi.InterfaceNameInfo { return e }
func (e *endpoint) SetNames(src, prefix, name string) error {
	e.src, e.prefix, e.name = src, prefix, name
	return nil
}
func (e *endpoint) SetGateway(a net.IP) error     { e.gateway4 = a; return nil }
func (e *endpoint) SetGatewayIPv6(a net.IP) error { e.gateway6 = a; return nil }
func (e *endpoint) AddStaticRoute(d *net.IPNet, kind int, nextHop net.IP) error {
	if kind != types.CONNECTED || nextHop != nil {
		e.t.Errorf("static route to %s of type %d by %s", d, kind, nextHop)
	}
	e.connected = append(e.connected, d.String())
	return nil
}
func (e *endpoint) AddTableEntry(string, string, []byte) error { return nil }

func ipNet(t *testing.T, s string) *net.IPNet {
	t.Helper()
	n, err := types.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// register gives the drivers of engine 28.5 that talk to h.
func register(t *testing.T, h *Handler) *registry {
	t.Helper()
	socket, _ := serve(t, h)
	p, r := plugin{client: client(t, socket)}, &registry{}
	if err := remote.Register(r, p); err != nil {
		t.Fatal(err)
	}
	if err := ipamremote.Register(r, p); err != nil {
		t.Fatal(err)
	}
	if r.network == nil || r.ipam == nil {
		t.Fatal("the engine did not take the drivers: see its log above")
	}
	return r
}

// TestLibnetworkIPAM runs the engine's own remote IPAM driver against ours.
func TestLibnetworkIPAM(t *testing.T) {
	engine := newFakeEngine()
	r := register(t, New(engine, quiet()))
	if r.ipamCaps == nil || *r.ipamCaps != (ipamapi.Capability{}) {
		t.Errorf("IPAM capabilities %+v, want none asked for", r.ipamCaps)
	}
	pool, err := r.ipam.RequestPool(ipamapi.PoolRequest{AddressSpace: "v6net-local", V6: true, Options: map[string]string{"source": "parent"}})
	if err != nil || pool.PoolID != "v6" || pool.Pool.String() != "2001:db8:1::/64" {
		t.Errorf("RequestPool: %+v, %v; want pool v6", pool, err)
	}
	gateway, _, err := r.ipam.RequestAddress("v6", nil, map[string]string{ipamapi.RequestAddressType: netlabel.Gateway})
	if err != nil || gateway.String() != "2001:db8:1::2/64" {
		t.Errorf("RequestAddress: %v, %v; want 2001:db8:1::2/64", gateway, err)
	}
	if err := r.ipam.ReleaseAddress("v6", gateway.IP); err != nil {
		t.Errorf("ReleaseAddress: %v", err)
	}
	if err := r.ipam.ReleasePool("v6"); err != nil {
		t.Errorf("ReleasePool: %v", err)
	}
	var order []string
	for _, c := range engine.taken() {
		for method := range c {
			order = append(order, method)
		}
	}
	if diff := cmp.Diff([]string{"RequestPool", "RequestAddress", "ReleaseAddress", "ReleasePool"}, order); diff != "" {
		t.Errorf("our engine was called (-want +got):\n%s", diff)
	}

	_, err = r.ipam.RequestPool(ipamapi.PoolRequest{AddressSpace: "v6net-local", V6: true, Options: map[string]string{"colour": "red"}})
	if want := `remote: unknown option "colour"`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("docker network create would show %q, want %s…", err, want)
	}
}

// TestLibnetworkPoolOverlap: the engine asks again while the pool holds a name
// server of the host, and an error ends that.
func TestLibnetworkPoolOverlap(t *testing.T) {
	engine := newFakeEngine()
	tries := 0
	engine.hook = func(_ context.Context, method string) error {
		if tries++; method == "RequestPool" && tries == 3 {
			return spec.ErrNotFound
		}
		return nil
	}
	r := register(t, New(engine, quiet()))
	_, err := r.ipam.RequestPool(ipamapi.PoolRequest{
		AddressSpace: "v6net-local", V6: true,
		Exclude: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::53/128")},
	})
	if err == nil || tries != 5 {
		t.Errorf("%d calls and %v; want three requests, an error, and the two pools given back", tries, err)
	}
}

// TestLibnetworkNetwork runs the engine's own remote network driver against ours.
func TestLibnetworkNetwork(t *testing.T) {
	engine := newFakeEngine()
	r := register(t, New(engine, quiet()))
	if want := (driverapi.Capability{DataScope: scope.Local, ConnectivityScope: scope.Local}); r.capability != want {
		t.Errorf("capability %+v, want %+v", r.capability, want)
	}
	ctx := t.Context()
	options := map[string]any{
		netlabel.EnableIPv4: true, netlabel.EnableIPv6: true, netlabel.Internal: false,
		netlabel.GenericData: map[string]string{"ndproxy": "on"},
	}
	if skip4, skip6, err := r.network.(driverapi.GwAllocChecker).GetSkipGwAlloc(options); skip4 || skip6 || err != nil {
		t.Errorf("GetSkipGwAlloc: %v, %v, %v; want both gateways", skip4, skip6, err)
	}
	v4 := []driverapi.IPAMData{{AddressSpace: "v6net-local", Pool: ipNet(t, "172.30.0.0/16"), Gateway: ipNet(t, "172.30.0.1/16")}}
	v6 := []driverapi.IPAMData{{
		AddressSpace: "v6net-local", Pool: ipNet(t, "2001:db8:1::/64"), Gateway: ipNet(t, "2001:db8:1::1/64"),
		AuxAddresses: map[string]*net.IPNet{"router": ipNet(t, "2001:db8:1::99/64")},
	}}
	if err := r.network.CreateNetwork(ctx, networkID, options, nil, v4, v6); err != nil {
		t.Fatalf("CreateNetwork: %v", err)
	}

	ep := &endpoint{t: t, ipv4: ipNet(t, "172.30.0.2/16"), ipv6: ipNet(t, "2001:db8:1::2/64")}
	if err := r.network.CreateEndpoint(ctx, networkID, endpointID, ep, map[string]any{netlabel.ExposedPorts: []types.TransportPort{}}); err != nil {
		t.Fatalf("CreateEndpoint: %v; an echoed address would do that", err)
	}
	if ep.mac.String() != "02:42:ac:1e:00:02" {
		t.Errorf("the endpoint has MAC %s, want the one that v6net filled in", ep.mac)
	}
	info, err := r.network.EndpointOperInfo(networkID, endpointID)
	if err != nil || info[netlabel.MacAddress] != "02:42:ac:1e:00:02" {
		t.Errorf("EndpointOperInfo: %v, %v; want the MAC", info, err)
	}

	labels := map[string]any{netlabel.PortMap: []types.PortBinding{
		{Proto: types.TCP, Port: 80, HostPort: 8080, HostPortEnd: 8080},
		{Proto: types.UDP, Port: 53, HostIP: net.ParseIP("127.0.0.1"), HostPort: 5300, HostPortEnd: 5310},
		{Proto: types.SCTP, Port: 9899, HostIP: net.ParseIP("2001:db8::1")},
	}}
	if err := r.network.Join(ctx, networkID, endpointID, "/var/run/docker/netns/8a7f6e5d4c3b", ep, nil, labels); err != nil {
		t.Fatalf("Join: %v", err)
	}
	if ep.src != "v6nx0a1b2c3d4e5" || ep.prefix != "eth" || ep.gateway4.String() != "172.30.0.1" || ep.gateway6.String() != "fe80::1" || ep.noGatewayService {
		t.Errorf("joined as %+v, want v6nx0a1b2c3d4e5 as eth with both gateways", ep)
	}
	if diff := cmp.Diff([]string{"fe80::1/128"}, ep.connected); diff != "" {
		t.Errorf("connected routes, of which the default route's next hop needs one (-want +got):\n%s", diff)
	}
	engine.taken()
	if err := r.network.ProgramExternalConnectivity(ctx, networkID, endpointID, labels); err != nil {
		t.Fatalf("ProgramExternalConnectivity: %v", err)
	}
	want := []spec.Port{
		{Protocol: "tcp", Port: 80, HostPort: 8080},
		{Protocol: "udp", Port: 53, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 5300, HostEnd: 5310},
		{Protocol: "sctp", Port: 9899, HostIP: netip.MustParseAddr("2001:db8::1")},
	}
	published := engine.taken()[0]["Publish"].(map[string]any)["ports"]
	if diff := cmp.Diff(want, published, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	for what, err := range map[string]error{
		"RevokeExternalConnectivity": r.network.RevokeExternalConnectivity(networkID, endpointID),
		"Leave":                      r.network.Leave(networkID, endpointID),
		"DeleteEndpoint":             r.network.DeleteEndpoint(networkID, endpointID),
		"DeleteNetwork":              r.network.DeleteNetwork(networkID),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}

	options[netlabel.GenericData] = map[string]string{"mode": "carrier-pigeon"}
	_, _, err = r.network.(driverapi.GwAllocChecker).GetSkipGwAlloc(options)
	if want := `remote: option mode: "carrier-pigeon" is not allowed`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("docker network create would show %q, want %s…", err, want)
	}
}

// TestLibnetworkAllPorts: a container may publish every port there is.
func TestLibnetworkAllPorts(t *testing.T) {
	engine := newFakeEngine()
	r := register(t, New(engine, quiet()))
	var bindings []types.PortBinding
	var exposed []types.TransportPort
	for port := uint16(1); port != 0; port++ {
		bindings = append(bindings, types.PortBinding{Proto: types.UDP, Port: port, HostPort: port, HostPortEnd: port})
		exposed = append(exposed, types.TransportPort{Proto: types.UDP, Port: port})
	}
	labels := map[string]any{netlabel.PortMap: bindings, netlabel.ExposedPorts: exposed}
	if err := r.network.ProgramExternalConnectivity(t.Context(), networkID, endpointID, labels); err != nil {
		t.Fatalf("-p 1-65535:1-65535/udp: %v", err)
	}
	if n := len(engine.taken()[0]["Publish"].(map[string]any)["ports"].([]spec.Port)); n != 65535 {
		t.Errorf("%d ports published, want 65535", n)
	}
}
