package ra

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

var (
	errGone      = errors.New("no such link")
	errClosed    = errors.New("socket closed")
	errNoCarrier = errors.New("network is down")
)

// fakeLink is a link that is there or not, and has a carrier or not.
type fakeLink struct {
	mu        sync.Mutex
	gone      bool
	noCarrier bool
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
	s := sent{at: time.Since(c.began), to: to, solicitation: b[0] == typeSolicitation}
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
	stop  func() // ends Run, and waits for it
	began time.Time
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, link: &fakeLink{mac: mac}, began: time.Now()}
	l.Supervisor = NewSupervisor(func(_ context.Context, _ string, source netip.Addr) (Conn, error) {
		l.link.mu.Lock()
		defer l.link.mu.Unlock()
		l.link.dials++
		if l.link.gone {
			return nil, errGone
		}
		if !source.IsValid() {
			source = addr("fe80::1")
		}
		l.link.conn = &fakeConn{link: l.link, source: source, began: l.began, in: make(chan message), closed: make(chan struct{})}
		return l.link.conn, nil
	}, slog.New(slog.DiscardHandler))
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
	synctest.Wait()
	l.link.mu.Lock()
	conn := l.link.conn
	l.link.mu.Unlock()
	select {
	case conn.in <- message{Received{Source: source, HopLimit: hopLimit}, b}:
	case <-time.After(time.Second):
		l.t.Fatal("nobody reads from the link any more")
	}
	synctest.Wait()
}

func (l *lab) solicit(source string) {
	l.t.Helper()
	l.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0}, addr(source), 255)
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
	s := l.Status()
	if len(s) != 1 {
		l.t.Fatalf("%d links are advertised on, want br0 alone", len(s))
	}
	return s[0]
}
