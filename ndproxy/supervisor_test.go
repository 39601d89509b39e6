package ndproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

var (
	errNoLink = errors.New("no such link")
	errDown   = errors.New("network is down")
)

// fakeLink is a Conn of which a test holds the other end.
type fakeLink struct {
	in     chan []byte
	out    chan []byte
	failed chan error
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	joined map[netip.Addr]bool
	most   int   // can be joined one by one; 0: any number
	all    bool  // JoinAll was called
	full   error // of Write

	gateways []netip.Addr
	same     bool // whatever is said of it, the link has not changed
}

func newFakeLink() *fakeLink {
	return &fakeLink{
		in: make(chan []byte), out: make(chan []byte, 10000), failed: make(chan error, 1),
		closed: make(chan struct{}), joined: map[netip.Addr]bool{},
	}
}

func (f *fakeLink) Read(b []byte) (int, error) {
	select {
	case frame := <-f.in:
		return copy(b, frame), nil
	case err := <-f.failed:
		return 0, err
	case <-f.closed:
		return 0, os.ErrClosed
	}
}

func (f *fakeLink) Write(b []byte) (int, error) {
	f.mu.Lock()
	full := f.full
	f.mu.Unlock()
	if full != nil {
		return 0, full
	}
	select {
	case f.out <- bytes.Clone(b):
		return len(b), nil
	case <-f.closed:
		return 0, os.ErrClosed
	}
}

func (f *fakeLink) Close() error          { f.once.Do(func() { close(f.closed) }); return nil }
func (f *fakeLink) HardwareAddr() [6]byte { return router }
func (f *fakeLink) LinkLocal() netip.Addr { return here.LinkLocal }

func (f *fakeLink) Join(addr netip.Addr) (all bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most > 0 && len(f.joined) == f.most {
		return true, nil
	}
	f.joined[addr] = true
	return false, nil
}

func (f *fakeLink) Leave(addr netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.joined, addr)
	return nil
}

func (f *fakeLink) Changed() bool { return !f.same }

func (f *fakeLink) Gateways() []netip.Addr { return f.gateways }

func (f *fakeLink) JoinAll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = true
	return nil
}

func (f *fakeLink) members() []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.joined), netip.Addr.Compare)
}

func (f *fakeLink) isClosed() bool {
	select {
	case <-f.closed:
		return true
	default:
		return false
	}
}

// fakeHost dials fakeLinks, or fails to.
type fakeHost struct {
	mu    sync.Mutex
	links map[string]*fakeLink // nil: not there
	dials []string
}

func (h *fakeHost) dial(_ context.Context, link string) (Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dials = append(h.dials, link)
	if f := h.links[link]; f != nil {
		return f, nil
	}
	return nil, errNoLink
}

func (h *fakeHost) set(link string, f *fakeLink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[link] = f
}

func (h *fakeHost) dialed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.dials)
}

// supervise runs a Supervisor for a test, in a bubble of synctest, on a host that
// has a link eth0.
func supervise(t *testing.T, test func(s *Supervisor, host *fakeHost, eth0 *fakeLink)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeLink()
		host := &fakeHost{links: map[string]*fakeLink{"eth0": f}}
		s := NewSupervisor(host.dial, Knobs{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		synctest.Wait()
		test(s, host, f)
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run ended with %v", err)
		}
		for name, link := range host.links {
			if link != nil && !link.isClosed() && slices.Contains(host.dials, name) {
				t.Errorf("link %s is still open", name)
			}
		}
	})
}

func status(s *Supervisor, link string) spec.ProxyStatus {
	for _, st := range s.Status() {
		if st.Parent == link {
			return st
		}
	}
	return spec.ProxyStatus{}
}

// announced are the targets of all frames that f has sent so far.
func announced(t *testing.T, f *fakeLink) (targets []netip.Addr) {
	t.Helper()
	for {
		select {
		case b := <-f.out:
			if b[icmpOffset] == typeSolicitation { // a probe, or a gateway is asked for
				continue
			}
			na := judge(t, b)
			if na.Solicited || netip.AddrFrom16([16]byte(b[38:])) != allNodes {
				t.Errorf("announcement with S=%v to %x (RFC 4861 §7.2.6)", na.Solicited, b[38:54])
			}
			targets = append(targets, na.TargetAddress)
		default:
			slices.SortFunc(targets, netip.Addr.Compare)
			return targets
		}
	}
}

