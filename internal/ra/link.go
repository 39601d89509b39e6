package ra

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

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
