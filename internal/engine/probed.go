package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/ipam"
)

// A probe waits a second for an answer (RFC 4862 §5.4.1, RetransTimer), which
// no `docker run` should. So addresses of a shared link are probed ahead of
// need, a batch at a time, and used while the result is fresh.
const (
	probeBatch = 16
	probeLow   = 4 // probe the next batch when so few are left
	probeFresh = 10 * time.Minute
)

// candidate is an address that nobody answered for. It is reserved in its pool
// and not in the journal: it is nobody's lease yet.
type candidate struct {
	addr   netip.Addr
	probed time.Time
}

// allocateProbed leases an address that passed DAD, waiting for a probe only
// when none was made ahead.
func (e *Engine) allocateProbed(ctx context.Context, p *pool) (netip.Addr, error) {
	for range 2 {
		if addr, ok := e.takeProbed(p); ok {
			return addr, nil
		}
		if err := e.refill(ctx, p.ID); err != nil {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, fmt.Errorf("every address that was probed is in use on %s by somebody else", p.Parent)
}

func (e *Engine) takeProbed(p *pool) (netip.Addr, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.dropStale(time.Now())
	if len(p.probed) <= probeLow {
		defer e.wantRefill(p.ID)
	}
	if len(p.probed) == 0 {
		return netip.Addr{}, false
	}
	addr := p.probed[0].addr
	p.probed = p.probed[1:]
	return addr, true
}

// dropStale gives candidates back whose probe says little by now.
func (p *pool) dropStale(now time.Time) {
	p.probed = slices.DeleteFunc(p.probed, func(c candidate) bool {
		stale := now.Sub(c.probed) > probeFresh
		if stale {
			p.addrs.Release(c.addr)
		}
		return stale
	})
}

// wantRefill asks Run for a probe; a full queue means that one is due anyway.
func (e *Engine) wantRefill(poolID string) {
	select {
	case e.refills <- poolID:
	default:
	}
}

// refill probes the pool's next addresses. One that somebody answers for stays
// reserved, so that it is not tried again while the daemon runs.
func (e *Engine) refill(ctx context.Context, poolID string) error {
	e.mu.Lock()
	p, err := e.pool(poolID)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	p.refilling.Lock()
	defer p.refilling.Unlock()
	e.mu.Lock()
	enough := len(p.probed) > probeLow
	e.mu.Unlock()
	if enough {
		return nil
	}
	var batch []netip.Addr
	for range probeBatch {
		addr, err := p.addrs.Allocate()
		if errors.Is(err, ipam.ErrExhausted) && len(batch) > 0 {
			break
		}
		if err != nil {
			return err
		}
		batch = append(batch, addr)
	}
	taken, err := e.Host.Probe(ctx, p.Parent, batch)
	if err != nil {
		for _, a := range batch {
			p.addrs.Release(a)
		}
		return fmt.Errorf("duplicate address detection on %s: %w", p.Parent, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, a := range batch {
		if slices.Contains(taken, a) {
			e.Log.Warn("address is in use by somebody else on the link", "address", a, "parent", p.Parent)
			continue
		}
		p.probed = append(p.probed, candidate{addr: a, probed: now})
	}
	return nil
}

// reserve leases the address that a user chose. On a shared link it is probed
// now, unless it was just before.
func (e *Engine) reserve(ctx context.Context, p *pool, addr netip.Addr) error {
	e.mu.Lock()
	i := slices.IndexFunc(p.probed, func(c candidate) bool { return c.addr == addr })
	if i >= 0 {
		p.probed = slices.Delete(p.probed, i, i+1)
	}
	e.mu.Unlock()
	if i >= 0 {
		return nil
	}
	if err := p.addrs.Reserve(addr); err != nil {
		return err
	}
	if !p.OnLink {
		return nil
	}
	taken, err := e.Host.Probe(ctx, p.Parent, []netip.Addr{addr})
	if err == nil && len(taken) > 0 {
		err = fmt.Errorf("address %s is in use by another host on %s", addr, p.Parent)
	}
	if err != nil {
		p.addrs.Release(addr)
	}
	return err
}