func TestProxyAnswersAndCounts(t *testing.T) {
	supervise(t, func(s *Supervisor, _ *fakeHost, f *fakeLink) {
		s.Add("eth0", leased)
		s.Add("eth0", leased)
		s.Add("eth0", netip.MustParseAddr("192.0.2.1"))
		synctest.Wait()
		if got := announced(t, f); !slices.Equal(got, []netip.Addr{leased}) {
			t.Errorf("announced %v, want %v", got, leased)
		}
		f.in <- multicast(leased).marshal(t)
		if na := judge(t, <-f.out); na.TargetAddress != leased || !na.Solicited {
			t.Errorf("answer %+v", na)
		}
		f.in <- multicast(unknown).marshal(t)
		f.in <- []byte("noise")
		synctest.Wait()
		f.mu.Lock()
		f.full = errors.New("no buffer space")
		f.mu.Unlock()
		f.in <- multicast(leased).marshal(t)
		synctest.Wait()

		st := status(s, "eth0")
		for reason, n := range st.Counters {
			want := map[string]uint64{"solicited": 1, "unknown_target": 1, "not_solicitation": 1, "send_failed": 1}[reason]
			if n != want {
				t.Errorf("counter %s is %d, want %d", reason, n, want)
			}
		}
		if st.Error != "" || !slices.Equal(st.Addresses, []netip.Addr{leased}) {
			t.Errorf("status %+v", st)
		}
	})
}

func TestProxyLimitsAnswers(t *testing.T) {
	supervise(t, func(s *Supervisor, _ *fakeHost, f *fakeLink) {
		f.out = make(chan []byte, DefaultRate)
		s.Add("eth0", leased)
		synctest.Wait()
		b := multicast(leased).marshal(t)
		const answerBurst = DefaultRate / 2 / 10
		for range answerBurst + 5 { // time stands still
			f.in <- b
		}
		synctest.Wait()
		c := status(s, "eth0").Counters
		if c["solicited"] != answerBurst || c["rate_limited"] != 5 {
			t.Errorf("%d answered, %d limited, want %d and 5", c["solicited"], c["rate_limited"], answerBurst)
		}
	})
}

// Groups are joined, and leases announced, as they come; left as they go. The
// last one takes the socket with it.
func TestAddAndRemove(t *testing.T) {
	supervise(t, func(s *Supervisor, host *fakeHost, f *fakeLink) {
		s.Add("eth0", leased)
		synctest.Wait()
		s.Add("eth0", unknown)
		time.Sleep(10 * noticeInterval)
		if got, want := announced(t, f), []netip.Addr{leased, unknown}; !slices.Equal(got, want) {
			t.Errorf("announced %v, want %v", got, want)
		}
		s.Remove("eth0", unknown)
		s.Remove("eth0", unknown)
		s.Remove("eth7", unknown)
		time.Sleep(10 * noticeInterval)
		if got := f.members(); !slices.Equal(got, []netip.Addr{leased}) {
			t.Errorf("in the groups of %v, want %v", got, leased)
		}
		f.in <- multicast(unknown).marshal(t)
		synctest.Wait()
		if got := announced(t, f); len(got) != 0 {
			t.Errorf("sent for %v after Remove", got)
		}
		s.Remove("eth0", leased)
		synctest.Wait()
		if !f.isClosed() || len(s.Status()) != 0 {
			t.Errorf("closed %v, status %v after the last lease", f.isClosed(), s.Status())
		}
		again := newFakeLink()
		host.set("eth0", again)
		s.Add("eth0", leased)
		synctest.Wait()
		if got := announced(t, again); !slices.Equal(got, []netip.Addr{leased}) {
			t.Errorf("announced %v when the link came back into use", got)
		}
	})
}

// What was added before Run is proxied by it; what is removed before never was.
func TestAddBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeLink()
		host := &fakeHost{links: map[string]*fakeLink{"eth0": f}}
		s := NewSupervisor(host.dial, Knobs{}, slog.New(slog.DiscardHandler))
		s.Add("eth0", leased)
		s.Add("eth1", leased)
		s.Remove("eth1", leased)
		s.LinkChanged("eth0")
		if st := status(s, "eth0"); st.Error == "" {
			t.Error("no error while nothing is answered")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		synctest.Wait()
		if got := announced(t, f); !slices.Equal(got, []netip.Addr{leased}) || host.dialed() != 1 {
			t.Errorf("announced %v after %d dials, want %v after 1", got, host.dialed(), leased)
		}
		cancel()
		<-ran                 //nolint:errcheck // it was cancelled
		s.Add("eth1", leased) // after its end: kept, without effect
		s.Remove("eth0", leased)
	})
}

