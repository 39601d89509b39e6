package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

// RequestAddress leases an address: want if it is valid, the pool's first
// address for a gateway, the next free one otherwise. On a link shared with
// others the address has passed DAD (RFC 4862 §5.4), since the engine sets it
// without. The answer carries the pool's prefix length.
func (e *Engine) RequestAddress(ctx context.Context, poolID string, want netip.Addr, gateway bool) (netip.Prefix, error) {
	e.mu.Lock()
	p, err := e.pool(poolID)
	e.mu.Unlock()
	if err != nil {
		return netip.Prefix{}, err
	}
	want = e.home(p, want)
	for {
		of := e.current(p)
		addr, err := e.findAddress(ctx, p, want, gateway)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("pool %s: %w", poolID, err)
		}
		leased, probed, err := e.lease(p, addr, of, want, gateway)
		if probed || err != nil {
			return leased, err
		}
	}
}

func (e *Engine) findAddress(ctx context.Context, p *pool, want netip.Addr, gateway bool) (netip.Addr, error) {
	switch {
	case want.IsValid() && gateway:
		return want, e.reserveGateway(p, want)
	case want.IsValid():
		return want, e.reserve(ctx, p, want)
	case gateway:
		return e.allocateGateway(ctx, p)
	default:
		return e.allocate(ctx, p)
	}
}

// lease takes a lease down. It gives the address back instead, and reports so, where it was
// probed in another prefix than the pool's network has by now.
func (e *Engine) lease(p *pool, addr netip.Addr, of netip.Prefix, want netip.Addr, gateway bool) (leased netip.Prefix, probed bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pools[p.ID] != p { // released while the address was probed
		return netip.Prefix{}, false, fmt.Errorf("pool %s: %w", p.ID, spec.ErrNotFound)
	}
	if !gateway && p.isShared() && e.currentOf(p) != of {
		p.addrs.Release(addr)
		return netip.Prefix{}, false, nil
	}
	if err := e.putLease(p, addr); err != nil {
		p.addrs.Release(addr)
		return netip.Prefix{}, false, err
	}
	if !gateway && !want.IsValid() {
		e.settle(p)
	}
	e.loosen(p, addr)
	if !gateway {
		addr = e.inCurrent(p, addr)
	}
	return netip.PrefixFrom(addr, p.Prefix.Bits()), true, nil
}

func (e *Engine) allocate(ctx context.Context, p *pool) (netip.Addr, error) {
	if e.isShared(p) {
		return e.allocateProbed(ctx, p)
	}
	addr, err := p.addrs.Allocate()
	if errors.Is(err, ipam.ErrExhausted) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if rested, ok := p.longestRested(); ok {
			return rested, nil
		}
	}
	return addr, err
}

// allocateGateway takes the first address that may be had: the one people expect of a gateway.
func (e *Engine) allocateGateway(ctx context.Context, p *pool) (netip.Addr, error) {
	first := p.Prefix.Addr().Next()
	if e.isAskedAgain(p, first) {
		return first, nil
	}
	reserve := p.addrs.Reserve
	if p.Source == spec.SourceStatic { // a part that we found was probed then
		reserve = func(a netip.Addr) error { return e.reserve(ctx, p, a) }
	}
	err := reserve(first)
	if _, isDuplicate := errors.AsType[*duplicate](err); isDuplicate || errors.Is(err, ipam.ErrTaken) {
		return e.allocate(ctx, p)
	}
	return first, err
}

// isAskedAgain reports whether a gateway was leased a moment ago, and no network is there yet:
// a front end that had no answer asks once more.
func (e *Engine) isAskedAgain(p *pool, gateway netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, loose := p.loose[gateway]
	return loose && e.networkUsing(p.Prefix) == nil
}

// reserveGateway leases the gateway that a user named. It is not probed: it may
// be a router that is there already, as in the modes without a bridge it is.
func (e *Engine) reserveGateway(p *pool, addr netip.Addr) error {
	if e.isAskedAgain(p, addr) {
		return nil
	}
	if _, err := e.setAside(p, addr); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	named := p.Pool
	named.Gateway = addr
	if err := e.Journal.PutPool(named); err != nil {
		p.addrs.Release(addr)
		return err
	}
	p.Gateway = addr
	return nil
}

// ReleaseAddress gives a lease back, unless a container has the address. An
// endpoint that was never joined goes with it: the container engine had no
// answer when it was made, and takes back only the address. The error matches
// spec.ErrNotFound for an unknown pool or lease.
func (e *Engine) ReleaseAddress(ctx context.Context, poolID string, addr netip.Addr) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.pool(poolID)
	if err != nil {
		return err
	}
	if p.Lent != nil {
		addr = spec.Renumbered(addr, p.Prefix) // it may be of any prefix that the pool has had
	}
	if ep, used := e.byAddr[addr]; used {
		if ep.Joined {
			return fmt.Errorf("pool %s: address %s is in use by endpoint %s", poolID, addr, spec.ShortID(ep.ID))
		}
		if err := e.dropEndpoint(ctx, ep); err != nil {
			return fmt.Errorf("pool %s: address %s: endpoint %s: %w", poolID, addr, spec.ShortID(ep.ID), err)
		}
	}
	if p.takeResting(addr) {
		p.addrs.Release(addr)
		return fmt.Errorf("pool %s: address %s: %w", poolID, addr, spec.ErrNotFound)
	}
	if !p.addrs.Leased(addr) || p.isCandidate(addr) || slices.Contains(p.probing, addr) || p.duplicates[addr] || p.others[addr] != "" {
		return fmt.Errorf("pool %s: address %s: %w", poolID, addr, spec.ErrNotFound)
	}
	if err := e.dropLease(p, addr); err != nil {
		return err
	}
	p.addrs.Release(addr)
	delete(p.loose, addr)
	return nil
}
