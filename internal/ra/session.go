package ra

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/spec"
)

// The wait for a link that cannot be dialed, when no event ends it earlier.
// Doubled after every failure.
const (
	minRedial = time.Second
	maxRedial = time.Minute
)

// listenFirst is how long other routers of a link may answer before a route is
// announced there: as long as a host asks, and waits for the last answer, until
// it knows that there is none (RFC 4861 §6.3.7). Up to a second more keeps hosts
// that have come at the same time from announcing at the same time.
const (
	listenFirst  = maxSolicitations * solicitationInterval
	listenSpread = time.Second
)

// minBetweenDoubts is how often the routers of a link are asked at most whether
// they are still there.
const minBetweenDoubts = time.Minute

// maxReceived is room for a message of an Ethernet link.
const maxReceived = 1 << 11

// run advertises on the link until ctx ends, or the link is left.
func (l *link) run(ctx context.Context, dial func(context.Context, string, netip.Addr) (Conn, error)) {
	defer l.abandoned()
	wait := minRedial
	for {
		select {
		case <-l.changed: // events up to here are about the link that is now dialed
		default:
		}
		l.mu.Lock()
		source := l.wanted.Source
		if l.parting != nil {
			source = l.parting.advertisement.Source
		}
		l.mu.Unlock()
		conn, err := dial(ctx, l.name, source)
		if err == nil {
			wait = minRedial
			err = l.session(ctx, conn)
			if err == nil {
				return
			}
			if errors.Is(err, errChanged) {
				continue
			}
		}
		if ctx.Err() != nil || l.abandoned() {
			return
		}
		l.degrade(err)
		select {
		case <-ctx.Done():
			return
		case <-l.updated:
			if l.abandoned() {
				return
			}
		case <-l.changed:
			wait = minRedial
		case <-time.After(wait):
			wait = min(2*wait, maxRedial)
		}
	}
}

// session advertises on conn and closes it. Its error is nil when ctx ended or
// the link was left, errChanged when the link has changed, or why reading failed.
func (l *link) session(ctx context.Context, conn Conn) error {
	messages, failed := make(chan message), make(chan error, 1)
	over := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { failed <- read(conn, messages, over) })
	defer func() {
		close(over)
		_ = conn.Close()
		reading.Wait()
	}()

	l.begin(conn)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // hosts keep what they know: networks stay while no daemon runs
		case <-l.changed:
			return errChanged
		case err := <-failed:
			return err
		case <-l.updated:
			l.renew(conn)
		case <-l.heard:
			l.reconsider()
		case m := <-messages:
			l.hear(m)
		case <-timer.C:
		}
		if l.due(conn) {
			return nil
		}
		timer.Reset(l.next().Sub(l.hub.now()))
	}
}

// begin starts the initial burst, unless neighbours have had it from this very
// station and its messages got out.
func (l *link) begin(conn Conn) {
	here := station{conn.Source(), conn.HardwareAddr()}
	l.mu.Lock()
	again := l.err == nil && l.station == here
	l.err = nil
	l.mu.Unlock()
	if again {
		return
	}
	l.station = here
	l.claims.source = here.source
	clear(l.claims.ours)
	l.settled = time.Time{}
	l.renew(conn)
}

// renew has the link told from the beginning, or taken back what it was told, or
// listened on alone.
func (l *link) renew(conn Conn) {
	now := l.hub.now()
	l.mu.Lock()
	says, announces, parts := !silent(l.wanted), announcesOnly(l.wanted), l.parting
	l.schedule.least, l.schedule.most = intervals(l.wanted)
	if !says && parts == nil {
		l.forgetSaid()
	}
	l.mu.Unlock()
	if parts != nil {
		if l.saying != parts {
			l.schedule.end(now)
		}
		l.saying = parts
		l.settled = time.Time{}
		return
	}
	l.saying, l.schedule.finals = nil, 0
	l.schedule.begin(now)
	if !says {
		l.schedule.quiet(now.Add(never))
	}
	switch {
	case !says:
		l.settled = time.Time{}
		l.schedule.solicit(now)
	case !announces:
		l.settled = time.Time{}
	case l.settled.IsZero(): // who announces the same must have been heard before we do
		l.settled = now.Add(listenFirst + between(0, listenSpread))
		l.schedule.solicit(now)
		l.schedule.quiet(l.settled)
	case now.Before(l.settled):
		l.schedule.quiet(l.settled)
	}
}

