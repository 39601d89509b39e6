package ndproxy

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// maxRivals bounds what is remembered of others that answer for our leases.
const maxRivals = 64

// rivals remember who else has answered for a lease.
type rivals struct {
	mu   sync.Mutex
	seen map[netip.Addr]spec.ProxyConflict
}

// see notes a rival and reports whether it is news: a log of its own for every
// advertisement would be a flood of somebody else's making.
func (r *rivals) see(target netip.Addr, mac [6]byte, now time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, known := r.seen[target]
	if !known && len(r.seen) >= maxRivals {
		return false
	}
	if r.seen == nil {
		r.seen = make(map[netip.Addr]spec.ProxyConflict)
	}
	news = !known || c.HardwareAddr != net.HardwareAddr(mac[:]).String()
	r.seen[target] = spec.ProxyConflict{Address: target, HardwareAddr: net.HardwareAddr(mac[:]).String(), Seen: now.Truncate(time.Second)}
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
	for _, c := range r.seen {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b spec.ProxyConflict) int { return a.Address.Compare(b.Address) })
	return all
}
