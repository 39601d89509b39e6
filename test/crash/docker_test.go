//go:build netns

package crash_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/testdocker"
)

// docker speaks to a machine's daemon as the Docker engine does.
type docker struct {
	m      *machine
	socket string
	client http.Client
}

func newDocker(m *machine, socket string) *docker {
	return &docker{m: m, socket: socket, client: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // of a daemon that is gone
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// post makes one call.
func (d *docker) post(method string, request, answer any) error {
	return d.m.call(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		return testdocker.Post(ctx, &d.client, method, request, answer)
	})
}

// cleanUp is post for calls whose errors the engine logs, and goes on.
func (d *docker) cleanUp(method string, request any) error {
	err := d.post(method, request, nil)
	if refused := (*testdocker.Refusal)(nil); errors.As(err, &refused) {
		return nil
	}
	return err
}

func (d *docker) requestPool(subnet string, v6 bool, options map[string]string) (ipam.RequestPoolResponse, error) {
	var pool ipam.RequestPoolResponse
	err := d.post("IpamDriver.RequestPool", ipam.RequestPoolRequest{AddressSpace: "v6net-local", Pool: subnet, V6: v6, Options: options}, &pool)
	return pool, err
}

func (d *docker) releasePool(id string) error {
	return d.cleanUp("IpamDriver.ReleasePool", ipam.ReleasePoolRequest{PoolID: id})
}

func (d *docker) requestAddress(pool, want string, gateway bool) (string, error) {
	r := ipam.RequestAddressRequest{PoolID: pool, Address: want, Options: map[string]string{}}
	if gateway {
		r.Options["RequestAddressType"] = "com.docker.network.gateway"
	}
	var answer ipam.RequestAddressResponse
	err := d.post("IpamDriver.RequestAddress", r, &answer)
	return answer.Address, err
}

func (d *docker) releaseAddress(pool, address string) error {
	bare, _, _ := strings.Cut(address, "/")
	return d.cleanUp("IpamDriver.ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: pool, Address: bare})
}

func (d *docker) createNetwork(id string, internal bool, options map[string]any, v4, v6 *network.IPAMData) error {
	r := network.CreateNetworkRequest{NetworkID: id, Options: map[string]any{"com.docker.network.enable_ipv6": true, "com.docker.network.internal": internal, "com.docker.network.generic": options}}
	if v4 != nil {
		r.IPv4Data = []*network.IPAMData{v4}
	}
	if v6 != nil {
		r.IPv6Data = []*network.IPAMData{v6}
	}
	return d.post("NetworkDriver.CreateNetwork", r, nil)
}

func (d *docker) deleteNetwork(id string) error {
	return d.cleanUp("NetworkDriver.DeleteNetwork", network.DeleteNetworkRequest{NetworkID: id})
}

func (d *docker) createEndpoint(networkID, id, v4, v6 string) error {
	return d.post("NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{NetworkID: networkID, EndpointID: id,
		Interface: &network.EndpointInterface{Address: v4, AddressIPv6: v6}, Options: map[string]any{}}, nil)
}

func (d *docker) deleteEndpoint(networkID, id string) error {
	return d.cleanUp("NetworkDriver.DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: networkID, EndpointID: id})
}

func (d *docker) join(networkID, id, sandbox string) (network.JoinResponse, error) {
	var answer network.JoinResponse
	err := d.post("NetworkDriver.Join", network.JoinRequest{NetworkID: networkID, EndpointID: id, SandboxKey: sandbox, Options: map[string]any{}}, &answer)
	return answer, err
}

func (d *docker) leave(networkID, id string) error {
	return d.cleanUp("NetworkDriver.Leave", network.LeaveRequest{NetworkID: networkID, EndpointID: id})
}

func (d *docker) publish(networkID, id string, port, hostPort int) error {
	return d.post("NetworkDriver.ProgramExternalConnectivity", network.ProgramExternalConnectivityRequest{NetworkID: networkID, EndpointID: id,
		Options: map[string]any{"com.docker.network.portmap": []map[string]any{{"Proto": 6, "Port": port, "HostPort": hostPort}}}}, nil)
}

func (d *docker) revoke(networkID, id string) error {
	return d.cleanUp("NetworkDriver.RevokeExternalConnectivity", network.RevokeExternalConnectivityRequest{NetworkID: networkID, EndpointID: id})
}
