package ra

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// compose is what is to be said now, and what does not fit together with the
// link's other routers.
func (l *link) compose(now time.Time) (spec.Advertisement, []string) {
	l.mu.Lock()
	a := current(l.wanted, now)
	l.mu.Unlock()
	if a.Upstream != "" {
		a = l.hub.upstream(a.Upstream).apply(a)
	}
	a.DNS = lapsed(now, l.lastAt, l.last.DNS, a.DNS)
	a.Search = lapsed(now, l.lastAt, l.last.Search, a.Search)
	a.PREF64 = lapsed(now, l.lastAt, l.last.PREF64, a.PREF64)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routers.expire(now)
	announces := announcesOnly(a)
	if announces && now.Before(l.occupied) {
		return spec.Advertisement{Link: l.name}, []string{fmt.Sprintf("no route is announced: another program of this host advertises %s as a default router, and an advertisement of ours would take that back", l.station.source)}
	}
	a = l.routers.follow(now, a)
	notes := l.routers.disagreements(now, a)
	a, taken := l.routers.yield(now, a, l.claims)
	if announces && len(a.Routes) == 0 {
		a = spec.Advertisement{Link: l.name} // all is said by others
	}
	return a, append(taken, notes...)
}

// send advertises to one node, or to all.
func (l *link) send(conn Conn, to netip.Addr) {
	now := l.hub.now()
	a, notes := l.compose(now)
	l.note(now, notes)
	var messages [][]byte
	var err error
	if !silent(a) {
		messages, err = marshal(a, conn.HardwareAddr())
	}
	for _, m := range messages {
		if err == nil {
			err = conn.Write(m, to)
		}
	}
	if err != nil {
		l.unsent(now, to, err)
		return
	}
	if len(messages) > 0 {
		l.tellSent(conn, "sent", to, a)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if to == allNodes {
		l.told, l.toldAt, l.err = a, now, nil
	}
	clear(l.claims.ours)
	maps.DeleteFunc(l.claims.told, func(_ netip.Prefix, until time.Time) bool { return !now.Before(until) })
	if len(messages) == 0 {
		return
	}
	l.last, l.lastAt = a, now
	for _, r := range a.Routes {
		if r.Lifetime > 0 {
			l.claims.ours[r.Prefix] = true
			l.claims.told[r.Prefix] = ends(now, r.Lifetime)
		}
	}
	if to == allNodes {
		l.schedule.last = now
		l.counters["sent_multicast"]++
	} else {
		l.counters["sent_unicast"]++
	}
}

// unsent records why an advertisement has not gone out: a bridge without a
// container has no carrier, and that is no fault. One node that cannot be reached
// says nothing of the link. It may be one to whose address there is no route,
// and hears what goes to all.
func (l *link) unsent(now time.Time, to netip.Addr, err error) {
	l.log.Debug("send advertisement", "to", to, "err", err)
	l.count("unsent")
	if to != allNodes {
		l.schedule.solicited(now, netip.IPv6Unspecified())
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = fmt.Errorf("send advertisement: %w", err)
}

// farewell takes back what was said on the link, and no route that others have
// announced in our place.
func (l *link) farewell(conn Conn) {
	now := l.hub.now()
	defer l.saying.begin()
	a := current(l.saying.advertisement, now)
	announces := announcesOnly(a)
	l.mu.Lock()
	a = l.routers.follow(now, a)
	l.mu.Unlock()
	a.Routes = without(a.Routes, func(r spec.AdvertisedRoute) bool { return r.Until.IsZero() && !now.Before(l.claims.told[r.Prefix]) })
	a.DNS = lapsed(now, l.lastAt, l.last.DNS, a.DNS)
	a.Search = lapsed(now, l.lastAt, l.last.Search, a.Search)
	a.PREF64 = lapsed(now, l.lastAt, l.last.PREF64, a.PREF64)
	if announces && (len(a.Routes) == 0 || now.Before(l.occupied)) || silent(a) {
		l.schedule.finals = 0
		return
	}
	a = final(a)
	messages, err := marshal(a, conn.HardwareAddr())
	for _, m := range messages {
		if err == nil {
			err = conn.Write(m, allNodes)
		}
	}
	if err != nil {
		l.log.Debug("send final advertisement", "err", err)
		l.count("unsent")
		return
	}
	l.schedule.last = now
	l.count("sent_final")
	l.tellSent(conn, "withdrawn", allNodes, a)
}

// reconsider has the link told soon when what others say has changed what this
// host has to say there.
func (l *link) reconsider() {
	now := l.hub.now()
	l.mu.Lock()
	says := !silent(l.wanted)
	l.mu.Unlock()
	if !says {
		return
	}
	a, notes := l.compose(now)
	l.note(now, notes)
	if !l.toldAt.IsZero() && !now.Before(l.settled) && differs(l.told, a) {
		l.schedule.hurry(now)
	}
}

// A budget bounds how often something is logged: others decide how often it happens.
type budget struct {
	since time.Time
	spent int
}

const (
	loggedAtOnce = 16
	loggedPer    = time.Hour
)

// spend takes one. The last of them is to say that there will be no more.
func (b *budget) spend(now time.Time) (ok, last bool) {
	if b.since.IsZero() || now.Sub(b.since) >= loggedPer {
		*b = budget{since: now}
	}
	b.spent++
	return b.spent <= loggedAtOnce, b.spent == loggedAtOnce
}

// note records what does not fit together, and logs what is new of it.
func (l *link) note(now time.Time, notes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range notes {
		if slices.Contains(l.notes, n) {
			continue
		}
		ok, last := l.logged.spend(now)
		if !ok {
			break
		}
		l.log.Warn("router advertisements do not agree", "note", n)
		if last {
			l.log.Warn("more of that is not logged for an hour, and shown by v6net status")
		}
	}
	l.notes = notes
}
