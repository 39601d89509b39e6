package driver

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strconv"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/v6net/v6net/internal/spec"
)

// ipamDriver answers /IpamDriver.*.
type ipamDriver struct {
	engine IPAMEngine
}

// ipamCaps: v6net's own journal is the truth about pools and leases, so nothing
// need be replayed to it, and no address depends on a MAC.
var ipamCaps = ipamCapabilities{}

// addressSpaces are two: with the same name for both, the engine takes every
// network for a swarm's and no longer looks whether a pool overlaps one in use.
var addressSpaces = ipam.AddressSpacesResponse{
	LocalDefaultAddressSpace:  "v6net-local",
	GlobalDefaultAddressSpace: "v6net-global",
}

func (d *ipamDriver) requestPool(ctx context.Context, r ipam.RequestPoolRequest) (ipam.RequestPoolResponse, error) {
	subnet, options, err := subnetOrSize(r)
	if err != nil {
		return ipam.RequestPoolResponse{}, err
	}
	request, err := spec.ParsePoolRequest(r.V6, subnet, r.SubPool, options)
	if err != nil {
		return ipam.RequestPoolResponse{}, err
	}
	pool, err := d.engine.RequestPool(ctx, request)
	if err != nil {
		return ipam.RequestPoolResponse{}, err
	}
	// No Data: a gateway there would be one that the engine never asks for.
	return ipam.RequestPoolResponse{PoolID: pool.ID, Pool: pool.Prefix.String()}, nil
}

// subnetOrSize resolves a subnet of the unspecified address, with which engine
// 29 asks for any subnet of that size: `--subnet ::/80`, and ::/0 for any at all.
func subnetOrSize(r ipam.RequestPoolRequest) (subnet string, options map[string]string, err error) {
	p, err := netip.ParsePrefix(r.Pool)
	if err != nil || !p.Addr().IsUnspecified() {
		return r.Pool, r.Options, nil // if it is not a subnet, spec says so
	}
	if p.Addr().Is6() != r.V6 {
		return "", nil, fmt.Errorf("subnet %s is of the other address family", p)
	}
	if p.Bits() == 0 {
		return "", r.Options, nil
	}
	if !r.V6 {
		return "", nil, fmt.Errorf("subnet %s: the size of an IPv4 pool cannot be chosen; name a subnet, or none", p)
	}
	options = maps.Clone(r.Options)
	if options == nil {
		options = make(map[string]string)
	}
	const key = "prefix_length"
	size := strconv.Itoa(p.Bits())
	if asked, ok := options[key]; ok && asked != size {
		return "", nil, fmt.Errorf("subnet %s asks for another size than option %s=%s (leave one of them out)", p, key, asked)
	}
	options[key] = size
	return "", options, nil
}

func (d *ipamDriver) releasePool(ctx context.Context, r ipam.ReleasePoolRequest) (done, error) {
	return done{}, gone(d.engine.ReleasePool(ctx, r.PoolID))
}

func (d *ipamDriver) requestAddress(ctx context.Context, r ipam.RequestAddressRequest) (ipam.RequestAddressResponse, error) {
	var want netip.Addr
	if r.Address != "" {
		var err error
		if want, err = parseAddr(r.Address); err != nil {
			return ipam.RequestAddressResponse{}, err
		}
	}
	gateway := r.Options[requestAddressType] == labelGateway
	got, err := d.engine.RequestAddress(ctx, r.PoolID, want, gateway)
	if err != nil {
		return ipam.RequestAddressResponse{}, err
	}
	return ipam.RequestAddressResponse{Address: got.String()}, nil
}

func (d *ipamDriver) releaseAddress(ctx context.Context, r ipam.ReleaseAddressRequest) (done, error) {
	if r.Address == "" {
		return done{}, nil // an endpoint that never got one
	}
	addr, err := parseAddr(r.Address)
	if err != nil {
		return done{}, err
	}
	return done{}, gone(d.engine.ReleaseAddress(ctx, r.PoolID, addr))
}
