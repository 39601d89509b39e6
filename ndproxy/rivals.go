package ndproxy

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// maxRivals bounds what is remembered of others that have our leases for theirs.
const maxRivals = 64

// rivalInterval is how long nothing more is logged of the same lease: a line for
// every advertisement, or for every change of its sender, would be a flood of
// somebody else's making.
const rivalInterval = time.Minute

// rivals remember who else has had a lease for its own.
type rivals struct {
	mu   sync.Mutex
	seen map[netip.Addr]rival
}

type rival struct {
	mac       [6]byte
	last      time.Time
	newsUntil time.Time
}

// see notes a rival and reports whether it is news.
func (r *rivals) see(target netip.Addr, mac [6]byte, now time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.seen[target]
	if !ok && len(r.seen) >= maxRivals {
		return false
	}
	if r.seen == nil {
		r.seen = make(map[netip.Addr]rival)
	}
	known.mac, known.last = mac, now
	if news = !now.Before(known.newsUntil); news {
		known.newsUntil = now.Add(rivalInterval)
	}
	r.seen[target] = known
	return news
}

// forget drops an address that is no lease any more.
func (r *rivals) forget(target netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, target)
}

// list is what is remembered, by address.
func (r *rivals) list() []spec.ProxyConflict {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []spec.ProxyConflict
	for target, other := range r.seen {
		all = append(all, spec.ProxyConflict{
			Address: target, HardwareAddr: net.HardwareAddr(other.mac[:]).String(), Seen: other.last.Truncate(time.Second),
		})
	}
	slices.SortFunc(all, func(a, b spec.ProxyConflict) int { return a.Address.Compare(b.Address) })
	return all
}
