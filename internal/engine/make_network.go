package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// MakeNetwork makes a network with its pools and gateways. The same request again
// answers the network that is there.
func (e *Engine) MakeNetwork(ctx context.Context, r spec.NetworkRequest) (spec.Network, error) {
	return e.makeNetwork(ctx, r, false)
}

// makeNetwork is MakeNetwork, or makes one again that its front end remembers. Its
// subnets were judged when it was made: what they were found to be is not asked of
// their user again, nor is a container kept waiting for a probe of the gateway.
func (e *Engine) makeNetwork(ctx context.Context, r spec.NetworkRequest, again bool) (spec.Network, error) {
	if err := spec.CheckID("network", r.ID); err != nil {
		return spec.Network{}, err
	}
	if len(r.IPv6) == 0 {
		return spec.Network{}, fmt.Errorf("network %s: it asks for no IPv6 subnet", spec.ShortID(r.ID))
	}
	if known, ok, err := e.knownNetwork(r); ok || err != nil {
		return known, err
	}
	e.dropPredecessor(r)
	n := spec.Network{ID: r.ID, Name: r.Name, FrontEnd: r.FrontEnd, Options: r.Options, Internal: r.Internal, Names: r.Names}
	var taken []string
	steps := []step{
		{
			what: "pools",
			do: func(ctx context.Context) (err error) {
				if n.IPv6, err = e.takeSubnets(ctx, r.FrontEnd, r.IPv6, &taken); err == nil {
					n.IPv4, err = e.takeSubnets(ctx, r.FrontEnd, r.IPv4, &taken)
				}
				if err == nil && again {
					e.judgedBefore(taken)
				}
				return err
			},
			undo: func(ctx context.Context) error {
				var errs []error
				for _, id := range taken {
					if err := e.ReleasePool(ctx, id); !errors.Is(err, spec.ErrNotFound) {
						errs = append(errs, err)
					}
				}
				return errors.Join(errs...)
			},
		},
		{
			what: "network",
			do:   func(ctx context.Context) error { return e.CreateNetwork(ctx, n) }, // takes itself back
		},
	}
	if err := run(ctx, steps); err != nil {
		return spec.Network{}, fmt.Errorf("network %s: %w", r.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	made, err := e.network(r.ID)
	if err != nil {
		return spec.Network{}, err
	}
	made.made = time.Now()
	e.watchAbandoned(made, settleTime)
	return made.Network, nil
}

// knownNetwork is the network that was asked for before by the same request.
func (e *Engine) knownNetwork(r spec.NetworkRequest) (spec.Network, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, ok := e.networks[r.ID]
	if !ok {
		return spec.Network{}, false, nil
	}
	options := n.Options
	if r.Options.Parent == "" {
		options.Parent = "" // it may have been settled
	}
	same := n.Phase == spec.PhaseReady && n.FrontEnd == r.FrontEnd && n.Internal == r.Internal &&
		reflect.DeepEqual(options, r.Options) && areOf(n.IPv6, r.IPv6) && areOf(n.IPv4, r.IPv4)
	if !same {
		return spec.Network{}, false, fmt.Errorf("network %s exists already with other options or subnets", spec.ShortID(r.ID))
	}
	return n.Network, true, nil
}

// areOf reports whether subnets are what was asked for.
func areOf(subnets []spec.Subnet, asked []spec.SubnetRequest) bool {
	return slices.EqualFunc(subnets, asked, func(s spec.Subnet, r spec.SubnetRequest) bool {
		return (!r.Pool.Prefix.IsValid() || r.Pool.Prefix == s.Prefix) && (!r.Gateway.IsValid() || r.Gateway == s.Gateway)
	})
}

// dropPredecessor removes a network of the same name, which its front end does not
// have any more, since names are unique there. It would keep its prefix from the
// new one.
func (e *Engine) dropPredecessor(r spec.NetworkRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.allNetworks() {
		if n.FrontEnd == r.FrontEnd && n.Name == r.Name && r.Name != "" && n.ID != r.ID {
			n.made = time.Time{}
			if e.Registry != nil {
				e.dropAbandoned(n.ID)
			}
		}
	}
}

// takeSubnets asks for pools and the addresses of their gateways; taken grows with
// each pool.
func (e *Engine) takeSubnets(ctx context.Context, frontEnd string, asked []spec.SubnetRequest, taken *[]string) ([]spec.Subnet, error) {
	var subnets []spec.Subnet
	for _, r := range asked {
		r.Pool.FrontEnd = frontEnd
		pool, err := e.RequestPool(ctx, r.Pool)
		if err != nil {
			return nil, err
		}
		*taken = append(*taken, pool.ID)
		s := spec.Subnet{Prefix: pool.Prefix}
		if !r.NoGateway || r.Gateway.IsValid() {
			gateway, err := e.RequestAddress(ctx, pool.ID, r.Gateway, true)
			if err != nil {
				return nil, fmt.Errorf("gateway: %w", err)
			}
			s.Gateway = gateway.Addr()
		}
		subnets = append(subnets, s)
	}
	return subnets, nil
}

// judgedBefore notes that pools are those of a network that was there before.
func (e *Engine) judgedBefore(pools []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range pools {
		if p, ours := e.pools[id]; ours {
			p.judged = true
		}
	}
}

// isJudged reports whether a prefix is a pool of a network that was there before.
func (e *Engine) isJudged(prefix netip.Prefix) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ours := e.pools[prefix.String()]
	return ours && p.judged
}
