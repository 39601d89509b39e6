package ra

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Router constants of RFC 4861 §10.
const (
	maxInitialInterval = 16 * time.Second       // MAX_INITIAL_RTR_ADVERT_INTERVAL
	maxInitial         = 3                      // MAX_INITIAL_RTR_ADVERTISEMENTS
	minDelayBetween    = 3 * time.Second        // MIN_DELAY_BETWEEN_RAS
	maxDelay           = 500 * time.Millisecond // MAX_RA_DELAY_TIME
	maxFinal           = 3                      // MAX_FINAL_RTR_ADVERTISEMENTS

	maxSolicitations     = 3               // MAX_RTR_SOLICITATIONS
	solicitationInterval = 4 * time.Second // RTR_SOLICITATION_INTERVAL
)

// never is longer than any daemon runs.
const never = 100 * 365 * 24 * time.Hour

// maxUnicast bounds the answers that wait. Of more solicitors than that at once
// all are answered by one multicast advertisement.
const maxUnicast = 64

// A schedule says when to advertise (RFC 4861 §6.2.4, §6.2.6, RFC 7772).
type schedule struct {
	least, most time.Duration // MinRtrAdvInterval, MaxRtrAdvInterval

	initial   int // advertisements of the initial burst that are still to be sent
	multicast time.Time
	last      time.Time // when a multicast one last went out; zero: never
	unicast   map[netip.Addr]time.Time

	finals int // final advertisements that are still to be sent
	final  time.Time

	solicitations int // that are still to be sent
	solicitation  time.Time
}

// begin starts the initial burst: the link has come, or what is said on it has
// changed (RFC 4861 §6.2.4).
func (s *schedule) begin(now time.Time) {
	s.initial = maxInitial
	s.multicast = s.spaced(now)
}

// quiet has no multicast advertisement sent before t, and no answer that waits.
func (s *schedule) quiet(t time.Time) {
	s.multicast = t
	clear(s.unicast)
}

// hurry has what another router has changed told soon, but not more often than
// the burst that begins a change of our own would.
func (s *schedule) hurry(now time.Time) {
	at := s.spaced(now)
	if !s.last.IsZero() {
		at = later(at, s.last.Add(maxInitialInterval))
	}
	s.multicast = earlier(s.multicast, at)
}

// solicit asks for advertisements from now on (RFC 4861 §6.3.7).
func (s *schedule) solicit(now time.Time) {
	s.solicitations, s.solicitation = maxSolicitations, now
}

// asks takes a solicitation that is due.
func (s *schedule) asks(now time.Time) bool {
	if s.solicitations == 0 || now.Before(s.solicitation) {
		return false
	}
	s.solicitations--
	s.solicitation = now.Add(solicitationInterval)
	return true
}

// end has final advertisements sent, and no others.
func (s *schedule) end(now time.Time) {
	s.quiet(now.Add(never))
	s.finals, s.final = maxFinal, s.spaced(now)
}

// ends takes a final advertisement that is due. The caller sets last.
func (s *schedule) ends(now time.Time) bool {
	if s.finals == 0 || now.Before(s.final) {
		return false
	}
	s.finals--
	s.final = now.Add(minDelayBetween)
	return true
}

// spaced is the next time from t on when a multicast advertisement may go out.
func (s *schedule) spaced(t time.Time) time.Time {
	if s.last.IsZero() || !t.Before(s.last.Add(minDelayBetween)) {
		return t
	}
	return s.last.Add(minDelayBetween)
}

// solicited schedules an answer. One to a host that has given no address goes to
// all nodes (RFC 4861 §6.2.6); others are by unicast (RFC 7772 §5.1).
func (s *schedule) solicited(now time.Time, from netip.Addr) {
	at := now.Add(between(0, maxDelay))
	if !from.IsUnspecified() {
		if _, waits := s.unicast[from]; waits {
			return
		}
		if len(s.unicast) < maxUnicast {
			if s.unicast == nil {
				s.unicast = make(map[netip.Addr]time.Time)
			}
			s.unicast[from] = at
			return
		}
	}
	if at = s.spaced(at); at.Before(s.multicast) {
		s.multicast = at
	}
}

// next is when there is something to send.
func (s *schedule) next() time.Time {
	next := s.multicast
	for _, at := range s.unicast {
		if at.Before(next) {
			next = at
		}
	}
	if s.finals > 0 {
		next = earlier(next, s.final)
	}
	if s.solicitations > 0 {
		next = earlier(next, s.solicitation)
	}
	return next
}

// due is what is to be sent now. The caller sets last if it goes out.
func (s *schedule) due(now time.Time) (to []netip.Addr) {
	if !now.Before(s.multicast) {
		s.initial = max(0, s.initial-1)
		wait := between(s.least, s.most)
		if s.initial > 0 {
			wait = min(wait, maxInitialInterval)
		}
		s.multicast = now.Add(wait)
		to = append(to, allNodes)
	}
	for addr, at := range s.unicast {
		if !now.Before(at) {
			delete(s.unicast, addr)
			if len(to) == 0 || to[0] != allNodes { // else it hears that one
				to = append(to, addr)
			}
		}
	}
	return to
}

func between(least, most time.Duration) time.Duration {
	return least + rand.N(most-least+1)
}