// A missing link degrades alone, is tried again ever more slowly, and heals at
// once by its event.
func TestMissingLinkHeals(t *testing.T) {
	supervise(t, func(s *Supervisor, host *fakeHost, _ *fakeLink) {
		s.Add("eth0", leased)
		s.Add("eth1", leased)
		synctest.Wait()
		if st := status(s, "eth1"); !strings.Contains(st.Error, errNoLink.Error()) {
			t.Errorf("status of a missing link: %+v", st)
		}
		if st := status(s, "eth0"); st.Error != "" {
			t.Errorf("status of the other link: %+v", st)
		}
		before := host.dialed()
		time.Sleep(time.Hour)
		if n := host.dialed() - before; n < 50 || n > 70 {
			t.Errorf("%d dials in an hour, want about one a minute", n)
		}
		f := newFakeLink()
		host.set("eth1", f)
		began := time.Now()
		s.LinkChanged("eth1")
		synctest.Wait()
		if st := status(s, "eth1"); st.Error != "" || time.Since(began) != 0 {
			t.Errorf("status %+v %v after the event", st, time.Since(began))
		}
		if got := announced(t, f); !slices.Equal(got, []netip.Addr{leased}) {
			t.Errorf("announced %v on the new link", got)
		}
	})
}

// A link that fails is dialed again by the clock when no event comes, without
// spinning.
func TestFailedLinkHeals(t *testing.T) {
	supervise(t, func(s *Supervisor, host *fakeHost, f *fakeLink) {
		s.Add("eth0", leased)
		synctest.Wait()
		f.failed <- errDown
		synctest.Wait()
		if st := status(s, "eth0"); !strings.Contains(st.Error, errDown.Error()) || !f.isClosed() {
			t.Errorf("status %+v, closed %v after a read error", st, f.isClosed())
		}
		next := newFakeLink()
		host.set("eth0", next)
		time.Sleep(minRedial)
		synctest.Wait()
		if st := status(s, "eth0"); st.Error != "" {
			t.Errorf("status %+v after %v", st, minRedial)
		}
		// A link whose every read fails.
		host.set("eth0", nil)
		next.failed <- errDown
		before := host.dialed()
		time.Sleep(10 * time.Second)
		if n := host.dialed() - before; n > 5 {
			t.Errorf("%d dials in 10 s", n)
		}
	})
}

// An event about a link that works has it dialed anew, since its MAC may be
// another one now.
func TestLinkChangedRedials(t *testing.T) {
	supervise(t, func(s *Supervisor, host *fakeHost, f *fakeLink) {
		s.Add("eth0", leased)
		synctest.Wait()
		next := newFakeLink()
		host.set("eth0", next)
		s.LinkChanged("eth0")
		s.LinkChanged("eth9")
		synctest.Wait()
		if !f.isClosed() || next.isClosed() || host.dialed() != 2 {
			t.Errorf("old link closed %v, new one %v, after %d dials", f.isClosed(), next.isClosed(), host.dialed())
		}
		if got := announced(t, next); !slices.Equal(got, []netip.Addr{leased}) {
			t.Errorf("announced %v on the changed link", got)
		}
	})
}

// Add does not wait for a link that takes nothing, however many leases come.
func TestAddDoesNotBlock(t *testing.T) {
	supervise(t, func(s *Supervisor, _ *fakeHost, f *fakeLink) {
		f.out = make(chan []byte) // nobody reads
		const n = 5000
		for i := range uint64(n) {
			s.Add("eth0", numbered(i))
		}
		synctest.Wait()
		if st := status(s, "eth0"); len(st.Addresses) != n || st.Leases != n {
			t.Errorf("%d addresses, %d leases", len(st.Addresses), st.Leases)
		}
	})
}

func TestRunReturnsReadError(t *testing.T) {
	var p Proxy
	f := newFakeLink()
	f.failed <- errDown
	if err := p.Run(t.Context(), f); !errors.Is(err, errDown) || !f.isClosed() {
		t.Errorf("error %v, closed %v", err, f.isClosed())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx, newFakeLink()); err != nil {
		t.Errorf("error %v after the context ended", err)
	}
}

// Every reason has a name of its own and an action.
func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := range reasons {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d is called %q", uint8(r), name)
		} else {
			seen[name] = true
		}
	}
	if s := fmt.Sprint(reasons, Action(9), reasons.Action(), Answer, Drop); s != fmt.Sprintf("Reason(%d) Action(9) ignore answer drop", uint8(reasons)) {
		t.Error(s)
	}
}

