package ra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
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
// announced there: three solicitations would take as long (RFC 4861 §10
// RTR_SOLICITATION_INTERVAL).
const listenFirst = 4 * time.Second

// never is longer than any daemon runs.
const never = 100 * 365 * 24 * time.Hour

// maxReceived is room for a message of an Ethernet link.
const maxReceived = 1 << 11

var (
	errNotDialed = errors.New("not dialed yet")
	errChanged   = errors.New("the link has changed")
)

// A link is one on which something is advertised, whether it exists or not.
type link struct {
	name    string
	log     *slog.Logger
	stop    context.CancelFunc // set by Supervisor, under its mutex
	changed chan struct{}      // holds one event: the link is another one
	updated chan struct{}      // holds one event: wanted is another one
	final   chan struct{}      // closed: say farewell, and end
	ended   chan struct{}      // closed when run has ended

	mu       sync.Mutex
	wanted   spec.Advertisement
	err      error
	notes    []string
	counters map[string]uint64
	routers  routers

	// Only run uses these. They outlive a session, so that a link that changes
	// often is not told more often.
	schedule schedule
	routes   map[netip.Prefix]bool // announced by us
	station  station
}

// station is how the host appears on a link: when it is another one, neighbours
// know nothing of it.
type station struct {
	source       netip.Addr
	hardwareAddr [6]byte
}

func newLink(a spec.Advertisement, log *slog.Logger) *link {
	return &link{
		name: a.Link, log: log.With("link", a.Link), wanted: a, err: errNotDialed,
		changed: make(chan struct{}, 1), updated: make(chan struct{}, 1),
		final: make(chan struct{}), ended: make(chan struct{}),
		counters: make(map[string]uint64), routers: make(routers), routes: make(map[netip.Prefix]bool),
	}
}

// signal puts an event where none is pending. It does not block.
func signal(events chan struct{}) {
	select {
	case events <- struct{}{}:
	default: // one is pending, and it will be acted on after now
	}
}

// update sets what is to be advertised.
func (l *link) update(a spec.Advertisement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !equal(l.wanted, a) {
		l.wanted = a
		signal(l.updated)
	}
}

// listens reports whether nothing is said on the link.
func (l *link) listens() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return silent(l.wanted)
}

func (l *link) status() spec.AdvertiserStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := spec.AdvertiserStatus{
		Advertisement: current(l.wanted, time.Now()),
		Notes:         slices.Clone(l.notes),
		Routers:       l.routers.status(),
		Counters:      maps.Clone(l.counters),
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

// run advertises on the link until ctx ends, or it is final.
func (l *link) run(ctx context.Context, dial func(context.Context, string, netip.Addr) (Conn, error)) {
	defer close(l.ended)
	wait := minRedial
	for {
		select {
		case <-l.changed: // events up to here are about the link that is now dialed
		default:
		}
		l.mu.Lock()
		source := l.wanted.Source
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
		if ctx.Err() != nil {
			return
		}
		l.degrade(err)
		select {
		case <-ctx.Done():
			return
		case <-l.final:
			return
		case <-l.changed:
			wait = minRedial
		case <-time.After(wait):
			wait = min(2*wait, maxRedial)
		}
	}
}

// session advertises on conn and closes it. Its error is nil when ctx ended or
// the link is final, errChanged when the link has changed, or why reading failed.
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
	timer := time.NewTimer(time.Until(l.schedule.next()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // hosts keep what they know: networks stay while no daemon runs
		case <-l.final:
			l.farewell(conn)
			return nil
		case <-l.changed:
			return errChanged
		case err := <-failed:
			return err
		case <-l.updated:
			l.plan()
			l.renew(conn)
		case m := <-messages:
			l.hear(m)
		case <-timer.C:
			for _, to := range l.schedule.due(time.Now()) {
				l.send(conn, to)
			}
		}
		timer.Reset(time.Until(l.schedule.next()))
	}
}

