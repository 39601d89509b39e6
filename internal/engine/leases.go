package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// loosen notes that a lease has no endpoint, from now on. If it has none for long,
// it is taken back: a container engine that fails to start a container forgets
// some of the addresses that it asked for.
func (e *Engine) loosen(p *pool, addr netip.Addr) { e.loosenFor(p, addr, settleTime) }

// loosenFor is loosen where less than a minute is to be waited.
func (e *Engine) loosenFor(p *pool, addr netip.Addr, wait time.Duration) {
	since := time.Now()
	p.loose[addr] = since
	e.later(wait, func() {
		if e.pools[p.ID] != p || p.loose[addr] != since {
			return
		}
		delete(p.loose, addr)
		n := e.networkUsing(p.Prefix)
		if n == nil || e.accountsFor(n, addr) {
			return // another driver's network: its endpoints are unknown to us
		}
		if err := e.sweepLease(p, addr); err != nil {
			e.Log.Error("release what nobody uses", "pool", p.ID, "address", addr, "err", err)
		} else if n.FrontEnd != "" && p.takeResting(addr) {
			p.addrs.Release(addr) // as in sweepLeases
		}
	})
}

// accountsFor reports whether an address of a network's is a gateway's, an
// auxiliary one or an endpoint's.
func (e *Engine) accountsFor(n *network, addr netip.Addr) bool {
	for _, s := range n.Subnets() { // leases are by the pool's own prefix, whatever the network has now
		if s.Gateway == addr || s.Host == addr || slices.Contains(s.Aux, addr) {
			return true
		}
	}
	_, used := e.byAddr[addr]
	return used
}

// sweepLease takes a lease back. The address rests then.
func (e *Engine) sweepLease(p *pool, addr netip.Addr) error {
	if err := e.dropLease(p, addr); err != nil {
		return err
	}
	about := []any{"pool", p.ID, "address", addr}
	if n := e.networkUsing(p.Prefix); n != nil {
		about = aboutNetwork(n.Network, about...)
	}
	e.Log.Info("lease without an endpoint released", about...)
	delete(p.loose, addr)
	p.resting = append(p.resting, addr)
	e.later(restTime, func() {
		if p.takeResting(addr) {
			p.addrs.Release(addr)
		}
	})
	return nil
}

// takeResting makes a resting address the caller's, and reports whether addr was one.
func (p *pool) takeResting(addr netip.Addr) bool { return takeFrom(&p.resting, addr) }

// takeProbing makes an address the caller's that is being probed, and reports whether addr was
// one. It stays reserved.
func (p *pool) takeProbing(addr netip.Addr) bool { return takeFrom(&p.probing, addr) }

func takeFrom(addrs *[]netip.Addr, addr netip.Addr) bool {
	i := slices.Index(*addrs, addr)
	if i < 0 {
		return false
	}
	*addrs = slices.Delete(*addrs, i, i+1)
	return true
}

// longestRested takes the address that has rested the longest, if there is one.
func (p *pool) longestRested() (addr netip.Addr, ok bool) {
	if len(p.resting) == 0 {
		return netip.Addr{}, false
	}
	addr = p.resting[0]
	return addr, p.takeResting(addr)
}

// lease is an address of a pool.
type lease struct {
	pool *pool
	addr netip.Addr
}

// adoptLeases makes sure that the endpoint's addresses are leased where the
// pool is ours: the lease may have been swept by a start between the engine's
// RequestAddress and its CreateEndpoint. It answers those that were not, also
// when it fails.
func (e *Engine) adoptLeases(ctx context.Context, ep *endpoint) (adopted []lease, err error) {
	for _, a := range ep.Leases() {
		p, ours := e.pools[a.Masked().String()]
		if !ours {
			continue
		}
		if err := p.refuseOthers(a.Addr()); err != nil {
			return adopted, fmt.Errorf("pool %s: %w", p.ID, err)
		}
		if p.duplicates[a.Addr()] {
			return adopted, fmt.Errorf("pool %s: %w", p.ID, &duplicate{"address " + a.Addr().String(), p.Parent, e.usedBy(ctx, a.Addr())})
		}
		if !p.takeCandidate(a.Addr()) && !p.takeResting(a.Addr()) && !p.takeProbing(a.Addr()) {
			if p.addrs.Leased(a.Addr()) {
				continue
			}
			if err := p.addrs.Reserve(a.Addr()); err != nil {
				return adopted, fmt.Errorf("pool %s: %w", p.ID, err)
			}
		}
		adopted = append(adopted, lease{p, a.Addr()})
		if err := e.putLease(p, a.Addr()); err != nil {
			return adopted, err
		}
	}
	return adopted, nil
}

// dropLeases is the way back.
func (e *Engine) dropLeases(leases []lease) error {
	var errs []error
	for _, l := range leases {
		l.pool.addrs.Release(l.addr)
		errs = append(errs, e.dropLease(l.pool, l.addr))
	}
	return errors.Join(errs...)
}