// What the proxy sets on a link is told of as a change, too: it is not dialed again.
func TestOwnChangesAreNone(t *testing.T) {
	supervise(t, func(s *Supervisor, host *fakeHost, f *fakeLink) {
		f.same = true
		s.Add("eth0", leased)
		synctest.Wait()
		s.LinkChanged("eth0")
		synctest.Wait()
		if host.dialed() != 1 || f.isClosed() {
			t.Errorf("%d dials, closed %v", host.dialed(), f.isClosed())
		}
	})
}

// A link that is used again waits until its last use has ended: that would take
// away, by its name, what this one puts in its place.
func TestNewLinkWaitsForTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &slowLink{newFakeLink(), make(chan struct{})}
		dials := 0
		s := NewSupervisor(func(context.Context, string) (Conn, error) {
			if dials++; dials == 1 {
				return f, nil
			}
			return newFakeLink(), nil
		}, Knobs{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		s.Add("eth0", leased)
		synctest.Wait()
		s.Remove("eth0", leased)
		s.Add("eth0", leased)
		s.Remove("eth0", leased) // one that never was dialed
		s.Add("eth0", leased)
		synctest.Wait()
		if dials != 1 {
			t.Errorf("%d dials while the first is not closed, want 1", dials)
		}
		close(f.slow)
		synctest.Wait()
		if st := status(s, "eth0"); dials != 2 || st.Error != "" {
			t.Errorf("%d dials, status %+v after it is, want 2", dials, st)
		}
		if len(s.ending) != 0 {
			t.Errorf("%d links are remembered that have ended", len(s.ending))
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// slowLink takes its time to close.
type slowLink struct {
	*fakeLink
	slow chan struct{}
}

func (f *slowLink) Close() error { <-f.slow; return f.fakeLink.Close() }

// All leases are told to a link, however many there are when it is dialed or come
// then; a new one does not wait for the others. That not all groups can be joined
// is shown, and said once.
func TestManyLeasesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := newFakeLink()
		f.most, f.out = 100, make(chan []byte, 3*8001)
		host := &fakeHost{links: map[string]*fakeLink{"eth0": f}}
		s := NewSupervisor(host.dial, Knobs{}, slog.New(slog.NewTextHandler(&out, nil)))
		many := func(first, n uint64) (addrs []netip.Addr) {
			for i := range n {
				addrs = append(addrs, numbered(first+i))
			}
			return addrs
		}
		s.AddAll("eth0", many(0, 2000))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		synctest.Wait()
		s.AddAll("eth0", many(2000, 6000))
		s.Add("eth0", leased)
		time.Sleep(6100 * noticeInterval)
		if told := announced(t, f); !slices.Contains(told, leased) {
			t.Errorf("a new lease is told after all others: not among the first %d", len(told))
		} else if !slices.Contains(told, numbered(7999)) {
			t.Error("not all of those that came are told")
		}
		time.Sleep(2000 * noticeInterval)
		if told := announced(t, f); len(told) < 1800-noticeBurst || len(slices.Compact(told)) != len(told) || slices.Contains(told, leased) {
			t.Errorf("%d of those that were there at first are told, or some twice", len(told))
		}
		if told := len(f.members()); told != f.most {
			t.Errorf("in %d groups, want %d", told, f.most)
		}
		if st := status(s, "eth0"); !st.AllMulticast {
			t.Error("the status does not say that all multicast is received")
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.String(), "all multicast is received"); n != 1 {
			t.Errorf("said %d times that all multicast is received, want once", n)
		}
	})
}

// Without the addresses it is the same; a link without any is not there.
func TestSummary(t *testing.T) {
	supervise(t, func(s *Supervisor, _ *fakeHost, _ *fakeLink) {
		s.AddAll("eth0", []netip.Addr{leased, unknown})
		s.Add("eth1", leased)
		synctest.Wait()
		sum := s.Summary()
		if len(sum) != 2 || sum[0].Parent != "eth0" || sum[0].Leases != 2 || sum[0].Addresses != nil || sum[0].Path != pathPacket || sum[1].Error == "" {
			t.Errorf("summary %+v", sum)
		}
		s.Remove("eth1", leased)
		if links := s.Links(); !slices.Equal(links, []string{"eth0"}) {
			t.Errorf("links %v", links)
		}
	})
}
