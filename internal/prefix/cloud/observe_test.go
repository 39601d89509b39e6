package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// road is a Traffic by hand.
type road struct {
	prefixes []netip.Prefix
	solicit  chan string
	packet   chan string
	broken   chan struct{}
	closed   atomic.Bool
}

var errBroken = errors.New("the link is down")

func (r *road) Next(ctx context.Context, packets bool) (to netip.Addr, solicited bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return netip.Addr{}, false, ctx.Err()
		case <-r.broken:
			return netip.Addr{}, false, errBroken
		case a := <-r.solicit:
			return netip.MustParseAddr(a), true, nil
		case a := <-r.packet:
			if packets {
				return netip.MustParseAddr(a), false, nil
			}
		}
	}
}

func (r *road) Close() error { r.closed.Store(true); return nil }

// street is a Hetzner Cloud machine with its road, in the time of synctest.
type street struct {
	t     *testing.T
	mu    sync.Mutex // held by the test but while it lets time pass
	roads []*road
	said  []spec.DelegationReport
	body  string
	stop  func()
}

func onStreet(t *testing.T, before spec.DelegationLease, f func(s *street)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := &street{t: t, body: clouds["Hetzner Cloud"].body}
		s := New(Config{
			Link: "eth0", MAC: func() (string, error) { return ourMAC, nil }, DMI: clouds["Hetzner Cloud"].machine, Lease: before,
			Own: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("2a01:4f8:beef:beef::1")} },
			Listen: func(_ context.Context, prefixes []netip.Prefix) (Traffic, error) {
				r := &road{prefixes: prefixes, solicit: make(chan string), packet: make(chan string), broken: make(chan struct{})}
				st.mu.Lock()
				defer st.mu.Unlock()
				st.roads = append(st.roads, r)
				return r, nil
			},
		})
		s.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			st.mu.Lock()
			defer st.mu.Unlock()
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(st.body))}, nil
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx, func(r spec.DelegationReport) {
				st.mu.Lock()
				defer st.mu.Unlock()
				st.said = append(st.said, r)
			})
		}()
		st.stop = func() {
			st.mu.Unlock()
			cancel()
			<-done
			st.mu.Lock()
			defer st.mu.Unlock()
			for i, r := range st.roads {
				if !r.closed.Load() {
					t.Errorf("the %d. is still listened on", i+1)
				}
			}
		}
		st.mu.Lock()
		st.pass(0)
		f(st)
		st.stop()
	})
}

func (st *street) pass(d time.Duration) {
	st.mu.Unlock()
	defer st.mu.Lock()
	synctest.Wait()
	time.Sleep(d)
	synctest.Wait()
}

func (st *street) road() *road { return st.roads[len(st.roads)-1] }

// want says what is found out: empty evidence for nothing yet.
func (st *street) want(when string, onLink bool, evidence string) spec.DelegationLease {
	st.t.Helper()
	st.pass(0)
	last := st.said[len(st.said)-1]
	lent := last.Lease.Delegations()
	if len(lent) != 1 || lent[0].OnLink != onLink || !strings.Contains(lent[0].Evidence, evidence) || (lent[0].Evidence == "") != (evidence == "") {
		st.t.Errorf("%s: %+v, want on-link %t by %q", when, lent, onLink, evidence)
	}
	return last.Lease
}

// A prefix of which a cloud does not say how it comes is answered for, until packets come
// without a question. A question is the last word.
func TestDeliveryIsObserved(t *testing.T) {
	var known []spec.DelegationLease
	onStreet(t, spec.DelegationLease{}, func(s *street) {
		first := s.want("at first", true, "")
		if got := fmt.Sprint(s.road().prefixes); got != "[2a01:4f8:beef:beef::/64]" {
			t.Errorf("listens for %s", got)
		}
		s.road().solicit <- "2a01:4f8:beef:beef::1" // the machine's own, which it has either way
		s.road().packet <- "2a01:4f8:beef:beef::5"  // the router may have asked before
		s.want("after a packet at the beginning", true, "")
		s.pass(quietTime + time.Second)
		s.road().packet <- "2a01:4f8:beef:beef::1"
		s.want("after a packet to the machine", true, "")
		s.road().packet <- "2a01:4f8:beef:beef::5"
		routed := s.want("after a packet that nobody asked for", false, "2a01:4f8:beef:beef::5 has come")
		if d := first.Delegations()[0]; !d.OnLink || d.Evidence != "" {
			t.Errorf("an earlier report is now %+v", d)
		}
		s.pass(readAgain + time.Second)
		s.want("after another reading", false, "2a01:4f8:beef:beef::5 has come")
		s.road().solicit <- "2a01:4f8:beef:beef::6"
		onLink := s.want("after a question", true, "2a01:4f8:beef:beef::6 was solicited")
		s.pass(readAgain + time.Second)
		s.want("later", true, "was solicited")
		if len(s.roads) != 1 || !s.road().closed.Load() {
			t.Errorf("%d listened on, though all is known", len(s.roads))
		}

		known = append(known, routed, onLink)
	})
	for _, before := range known {
		decided := before.Delegations()[0]
		onStreet(t, before, func(s *street) { s.want("in the next daemon", decided.OnLink, decided.Evidence) })
	}
	onStreet(t, spec.DelegationLease{}, func(s *street) {
		s.pass(time.Hour)
		s.want("in silence", true, "")
		s.road().solicit <- "2a01:4f8:beef:beef::7"
		s.want("after a question", true, "2a01:4f8:beef:beef::7 was solicited")
	})
}

// A link that cannot be listened on any more is, at the next reading; one of another
// prefix at once.
func TestObserverBeginsAnew(t *testing.T) {
	onStreet(t, spec.DelegationLease{}, func(s *street) {
		close(s.road().broken)
		s.pass(readAgain + time.Second)
		if len(s.roads) != 2 || !s.roads[0].closed.Load() {
			t.Errorf("%d roads, the first closed: %t", len(s.roads), s.roads[0].closed.Load())
		}
		s.body = strings.ReplaceAll(s.body, "2a01:4f8:beef:beef::1/64", "2a01:4f8:cafe:cafe::1/64")
		s.pass(readAgain)
		if got := fmt.Sprint(s.road().prefixes); len(s.roads) != 3 || got != "[2a01:4f8:cafe:cafe::/64]" || !s.roads[1].closed.Load() {
			t.Errorf("%d roads, the last for %s", len(s.roads), got)
		}
	})
	// What is said is not watched for.
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Link: "eth0", MAC: func() (string, error) { return ourMAC, nil }, DMI: clouds["Vultr"].machine,
			Listen: func(context.Context, []netip.Prefix) (Traffic, error) { t.Error("listens"); return nil, errBroken }})
		s.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(clouds["Vultr"].body))}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.Run(ctx, func(spec.DelegationReport) {})
	})
}
