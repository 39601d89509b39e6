package driver

import (
	"context"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// Engine is what the front end calls. An unknown network, endpoint, pool or
// address is an error that matches spec.ErrNotFound. Every text of an error may
// be shown to the user of the docker command.
type Engine interface {
	NetworkEngine
	IPAMEngine
}

// NetworkEngine has networks and endpoints. Its methods are idempotent: the
// Docker engine repeats calls and rolls back what it does not know to be done.
type NetworkEngine interface {
	CreateNetwork(ctx context.Context, n spec.Network) error
	DeleteNetwork(ctx context.Context, id string) error
	// CreateEndpoint answers with what it filled in: the addresses and MAC that came empty.
	CreateEndpoint(ctx context.Context, ep spec.Endpoint) (spec.Endpoint, error)
	DeleteEndpoint(ctx context.Context, networkID, endpointID string) error
	Endpoint(ctx context.Context, networkID, endpointID string) (spec.Endpoint, error)
	Join(ctx context.Context, networkID, endpointID, sandbox string) (spec.Attachment, error)
	Leave(ctx context.Context, networkID, endpointID string) error
	// Publish replaces whatever was published for the endpoint: engine 29
	// repeats the call when the endpoint becomes the gateway of the other
	// address family too, with no Unpublish between.
	Publish(ctx context.Context, networkID, endpointID string, ports []spec.Port) error
	Unpublish(ctx context.Context, networkID, endpointID string) error
}

// IPAMEngine has pools and addresses.
type IPAMEngine interface {
	RequestPool(ctx context.Context, r spec.PoolRequest) (spec.Pool, error)
	ReleasePool(ctx context.Context, poolID string) error
	// RequestAddress leases want, or a free address if want is the zero Addr,
	// and answers with the pool's prefix length. gateway says that the address
	// is to be the network's own, not a container's.
	RequestAddress(ctx context.Context, poolID string, want netip.Addr, gateway bool) (netip.Prefix, error)
	ReleaseAddress(ctx context.Context, poolID string, addr netip.Addr) error
}
