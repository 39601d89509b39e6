package ra

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

var (
	errGone      = errors.New("no such link")
	errClosed    = errors.New("socket closed")
	errNoCarrier = errors.New("network is down")
	errNoRoute   = errors.New("network is unreachable")
)

// fakeLink is a link that is there or not, and has a carrier or not.
type fakeLink struct {
	mu        sync.Mutex
	gone      bool
	noCarrier bool
	unrouted  bool // no route but to link-local addresses
	mac       [6]byte
	sent      []sent
	conn      *fakeConn
	dials     int
}

// sent is a message that went out, at a time since the test began.
type sent struct {
	at time.Duration
	to netip.Addr
	Decoded
	solicitation bool
	raw          []byte
}

type fakeConn struct {
	link   *fakeLink
	source netip.Addr
	began  time.Time
	in     chan message
	once   sync.Once
	closed chan struct{}
}

func (c *fakeConn) Read(b []byte) (Received, error) {
	select {
	case <-c.closed:
		return Received{}, errClosed
	case m := <-c.in:
		m.Len = copy(b, m.bytes)
		return m.Received, nil
	}
}

func (c *fakeConn) Write(b []byte, to netip.Addr) error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.link.noCarrier {
		return errNoCarrier
	}
	if c.link.unrouted && to.IsGlobalUnicast() {
		return errNoRoute
	}
	s := sent{at: time.Since(c.began), to: to, solicitation: b[0] == typeSolicitation, raw: slices.Clone(b)}
	if !s.solicitation {
		s.Decoded = Decode(b)
	}
	c.link.sent = append(c.link.sent, s)
	return nil
}

func (c *fakeConn) Source() netip.Addr    { return c.source }
func (c *fakeConn) HardwareAddr() [6]byte { return c.link.mac }
func (c *fakeConn) Close() error          { c.once.Do(func() { close(c.closed) }); return nil }

// lab is a Supervisor that runs on a fake link br0 inside a synctest bubble.
type lab struct {
	*Supervisor
	t     *testing.T
	link  *fakeLink
	up    *fakeLink // eth0, another link of the host
	stop  func()    // ends Run, and waits for it
	began time.Time

	logged atomic.Int64 // lines at the level of warnings
	events eventLog
}

// eventLog keeps what who watches is told.
type eventLog struct {
	mu   sync.Mutex
	told []spec.Event
}

func (l *eventLog) Wanted(spec.EventType) bool { return true }

func (l *eventLog) Publish(e spec.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, e)
}

func (l *eventLog) all() []spec.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

// counting is a log of which only the length counts.
type counting struct {
	slog.Handler
	n *atomic.Int64
}

func (c counting) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (c counting) Handle(context.Context, slog.Record) error        { c.n.Add(1); return nil }
func (c counting) WithAttrs([]slog.Attr) slog.Handler               { return c }

func newLab(t *testing.T) *lab {
	l := &lab{t: t, link: &fakeLink{mac: mac}, up: &fakeLink{mac: mac}, began: time.Now()}
	l.Supervisor = NewSupervisor(func(_ context.Context, name string, source netip.Addr) (Conn, error) {
		link := l.link
		if name == "eth0" {
			link = l.up
		}
		link.mu.Lock()
		defer link.mu.Unlock()
		link.dials++
		if link.gone {
			return nil, errGone
		}
		if !source.IsValid() {
			source = addr("fe80::1")
		}
		link.conn = &fakeConn{link: link, source: source, began: l.began, in: make(chan message), closed: make(chan struct{})}
		return link.conn, nil
	}, time.Now, slog.New(counting{slog.DiscardHandler, &l.logged}))
	l.Events = &l.events
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	synctest.Wait()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// hear has the link receive a message, and waits until it is dealt with.
func (l *lab) hear(b []byte, source netip.Addr, hopLimit int) {
	l.t.Helper()
	l.receive(l.link, b, Received{Source: source, HopLimit: hopLimit})
}

// advertise has a link receive what another router says, after a question of ours or by itself.
func (l *lab) advertise(on *fakeLink, source string, a spec.Advertisement) {
	l.t.Helper()
	for _, b := range otherRouter(l.t, a) {
		l.receive(on, b, Received{Source: addr(source), HopLimit: 255})
	}
}

func (l *lab) receive(on *fakeLink, b []byte, from Received) {
	l.t.Helper()
	synctest.Wait()
	on.mu.Lock()
	conn := on.conn
	on.mu.Unlock()
	select {
	case conn.in <- message{from, b}:
	case <-time.After(time.Second):
		l.t.Fatal("nobody reads from the link any more")
	}
	synctest.Wait()
}

func (l *lab) solicit(source string) {
	l.t.Helper()
	l.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0}, addr(source), 255)
}

// asked counts the solicitations that went out, and takes all that did.
func (l *lab) asked() (n int) {
	synctest.Wait()
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	for _, s := range l.link.sent {
		if s.solicitation {
			n++
		}
	}
	l.link.sent = nil
	return n
}

// advertised takes the advertisements that went out since it was last asked.
func (l *lab) advertised() []sent {
	synctest.Wait()
	l.link.mu.Lock()
	defer l.link.mu.Unlock()
	all := slices.DeleteFunc(l.link.sent, func(s sent) bool { return s.solicitation })
	l.link.sent = nil
	return all
}

// after lets time pass, and takes what went out meanwhile.
func (l *lab) after(d time.Duration) []sent {
	time.Sleep(d)
	return l.advertised()
}

func (l *lab) change(f func(*fakeLink)) {
	l.link.mu.Lock()
	f(l.link)
	l.link.mu.Unlock()
	l.LinkChanged("br0")
	synctest.Wait()
}

func (l *lab) status() spec.AdvertiserStatus {
	l.t.Helper()
	synctest.Wait()
	for _, s := range l.Status() {
		if s.Link == "br0" {
			return s
		}
	}
	l.t.Fatalf("br0 is not advertised on: %+v", l.Status())
	return spec.AdvertiserStatus{}
}
