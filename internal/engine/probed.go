package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

// A probe waits a second for an answer (RFC 4862 §5.4.1, RetransTimer), which
// no `docker run` should. So addresses of a shared link are probed ahead of
// need, a batch at a time, and used while the result is fresh.
const (
	probeBatch = 16
	probeLow   = 4 // probe the next batch when so few are left
	probeFresh = 10 * time.Minute
	probeTries = 2 // batches of which every address is somebody else's
)

// duplicate is the error of an address that somebody on a link has already.
type duplicate struct {
	what      string // the address, for people
	link, who string
}

func (d *duplicate) Error() string {
	return fmt.Sprintf("%s on %s is in use by %s", d.what, d.link, d.who)
}

const anotherHost = "another host"

// usedBy says, for people, who has an address that is in use on a link.
func (e *Engine) usedBy(ctx context.Context, addr netip.Addr) string {
	alone := netip.PrefixFrom(addr, addr.BitLen())
	taken, err := e.Host.Taken(ctx, alone)
	if err == nil && slices.Contains(taken, alone) {
		return "this host itself"
	}
	return anotherHost
}

// candidate is an address that nobody answered for. It is reserved in its pool
// and not in the journal: it is nobody's lease yet.
type candidate struct {
	addr   netip.Addr
	probed time.Time
}

