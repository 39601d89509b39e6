//go:build bench

package bench_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/testdocker"
)

// plugin speaks to a plugin's socket as libnetwork does.
type plugin struct {
	socket string
	client http.Client
}

func newPlugin(socket string) *plugin {
	return &plugin{socket: socket, client: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// post makes one call. An error that the plugin answers is returned.
func (p *plugin) post(ctx context.Context, method string, request, answer any) error {
	return testdocker.Post(ctx, &p.client, method, request, answer)
}

// activate reports whether the plugin answers.
func (p *plugin) activate(ctx context.Context) error {
	return p.post(ctx, "Plugin.Activate", struct{}{}, &struct{}{})
}

// call is post for calls that have to succeed.
func call[Answer any](t *testing.T, p *plugin, method string, request any) (answer Answer) {
	t.Helper()
	if err := p.post(t.Context(), method, request, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// done is an answer in which nothing is said.
type done struct{}

// pair is a subnet, or the ID of a pool, of each family.
type pair struct{ v4, v6 string }

// makeNetwork makes a network as `docker network create` does, and returns its pools.
func (p *plugin) makeNetwork(t *testing.T, id string, subnets pair, options map[string]any) (pools pair) {
	t.Helper()
	data := func(id *string, subnet string, v6 bool) []*network.IPAMData {
		pool := call[ipam.RequestPoolResponse](t, p, "IpamDriver.RequestPool", ipam.RequestPoolRequest{Pool: subnet, V6: v6})
		gateway := call[ipam.RequestAddressResponse](t, p, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{
			PoolID: pool.PoolID, Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"}})
		*id = pool.PoolID
		return []*network.IPAMData{{Pool: pool.Pool, Gateway: gateway.Address}}
	}
	call[done](t, p, "NetworkDriver.CreateNetwork", network.CreateNetworkRequest{
		NetworkID: id,
		Options:   map[string]any{"com.docker.network.enable_ipv6": true, "com.docker.network.generic": options},
		IPv4Data:  data(&pools.v4, subnets.v4, false),
		IPv6Data:  data(&pools.v6, subnets.v6, true),
	})
	return pools
}

// attach makes an endpoint as `docker run -p 80` does, up to where libnetwork
// takes the link into the container, and returns that link's name.
func (p *plugin) attach(t *testing.T, networkID, endpointID string, pools pair) string {
	t.Helper()
	address := func(pool string) string {
		return call[ipam.RequestAddressResponse](t, p, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{PoolID: pool}).Address
	}
	call[network.CreateEndpointResponse](t, p, "NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: networkID, EndpointID: endpointID,
		Interface: &network.EndpointInterface{Address: address(pools.v4), AddressIPv6: address(pools.v6)},
	})
	return call[network.JoinResponse](t, p, "NetworkDriver.Join", network.JoinRequest{
		NetworkID: networkID, EndpointID: endpointID, SandboxKey: "/run/netns/" + endpointID[:12],
	}).InterfaceName.SrcName
}

// publish is what libnetwork does for -p 80 when the link is in the container.
func (p *plugin) publish(t *testing.T, networkID, endpointID string) {
	t.Helper()
	call[done](t, p, "NetworkDriver.ProgramExternalConnectivity", network.ProgramExternalConnectivityRequest{
		NetworkID: networkID, EndpointID: endpointID,
		Options: map[string]any{"com.docker.network.portmap": []map[string]any{{"Proto": 6, "Port": 80}}},
	})
}

// remove takes an endpoint away as `docker rm -f` does, but for its leases.
func (p *plugin) remove(t *testing.T, networkID, endpointID string) {
	t.Helper()
	call[done](t, p, "NetworkDriver.RevokeExternalConnectivity", network.RevokeExternalConnectivityRequest{NetworkID: networkID, EndpointID: endpointID})
	call[done](t, p, "NetworkDriver.Leave", network.LeaveRequest{NetworkID: networkID, EndpointID: endpointID})
	call[done](t, p, "NetworkDriver.DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: networkID, EndpointID: endpointID})
}

// removeNetwork is `docker network rm`.
func (p *plugin) removeNetwork(t *testing.T, id string, pools pair) {
	t.Helper()
	call[done](t, p, "NetworkDriver.DeleteNetwork", network.DeleteNetworkRequest{NetworkID: id})
	for _, pool := range []string{pools.v4, pools.v6} {
		call[done](t, p, "IpamDriver.ReleasePool", ipam.ReleasePoolRequest{PoolID: pool})
	}
}
