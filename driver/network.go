package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/spec"
)

// networkDriver answers /NetworkDriver.*, networks and capabilities here,
// endpoints in endpoint.go.
type networkDriver struct {
	engine NetworkEngine
}

// networkCaps: a network exists on one host, and so does the connectivity that
// it gives to its endpoints as the engine means the word. With a global one the
// engine spreads the endpoints over a swarm and announces the swarm's nodes.
var networkCaps = networkCapabilities{
	CapabilitiesResponse: network.CapabilitiesResponse{
		Scope:             network.LocalScope,
		ConnectivityScope: network.LocalScope,
	},
	GwAllocChecker: true,
}

// gwAllocCheck says which gateway addresses are not needed. It is also the
// first call that carries the user's options: a wrong one fails here, before
// any pool is taken.
func (d *networkDriver) gwAllocCheck(_ context.Context, r gwAllocCheckRequest) (gwAllocCheckResponse, error) {
	options, internal, err := networkOptions(r.Options)
	if err != nil {
		return gwAllocCheckResponse{}, err
	}
	// With inhibit_ipv4 the gateway is another router's address, which the
	// containers need for their default route. An internal network has none.
	// On a parent the gateway is the upstream router, unless the host wants an
	// address there itself.
	router := options.OnParent() && !options.HostAccess
	return gwAllocCheckResponse{SkipIPv4: options.Inhibit4 && internal || router, SkipIPv6: router}, nil
}

// errLocalScope answers what the engine asks for swarm networks only.
var errLocalScope = errors.New("v6net networks are local to one host: a network of swarm scope cannot be made with this driver")

func (d *networkDriver) allocate(context.Context, network.AllocateNetworkRequest) (network.AllocateNetworkResponse, error) {
	return network.AllocateNetworkResponse{}, errLocalScope
}

func (d *networkDriver) free(context.Context, network.FreeNetworkRequest) (done, error) {
	return done{}, errLocalScope
}

func (d *networkDriver) create(ctx context.Context, r network.CreateNetworkRequest) (done, error) {
	options, internal, err := networkOptions(r.Options)
	if err != nil {
		return done{}, err
	}
	n := spec.Network{ID: r.NetworkID, Options: options, Internal: internal}
	if n.IPv4, err = subnets(false, r.IPv4Data); err != nil {
		return done{}, fmt.Errorf("IPv4 %w", err)
	}
	if n.IPv6, err = subnets(true, r.IPv6Data); err != nil {
		return done{}, fmt.Errorf("IPv6 %w", err)
	}
	if err := n.Validate(); err != nil {
		return done{}, err
	}
	return done{}, d.engine.CreateNetwork(ctx, n)
}

func (d *networkDriver) delete(ctx context.Context, r network.DeleteNetworkRequest) (done, error) {
	if err := spec.CheckID("network", r.NetworkID); err != nil {
		return done{}, err
	}
	return done{}, gone(d.engine.DeleteNetwork(ctx, r.NetworkID))
}

// gone is err unless it says that what was to be removed is not there: calls
// for unknown networks and endpoints come after a crash, and as the roll-back
// of what never came to be.
func gone(err error) error {
	if errors.Is(err, spec.ErrNotFound) {
		return nil
	}
	return err
}
