package ra

import (
	"context"
	"errors"
	"log/slog"
	"maps"
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

var (
	errNotDialed = errors.New("not dialed yet")
	errChanged   = errors.New("the link has changed")
)

// A link is one on which something is advertised, whether it exists or not.
type link struct {
	name string
	log  *slog.Logger
	hub  hub

	changed chan struct{} // holds one event: the link is another one
	updated chan struct{} // holds one event: wanted or parting is another one
	heard   chan struct{} // holds one event: the upstream routers say something else

	mu       sync.Mutex
	wanted   spec.Advertisement
	parting  *parting // what is being taken back
	leaving  bool     // the link is given up with that
	err      error
	notes    []string
	logged   budget
	counters map[string]uint64
	routers  routers
	last     spec.Advertisement // that really went out, to whomever
	lastAt   time.Time

	// Only run uses these. They outlive a session, so that a link that changes
	// often is not told more often.
	schedule schedule
	claims   claims
	settled  time.Time // until then others may say that they announce our routes; zero: nobody was asked
	doubted  time.Time // when the routers were last asked whether they are still there
	station  station
	saying   *parting           // that is under way
	told     spec.Advertisement // to all nodes at last, be it nothing
	toldAt   time.Time
	known    upstream  // what other links know of this one's routers
	unknown  bool      // that may have changed
	ends     time.Time // when something that the routers have said will end
	occupied time.Time // until then another program of this host is a default router by our own address
}

// hub is how links learn of each other.
type hub interface {
	// upstream is what the routers of a link say.
	upstream(link string) upstream
	// heard says that the routers of a link say something else.
	heard(link string)
	// now is the time in which advertisements say until when something is.
	now() time.Time
	// events is where it is said what is sent and heard.
	events() spec.Events
}

// parting is an advertisement that is being taken back.
type parting struct {
	advertisement spec.Advertisement
	begun         chan struct{} // closed when that was said once, or cannot be
	once          sync.Once
}

func (p *parting) begin() { p.once.Do(func() { close(p.begun) }) }

// station is how the host appears on a link: when it is another one, neighbours
// know nothing of it.
type station struct {
	source       netip.Addr
	hardwareAddr [6]byte
}

func newLink(a spec.Advertisement, log *slog.Logger, h hub) *link {
	return &link{
		name: a.Link, log: log.With("link", a.Link), hub: h, wanted: a, err: errNotDialed,
		changed: make(chan struct{}, 1), updated: make(chan struct{}, 1), heard: make(chan struct{}, 1),
		counters: make(map[string]uint64), routers: make(routers),
		claims: claims{ours: make(map[netip.Prefix]bool), told: make(map[netip.Prefix]time.Time)},
	}
}

// signal puts an event where none is pending. It does not block.
func signal(events chan struct{}) {
	select {
	case events <- struct{}{}:
	default: // one is pending, and it will be acted on after now
	}
}

// update sets what is to be advertised. What was being taken back is forgotten:
// it is said again, or it is withdrawn by name.
func (l *link) update(a spec.Advertisement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parting != nil {
		l.parting.begin()
	} else if equal(l.wanted, a) {
		return
	}
	soon := l.parting != nil || differs(l.wanted, a)
	l.wanted, l.parting, l.leaving = a, nil, false
	if soon { // what lasts longer or shorter alone is said with the next one
		signal(l.updated)
	}
}

// part takes back what is advertised. The link is listened on after that, or left.
func (l *link) part(leave bool) *parting {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parting = &parting{advertisement: l.wanted, begun: make(chan struct{})}
	l.wanted, l.leaving, l.notes = spec.Advertisement{Link: l.name}, leave, nil
	signal(l.updated)
	return l.parting
}

// stay listens on, on a link that was to be left.
func (l *link) stay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = false
}

// leave gives the link up, when what is being taken back has been.
func (l *link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = true
	signal(l.updated)
}

// abandoned reports whether the link is to be left, now that there is nobody to
// whom something could be taken back. Nobody waits for that any longer; on a link
// that is not left it is done when that is there again.
func (l *link) abandoned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parting != nil {
		l.parting.begin()
	}
	if l.leaving {
		l.parting = nil
	}
	return l.leaving
}

// listens reports whether nothing is said on the link.
func (l *link) listens() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return silent(l.wanted)
}

// left reports whether nobody wants the link any more.
func (l *link) left() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving
}

// follows reports whether what is said depends on the routers of another link.
func (l *link) follows(upstream string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted.Upstream == upstream
}

// upstream is what the link's routers say.
func (l *link) upstream() upstream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.routers.upstream(l.hub.now())
}

func (l *link) status() spec.AdvertiserStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := spec.AdvertiserStatus{
		Advertisement: spec.Advertisement{Link: l.name, Source: l.wanted.Source},
		Sent:          l.lastAt,
		Notes:         slices.Clone(l.notes),
		Routers:       l.routers.status(l.hub.now()),
		Counters:      maps.Clone(l.counters),
	}
	if l.parting != nil { // it is being taken back
		s.Sent = time.Time{}
	} else if !l.lastAt.IsZero() {
		s.Advertisement = current(l.last, l.hub.now())
	}
	if l.err != nil {
		s.Error = l.err.Error()
	}
	return s
}

func (l *link) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters[what]++
}

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

// next is when there is something to do.
func (l *link) next() time.Time {
	next := l.schedule.next()
	if !l.ends.IsZero() {
		next = earlier(next, l.ends)
	}
	return next
}

// asks reports whether this host cares which routers the link has. On a network's
// own link these are containers.
func (l *link) asks() bool { return silent(l.wanted) || announcesOnly(l.wanted) }

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

// forgetSaid is where nothing is said any more. What could not be taken back is
// still known. The caller holds mu.
func (l *link) forgetSaid() {
	l.last, l.lastAt, l.told, l.toldAt, l.notes = spec.Advertisement{}, time.Time{}, spec.Advertisement{}, time.Time{}, nil
	clear(l.claims.ours)
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
