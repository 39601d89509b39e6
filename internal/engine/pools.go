package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

type pool struct {
	// Pool is read without a lock but for Parent, ParentNamed, OnLink, Settled, Gateway and
	// Lent, which change and are guarded by Engine.mu. Who changes them writes no other.
	spec.Pool
	addrs *ipam.Pool
	// inherited says that an earlier daemon took it, and that nobody may have heard of it.
	inherited bool
	// judged says that this was found good when its network was first made, before
	// the journal was lost; guarded by Engine.mu.
	judged bool

	refilling sync.Mutex // one probe of the pool's addresses at a time

	// Reserved in addrs and nobody's lease; guarded by Engine.mu.
	probing    []netip.Addr // the batch that is being probed
	probed     []candidate
	duplicates map[netip.Addr]bool   // another host on the link answered for them
	others     map[netip.Addr]string // this host or a router has them: who, for people
	resting    []netip.Addr          // taken back, the first one first

	loose map[netip.Addr]time.Time // leases without an endpoint, and since when
}

func newPool(p spec.Pool, leases []netip.Addr) (*pool, error) {
	addrs, err := ipam.NewPool(p.Prefix, p.Range, p.Allocation)
	if err != nil {
		return nil, err
	}
	for _, a := range leases {
		if err := addrs.Reserve(a); err != nil {
			return nil, err
		}
	}
	return &pool{Pool: p, addrs: addrs, duplicates: map[netip.Addr]bool{}, others: map[netip.Addr]string{}, loose: map[netip.Addr]time.Time{}}, nil
}

// leases is how many addresses the pool has given away.
func (p *pool) leases() int {
	return p.addrs.Len() - len(p.probing) - len(p.probed) - len(p.duplicates) - len(p.others) - len(p.resting)
}

// RequestPool finds a pool, or takes the one asked for, and keeps it until
// ReleasePool, or until the network of ours that uses it is deleted.
func (e *Engine) RequestPool(ctx context.Context, r spec.PoolRequest) (spec.Pool, error) {
	if err := e.refuseLoopback(ctx, r); err != nil {
		return spec.Pool{}, err
	}
	if err := e.dropUnheard(r); err != nil {
		return spec.Pool{}, err
	}
	found := r.V6 && !r.Prefix.IsValid()
	if found {
		// A source may be silent for seconds, which others that ask none need not wait for.
		e.choosing.Lock()
		defer e.choosing.Unlock()
		defer e.reviewSources() // some may have been asked in vain
	}
	host := chooser{e.Host, e, found && r.Source == spec.SourceAuto}
	var chosen spec.Pool
	for kept := false; !kept; {
		var err error
		if chosen, err = prefix.Choose(ctx, host, r, e.inUse(), e.globalID, e.seed); err == nil {
			chosen.FrontEnd = r.FrontEnd
			kept, err = e.keepPool(chosen)
		}
		if err != nil {
			return spec.Pool{}, err
		}
	}
	return chosen, nil
}

// refuseLoopback refuses a parent that has nobody on it before its sources are waited for.
func (e *Engine) refuseLoopback(ctx context.Context, r spec.PoolRequest) error {
	if r.Parent == "" || !r.V6 {
		return nil
	}
	if facts, err := e.Links.Parent(ctx, r.Parent); err != nil || !facts.Loopback {
		return nil // what else is wrong with it is said where the prefix is chosen
	}
	return fmt.Errorf("parent %s is the loopback interface, on which nobody lends a prefix (name the uplink, or leave parent out)", r.Parent)
}