// due does what is due, and reports whether that was the last of all.
func (l *link) due(conn Conn) bool {
	now := l.hub.now()
	l.forget(now)
	if l.schedule.asks(now) {
		if err := l.solicit(conn); err != nil {
			l.log.Debug("solicit routers", "err", err)
		}
	}
	for _, to := range l.schedule.due(now) {
		l.send(conn, to)
	}
	if l.schedule.ends(now) {
		l.farewell(conn)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.saying != nil && l.schedule.finals == 0 {
		l.saying.begin()
		if l.parting == l.saying {
			l.parting = nil
		}
		l.saying = nil
		l.forgetSaid()
		clear(l.claims.told)
	}
	return l.leaving && l.parting == nil
}

// next is when there is something to do.
func (l *link) next() time.Time {
	next := l.schedule.next()
	if !l.ends.IsZero() {
		next = earlier(next, l.ends)
	}
	return next
}

// hear takes in a message of the link.
func (l *link) hear(m message) {
	v := Judge(m.bytes, m.Received)
	if m.Source == l.station.source && v == Solicited {
		return // our own question
	}
	l.count(string(v))
	l.tellHeard(v, m)
	now := l.hub.now()
	switch v {
	case Solicited, SolicitedAll:
		l.mu.Lock()
		says := !silent(l.wanted)
		l.mu.Unlock()
		// While others are listened for, all who ask hear the first advertisement.
		if says && !now.Before(l.settled) {
			l.schedule.solicited(now, m.Source)
		}
	case Heard:
		d := Decode(m.bytes)
		l.unknown = true
		if m.Source == l.station.source { // but not by us: see Conn.Write
			l.occupied = ends(now, d.RouterLifetime)
			l.reconsider()
			return
		}
		l.mu.Lock()
		l.routers.hear(now, m.Source, d)
		l.mu.Unlock()
		if d.RouterLifetime > 0 {
			l.schedule.solicitations = 0 // RFC 4861 §6.3.7: the question has been answered
		}
		l.reconsider()
	}
}

// forget drops what other routers have said and what has ended, after it has
// asked whether they are still there.
func (l *link) forget(now time.Time) {
	if !l.unknown && (l.ends.IsZero() || now.Before(l.ends)) {
		return
	}
	l.mu.Lock()
	ended := !l.ends.IsZero() && !now.Before(l.ends)
	l.ends = l.routers.expire(now)
	if now.Before(l.occupied) {
		l.ends = earlier(l.ends, l.occupied)
	}
	if l.asks() {
		if at := l.routers.doubtful(now); !at.IsZero() && !now.Before(later(at, l.doubted.Add(minBetweenDoubts))) {
			l.routers.ask(now)
			l.doubted = now
			l.schedule.solicit(now)
		}
		if at := l.routers.doubtful(now); !at.IsZero() {
			l.ends = earlier(l.ends, later(at, l.doubted.Add(minBetweenDoubts)))
		}
	}
	known := l.routers.upstream(now).timeless()
	l.mu.Unlock()
	l.unknown = false
	if !reflect.DeepEqual(known, l.known) {
		l.known = known
		l.hub.heard(l.name)
	}
	if ended {
		l.reconsider()
	}
}

// forgetSaid is where nothing is said any more. What could not be taken back is
// still known. The caller holds mu.
func (l *link) forgetSaid() {
	l.last, l.lastAt, l.told, l.toldAt, l.notes = spec.Advertisement{}, time.Time{}, spec.Advertisement{}, time.Time{}, nil
	clear(l.claims.ours)
}

// asks reports whether this host cares which routers the link has. On a network's
// own link these are containers.
func (l *link) asks() bool { return silent(l.wanted) || announcesOnly(l.wanted) }

// solicit asks the other routers of the link what they advertise (RFC 4861 §4.1).
func (l *link) solicit(conn Conn) error {
	mac := conn.HardwareAddr()
	b, err := ndp.MarshalMessage(&ndp.RouterSolicitation{Options: []ndp.Option{
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac[:]},
	}})
	if err != nil {
		return err
	}
	return conn.Write(b, allRouters)
}

// degrade records why the link does not work, and logs it once.
func (l *link) degrade(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || l.err.Error() != err.Error() {
		l.log.Warn("cannot advertise or hear advertisements", "err", err)
	}
	l.err = err
}

// message is one that has been received.
type message struct {
	Received
	bytes []byte
}

// read passes messages on until reading fails. However bad they are, they end
// nothing: only the socket can.
func read(conn Conn, to chan<- message, over <-chan struct{}) error {
	buffer := make([]byte, maxReceived)
	for {
		r, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		select {
		case to <- message{r, slices.Clone(buffer[:r.Len])}:
		case <-over:
			return errChanged
		}
	}
}
