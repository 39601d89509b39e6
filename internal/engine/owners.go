package engine

import (
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// maxFormerOwners bounds what is kept for a network.
const maxFormerOwners = 4096

// formerOwners are who had a network's leases before. Only who was there at the time can
// remember them: so that an address which was nobody's is announced to nobody, and to bring a
// container up does not cost a packet to each of the others.
type formerOwners struct {
	last map[netip.Addr]formerOwner // by the lease
	// before is until when any other lease may have been anybody's; zero: none ever was.
	before time.Time
}

type formerOwner struct {
	left time.Time
	mac  string
}

// left takes in that an endpoint is gone.
func (f *formerOwners) left(ep spec.Endpoint, now time.Time) {
	if f.last == nil || len(f.last) >= maxFormerOwners {
		if f.last != nil {
			f.before = now
		}
		f.last = map[netip.Addr]formerOwner{}
	}
	for _, l := range ep.Leases() {
		if l.IsValid() {
			f.last[l.Addr()] = formerOwner{now, ep.MAC}
		}
	}
}

// until is when others may have learnt last that an endpoint's addresses are somewhere else
// than they are now; zero: never.
func (f *formerOwners) until(ep spec.Endpoint) (at time.Time) {
	for _, l := range ep.Leases() {
		if !l.IsValid() {
			continue
		}
		was, known := f.last[l.Addr()]
		switch {
		case !known:
			was.left = f.before
		case was.mac == ep.MAC:
			continue // who remembers it is right
		}
		if was.left.After(at) {
			at = was.left
		}
	}
	return at
}

// mayRemember are the host's ends of the links of those containers that may remember another
// owner of an endpoint's addresses.
func (e *Engine) mayRemember(n *network, ep *endpoint) (ports []string) {
	until := n.former.until(ep.Endpoint)
	if until.IsZero() && !n.Options.AnySource { // with which containers take addresses by themselves
		return nil
	}
	for _, other := range e.byNetwork[n.ID] {
		if other != ep && other.Joined && !other.linkGone && (n.Options.AnySource || other.here.Before(until)) {
			ports = append(ports, spec.VethName(other.ID))
		}
	}
	slices.Sort(ports)
	return ports
}