// keepPool takes a pool down that was chosen, unless networks have been renumbered into
// it while it was.
func (e *Engine) keepPool(chosen spec.Pool) (kept bool, err error) {
	p, err := newPool(chosen, nil)
	if err != nil {
		return false, fmt.Errorf("pool %s: %w", chosen.Prefix, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	inUse := false
	e.eachInUse(func(other netip.Prefix) { inUse = inUse || other.Overlaps(chosen.Prefix) })
	if inUse {
		return false, nil
	}
	if err := e.Journal.PutPool(chosen); err != nil {
		return false, err
	}
	e.pools[chosen.ID] = p
	e.later(settleTime, func() { e.settle(p) })
	e.Log.Info("pool taken", "pool", chosen.ID, "source", chosen.Source, "reason", chosen.Reason)
	e.tellPool("taken", chosen)
	return true, nil
}

// dropUnheard drops the very pool that is asked for by name, if a daemon took it that was
// killed then: the container engine had no answer, or it would ask for an address or for a
// network now, and repeats its request.
func (e *Engine) dropUnheard(r spec.PoolRequest) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ours := e.pools[r.Prefix.String()]
	if !r.Prefix.IsValid() || !ours || !e.isUnheard(p) {
		return nil
	}
	return e.dropPool(p.ID)
}

// isUnheard reports whether a pool was taken by a daemon whose front end may have had no
// answer, since it has asked for nothing on it.
func (e *Engine) isUnheard(p *pool) bool {
	return p.inherited && !p.Settled && p.leases() == 0 && e.networkUsing(p.Prefix) == nil
}

// settle notes that a network of another driver is on a pool: it has been kept for
// longer than a front end that was cut off would keep it, or a container of a
// network that we do not know asks for an address.
func (e *Engine) settle(p *pool) {
	if e.pools[p.ID] != p || p.Settled || e.networkUsing(p.Prefix) != nil {
		return
	}
	settled := p.Pool
	settled.Settled = true
	if err := e.Journal.PutPool(settled); err != nil {
		e.Log.Error("settle a pool", "pool", p.ID, "err", err)
		return
	}
	p.Settled = true
}

// settleOrDrop is settle for a pool of an earlier daemon: one of which nobody has heard is
// dropped.
func (e *Engine) settleOrDrop(p *pool) {
	if e.isUnheard(p) {
		e.dropUnused(p)
	} else {
		e.settle(p)
	}
}

// dropUnused drops a pool if no network of ours has come to use it.
func (e *Engine) dropUnused(p *pool) {
	if e.pools[p.ID] != p || e.networkUsing(p.Prefix) != nil {
		return
	}
	if err := e.dropPool(p.ID); err != nil {
		e.Log.Error("release what nobody uses", "pool", p.ID, "err", err)
	}
}

// networkUsing is the network that has a subnet overlapping prefix, or nil.
func (e *Engine) networkUsing(prefix netip.Prefix) *network {
	for _, n := range e.networks {
		if slices.ContainsFunc(n.IPv6, func(s spec.Subnet) bool { return uses(&s, prefix) }) || slices.ContainsFunc(n.IPv4, func(s spec.Subnet) bool { return uses(&s, prefix) }) {
			return n
		}
	}
	return nil
}

func uses(s *spec.Subnet, prefix netip.Prefix) bool {
	return s.Prefix.Overlaps(prefix) || s.Outside.IsValid() && s.Outside.Overlaps(prefix) ||
		s.Lent != nil && slices.ContainsFunc(s.Lent.Prefixes, func(p spec.LentPrefix) bool { return p.Prefix.Overlaps(prefix) })
}

// ReleasePool forgets a pool and its leases, even while a network is on it: the
// Docker engine releases a network's pools before it deletes the network, and
// never again (moby libnetwork/network.go, delete: ipamRelease, then
// deleteNetwork). The error matches spec.ErrNotFound for an unknown pool.
func (e *Engine) ReleasePool(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.pool(id); err != nil {
		return err
	}
	return e.dropPool(id)
}

// ForgetPool releases a pool whose front end will not do it any more. It is refused
// while a network of ours is on the pool. The error matches spec.ErrNotFound for
// an unknown pool.
func (e *Engine) ForgetPool(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.pool(id)
	if err != nil {
		return err
	}
	if n := e.networkUsing(p.Prefix); n != nil {
		return fmt.Errorf("pool %s: network %s is on it", id, spec.ShortID(n.ID))
	}
	return e.dropPool(id)
}

func (e *Engine) dropPool(id string) error {
	if err := e.Journal.DeletePool(id); err != nil {
		return err
	}
	e.tellPool("released", e.pools[id].Pool)
	delete(e.pools, id)
	e.freed()
	e.Log.Info("pool released", "pool", id)
	return nil
}

// freed is for when a pool or network is gone: its source may not be needed any more, or
// a network waits for the part that it had.
func (e *Engine) freed() {
	e.reviewSources()
	e.later(0, e.followAgain)
}

func (e *Engine) pool(id string) (*pool, error) {
	p, ok := e.pools[id]
	if !ok {
		return nil, fmt.Errorf("pool %s: %w", id, spec.ErrNotFound)
	}
	return p, nil
}