// allocateProbed leases an address that passed DAD, waiting for a probe only
// when none was made ahead.
func (e *Engine) allocateProbed(ctx context.Context, p *pool) (netip.Addr, error) {
	for tries := 0; ; {
		if addr, ok := e.takeProbed(p); ok {
			return addr, nil
		}
		if tries == probeTries {
			return netip.Addr{}, &duplicate{"every address that was probed", e.parentOf(ctx, p), anotherHost}
		}
		found, err := e.refill(ctx, p)
		if err != nil {
			return netip.Addr{}, err
		}
		if !found {
			tries++
		}
	}
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

func (p *pool) isCandidate(addr netip.Addr) bool {
	return slices.ContainsFunc(p.probed, func(c candidate) bool { return c.addr == addr })
}

// takeCandidate makes a fresh candidate the caller's, and reports whether addr was one.
func (p *pool) takeCandidate(addr netip.Addr) bool {
	p.dropStale(time.Now())
	was := p.isCandidate(addr)
	p.probed = slices.DeleteFunc(p.probed, func(c candidate) bool { return c.addr == addr })
	return was
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

// wantRefill asks Run for a probe. Where the queue is full the next request for an
// address of the pool asks again, and waits for its probe at the worst.
func (e *Engine) wantRefill(poolID string) {
	select {
	case e.refills <- poolID:
	default:
	}
}

// refillPool is refill for a pool that may have been released since it ran low.
func (e *Engine) refillPool(ctx context.Context, id string) error {
	e.mu.Lock()
	p, ok := e.pools[id]
	e.mu.Unlock()
	if !ok {
		return nil
	}
	_, err := e.refill(ctx, p)
	return err
}

// refill probes the pool's next addresses and reports whether there are any to
// be had now. One that somebody answers for stays reserved, so that it is not
// tried again while the daemon runs.
func (e *Engine) refill(ctx context.Context, p *pool) (found bool, err error) {
	p.refilling.Lock()
	defer p.refilling.Unlock()
	e.mu.Lock()
	enough := len(p.probed) > probeLow
	e.mu.Unlock()
	if enough {
		return true, nil
	}
	batch, err := e.nextBatch(p)
	if err != nil {
		return false, err
	}
	parent := e.parentOf(ctx, p)
	of := e.current(p)
	asked := outward(batch, of)
	taken, err := e.probe(ctx, parent, asked)
	e.mu.Lock()
	defer e.mu.Unlock()
	ours := p.probing
	p.probing = nil
	if err != nil {
		for _, a := range ours {
			p.addrs.Release(a)
		}
		return false, err
	}
	renumbered := e.currentOf(p) != of
	now := time.Now()
	for i, a := range batch {
		if !slices.Contains(ours, a) {
			continue
		}
		if renumbered { // what was probed is of no use now
			p.addrs.Release(a)
			continue
		}
		if slices.Contains(taken, asked[i]) {
			e.Log.Warn("address is in use by somebody else on the link", "address", asked[i], "parent", parent)
			p.duplicates[a] = true
			continue
		}
		p.probed = append(p.probed, candidate{addr: a, probed: now})
	}
	return len(p.probed) > 0 || renumbered, nil
}

// nextBatch reserves the addresses that are probed next: one at least, or it fails.
func (e *Engine) nextBatch(p *pool) ([]netip.Addr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(p.probing) < probeBatch {
		addr, err := p.addrs.Allocate()
		if err == nil {
			p.probing = append(p.probing, addr)
			continue
		}
		if len(p.probing) > 0 {
			break
		}
		rested, ok := p.longestRested()
		if !ok {
			return nil, err
		}
		p.probing = append(p.probing, rested)
	}
	return slices.Clone(p.probing), nil // of which somebody may take one meanwhile
}

// outward are leases as others on the link would have them: in the prefix that the pool's
// network uses.
func outward(leases []netip.Addr, in netip.Prefix) []netip.Addr {
	asked := make([]netip.Addr, len(leases))
	for i, a := range leases {
		asked[i] = spec.Renumbered(a, in)
	}
	return asked
}

// forgetProbed gives back what was probed in a prefix that is not in use any more.
func (p *pool) forgetProbed() {
	for _, c := range p.probed {
		p.addrs.Release(c.addr)
	}
	for a := range p.duplicates {
		p.addrs.Release(a)
	}
	p.probed = nil
	clear(p.duplicates)
}

// probe is duplicate address detection. A link that is absent or down has
// nobody on it who could be asked: containers that start with the machine must
// not fail because their parent comes up later.
func (e *Engine) probe(ctx context.Context, parent string, addrs []netip.Addr) (taken []netip.Addr, err error) {
	taken, err = e.Host.Probe(ctx, parent, addrs)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENETDOWN) {
		e.Log.Warn("addresses are leased without duplicate address detection", "parent", parent, "err", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate address detection on %s: %w", parent, err)
	}
	return taken, nil
}

// reserve leases the address that a user chose. On a shared link it is probed
// now, unless it was just before and found free.
func (e *Engine) reserve(ctx context.Context, p *pool, addr netip.Addr) error {
	probed, err := e.setAside(p, addr)
	if errors.Is(err, ipam.ErrTaken) && e.isShared(p) {
		// It may be in the batch that is being probed now.
		p.refilling.Lock()
		probed, err = e.setAside(p, addr)
		p.refilling.Unlock()
	}
	if err != nil || probed || !e.isShared(p) {
		return err
	}
	parent := e.parentOf(ctx, p)
	asked := outward([]netip.Addr{addr}, e.current(p))
	taken, err := e.probe(ctx, parent, asked)
	if err == nil && len(taken) > 0 {
		err = &duplicate{"address " + asked[0].String(), parent, e.usedBy(ctx, asked[0])}
	}
	if err != nil {
		p.addrs.Release(addr)
	}
	return err
}

// refuseOthers says whose an address is that no container may have.
func (p *pool) refuseOthers(addr netip.Addr) error {
	if who, taken := p.others[addr]; taken {
		return fmt.Errorf("address %s is %s", addr, who)
	}
	return nil
}

// setAside reserves an address and reports whether it has just been probed.
func (e *Engine) setAside(p *pool, addr netip.Addr) (probed bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := p.refuseOthers(addr); err != nil {
		return false, err
	}
	if p.takeCandidate(addr) {
		return true, nil
	}
	if p.takeResting(addr) {
		return false, nil // and stays reserved
	}
	if p.duplicates[addr] {
		delete(p.duplicates, addr) // and stays reserved: its host may have left
		return false, nil
	}
	return false, p.addrs.Reserve(addr)
}