// begin starts the initial burst, unless neighbours have had it from this very
// station and its messages got out.
func (l *link) begin(conn Conn) {
	here := station{conn.Source(), conn.HardwareAddr()}
	l.plan()
	l.mu.Lock()
	again := l.err == nil && l.station == here
	l.err = nil
	l.mu.Unlock()
	if !again {
		l.station = here
		clear(l.routes)
		l.renew(conn)
	}
}

// renew has the link told from the beginning, or listened on alone.
func (l *link) renew(conn Conn) {
	now := time.Now()
	l.mu.Lock()
	says, announces := !silent(l.wanted), len(l.wanted.Routes) > 0
	l.mu.Unlock()
	l.schedule.begin(now)
	if !says {
		l.schedule.multicast = now.Add(never)
	}
	if says && (!announces || len(l.routes) > 0) {
		return
	}
	if err := l.solicit(conn); err != nil {
		l.log.Debug("solicit routers", "error", err)
	}
	if announces {
		// Who announces the same must have been heard before we do.
		l.schedule.multicast = now.Add(listenFirst)
	}
}

// plan sets the intervals for what is wanted now.
func (l *link) plan() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.schedule.least, l.schedule.most = intervals(l.wanted)
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

// send advertises to one node, or to all.
func (l *link) send(conn Conn, to netip.Addr) {
	now := time.Now()
	l.mu.Lock()
	l.routers.expire(now)
	a, notes := l.routers.yield(now, current(l.wanted, now), l.routes)
	a = l.routers.follow(a)
	notes = append(notes, l.routers.disagreements(a)...)
	l.mu.Unlock()
	if to == allNodes { // not at every answer: whoever asks would fill the log
		l.note(notes)
	}
	clear(l.routes)
	for _, r := range a.Routes {
		l.routes[r.Prefix] = true
	}
	b, err := marshal(a, conn.HardwareAddr())
	if err == nil {
		err = conn.Write(b, to)
	}
	if err == nil && to == allNodes {
		l.schedule.last = now
	}
	l.sent(to, err)
}

// farewell takes back what was said on the link.
func (l *link) farewell(conn Conn) {
	l.mu.Lock()
	a := current(l.wanted, time.Now())
	l.mu.Unlock()
	if silent(a) {
		return
	}
	b, err := marshalFinal(a, conn.HardwareAddr())
	if err == nil {
		err = conn.Write(b, allNodes)
	}
	if err != nil {
		l.log.Debug("send final advertisement", "error", err)
	}
}

// sent counts a message that has gone out, or records why it has not: a bridge
// without a container has no carrier, and that is no fault.
func (l *link) sent(to netip.Addr, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.log.Debug("send advertisement", "to", to, "error", err)
		l.counters["unsent"]++
		err = fmt.Errorf("send advertisement: %w", err)
	case to == allNodes:
		l.counters["sent_multicast"]++
	default:
		l.counters["sent_unicast"]++
	}
	l.err = err
}

// hear takes in a message of the link.
func (l *link) hear(m message) {
	v := Judge(m.bytes, m.Received)
	l.count(string(v))
	switch v {
	case Solicited, SolicitedAll:
		l.mu.Lock()
		says := !silent(l.wanted)
		l.mu.Unlock()
		if says {
			l.schedule.solicited(time.Now(), m.Source)
		}
	case Heard:
		if m.Source != l.station.source {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.routers.hear(time.Now(), m.Source, m.bytes)
		}
	}
}

// note records what does not fit together, and logs what is new of it.
func (l *link) note(notes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range notes {
		if !slices.Contains(l.notes, n) {
			l.log.Warn("router advertisements do not agree", "note", n)
		}
	}
	l.notes = notes
}

// degrade records why the link does not work, and logs it once.
func (l *link) degrade(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || l.err.Error() != err.Error() {
		l.log.Warn("cannot advertise or hear advertisements", "error", err)
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
