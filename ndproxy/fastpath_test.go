package ndproxy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errNoMemory = errors.New("no memory")

// fakeFast is a FastPath that answers nothing, and remembers what it was told.
type fakeFast struct {
	*fakeLink
	leases   map[netip.Addr]bool
	prefixes []netip.Prefix
	attached bool
	settled  uint64
	// toldBefore is how many frames were sent before Attach, which may lose them.
	toldBefore int
	fail       error // of Add

	detached, failDetach int // how often Detach was called, and how often it fails at first

	loading chan error // what Load waits for and returns; nil: it is loaded at once
}

func (f *fakeFast) Load() error {
	if f.loading == nil {
		return nil
	}
	return <-f.loading
}

func (f *fakeFast) Attach(Station, Knobs) error {
	f.attached, f.toldBefore = true, len(f.out)
	return nil
}

func (f *fakeFast) Detach() error {
	f.detached++
	if f.detached > f.failDetach {
		f.attached = false
		return nil
	}
	return errNoMemory
}

func (f *fakeFast) Close() error { return errors.Join(f.Detach(), f.fakeLink.Close()) }

func (f *fakeFast) Reserve(int) error { return nil }

func (f *fakeFast) Add(addr netip.Addr) error {
	if f.fail == nil {
		f.leases[addr] = true
	}
	return f.fail
}

func (f *fakeFast) AddAll(addrs []netip.Addr) error {
	for _, addr := range addrs {
		if err := f.Add(addr); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeFast) Remove(addr netip.Addr) error              { delete(f.leases, addr); return nil }
func (f *fakeFast) SetPrefixes(prefixes []netip.Prefix) error { f.prefixes = prefixes; return nil }
func (f *fakeFast) Count(count func(Reason, uint64))          { count(Solicited, f.settled) }

// superviseFast is supervise with a link that has a fast path.
func superviseFast(t *testing.T, test func(s *Supervisor, f *fakeFast)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFast{fakeLink: newFakeLink(), leases: map[netip.Addr]bool{}}
		s := NewSupervisor(func(context.Context, string) (Conn, error) { return f, nil }, Knobs{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		synctest.Wait()
		test(s, f)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// The fast path knows what the table knows, before it answers and after.
func TestFastPathFollows(t *testing.T) {
	superviseFast(t, func(s *Supervisor, f *fakeFast) {
		p := netip.MustParsePrefix("2001:db8:9::/64")
		s.AddAll("eth0", []netip.Addr{leased, unknown})
		s.AddPrefix("eth0", p)
		synctest.Wait()
		s.Add("eth0", numbered(1))
		s.Remove("eth0", unknown)
		if f.toldBefore != 0 {
			t.Errorf("%d frames were sent before the fast path was attached", f.toldBefore)
		}
		if !f.attached || len(f.leases) != 2 || !f.leases[leased] || !f.leases[numbered(1)] || !slices.Equal(f.prefixes, []netip.Prefix{p}) {
			t.Errorf("attached %v, leases %v, prefixes %v", f.attached, f.leases, f.prefixes)
		}
		f.settled = 7
		f.in <- multicast(leased).marshal(t) // came to the socket all the same
		synctest.Wait()
		if st := status(s, "eth0"); st.Path != "ebpf" || st.PathError != "" || st.Counters["solicited"] != 8 {
			t.Errorf("status %+v, want path ebpf and 8 solicited", st)
		}
	})
}

// While it is loaded all is answered without it, and it comes to know what has become of
// leases meanwhile. Where it cannot be loaded it stays so, and status says why.
func TestFastPathIsLoaded(t *testing.T) {
	for _, err := range []error{nil, errNoMemory} {
		superviseFast(t, func(s *Supervisor, f *fakeFast) {
			f.loading = make(chan error)
			s.AddAll("eth0", []netip.Addr{leased, unknown})
			synctest.Wait()
			s.Remove("eth0", unknown)
			s.Add("eth0", numbered(1))
			for _, addr := range []netip.Addr{leased, numbered(1)} {
				f.in <- multicast(addr).marshal(t)
			}
			synctest.Wait()
			if len(f.out) != 2 {
				t.Errorf("%d answers while it is loaded, want 2", len(f.out))
			}
			if st := status(s, "eth0"); st.Path != "packet" || st.PathError != "" || st.Error != "" || len(f.members()) != 2 {
				t.Errorf("%d groups are joined, and the status is %+v while it is loaded", len(f.members()), st)
			}
			f.loading <- err
			synctest.Wait()
			path, why := "ebpf", ""
			if err != nil {
				path, why = "packet", err.Error()
			}
			if st := status(s, "eth0"); st.Path != path || st.PathError != why || st.Error != "" || f.attached != (err == nil) {
				t.Errorf("loaded: %v; attached %v, status %+v", err, f.attached, st)
			}
			if err == nil && (len(f.leases) != 2 || !f.leases[leased] || !f.leases[numbered(1)]) {
				t.Errorf("it knows %v", f.leases)
			}
		})
	}
}

// One that fails is given up: the rest is answered without it, and its counters stay.
func TestFastPathFails(t *testing.T) {
	superviseFast(t, func(s *Supervisor, f *fakeFast) {
		s.Add("eth0", leased)
		synctest.Wait()
		f.settled, f.fail = 7, errNoMemory
		s.Add("eth0", unknown)
		st := status(s, "eth0")
		if f.attached || st.Path != "packet" || st.PathError != errNoMemory.Error() || st.Error != "" || st.Counters["solicited"] != 7 {
			t.Errorf("attached %v, status %+v", f.attached, st)
		}
		synctest.Wait()
		announced(t, f.fakeLink)
		f.in <- multicast(unknown).marshal(t)
		synctest.Wait()
		if len(f.out) != 1 {
			t.Errorf("%d answers by packets, want 1", len(f.out))
		}
	})
}

// So is one that fails while it is filled.
func TestFastPathFailsAtOnce(t *testing.T) {
	superviseFast(t, func(s *Supervisor, f *fakeFast) {
		f.fail = errNoMemory
		s.Add("eth0", leased)
		synctest.Wait()
		if st := status(s, "eth0"); f.attached || st.Path != "packet" || st.PathError != errNoMemory.Error() {
			t.Errorf("attached %v, status %+v", f.attached, st)
		}
	})
}

// A conflict is shown until its lease goes, with the last rival.
func TestRivals(t *testing.T) {
	supervise(t, func(s *Supervisor, _ *fakeHost, f *fakeLink) {
		s.Add("eth0", leased)
		s.Add("eth0", unknown)
		synctest.Wait()
		na := Station{HardwareAddr: stranger, LinkLocal: here.LinkLocal}
		f.in <- unsolicited(leased, na).AppendFrame(nil)
		f.in <- unsolicited(numbered(9), na).AppendFrame(nil) // none of ours
		f.in <- unsolicited(leased, here).AppendFrame(nil)    // our own
		synctest.Wait()
		st := status(s, "eth0")
		if len(st.Conflicts) != 1 || st.Conflicts[0].Address != leased || st.Conflicts[0].HardwareAddr != "02:00:00:00:00:03" {
			t.Errorf("conflicts %v", st.Conflicts)
		}
		if st.Counters["conflict"] != 1 || st.Counters["advertised"] != 1 || st.Counters["own"] != 1 {
			t.Errorf("counters %v", st.Counters)
		}
		s.Remove("eth0", leased)
		if st := status(s, "eth0"); len(st.Conflicts) != 0 {
			t.Errorf("conflicts %v without the lease", st.Conflicts)
		}
	})
	var r rivals
	began := time.Unix(1000, 0)
	for i := range uint64(2 * maxRivals) {
		if news := r.see(numbered(i), stranger, began); news != (i < maxRivals) {
			t.Fatalf("rival %d is news: %v", i, news)
		}
	}
	if len(r.list()) != maxRivals {
		t.Error("there is no bound")
	}
	for _, c := range []struct {
		after time.Duration
		mac   [6]byte
		want  bool
	}{
		{time.Second, stranger, false}, {time.Second, neighbor, false}, {rivalInterval, neighbor, true}, {rivalInterval + time.Second, stranger, false}, {3 * rivalInterval, stranger, true},
	} {
		if news := r.see(numbered(0), c.mac, began.Add(c.after)); news != c.want || r.list()[0].HardwareAddr != net.HardwareAddr(c.mac[:]).String() {
			t.Errorf("after %v: %x is news: %v, listed as %v", c.after, c.mac, news, r.list()[0])
		}
	}
}

// Whoever forges advertisements, by two names in turn, does not write our log.
func TestRivalsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := newFakeLink()
		host := &fakeHost{links: map[string]*fakeLink{"eth0": f}}
		s := NewSupervisor(host.dial, Knobs{}, slog.New(slog.NewTextHandler(&out, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- s.Run(ctx) }()
		s.Add("eth0", leased)
		synctest.Wait()
		for i := range 1000 {
			f.in <- unsolicited(leased, Station{HardwareAddr: [6]byte{2, 0, 0, 0, 0, 8 + byte(i%2)}, LinkLocal: here.LinkLocal}).AppendFrame(nil)
		}
		synctest.Wait()
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.String(), "another host"); n != 1 {
			t.Errorf("%d lines for 1000 advertisements, want 1:\n%s", n, out.String())
		}
	})
}

// What Close could not take off the link is taken off then.
func TestFastPathIsDetachedAgain(t *testing.T) {
	superviseFast(t, func(s *Supervisor, f *fakeFast) {
		s.Add("eth0", leased)
		synctest.Wait()
		f.failDetach = 1
		s.Remove("eth0", leased)
		synctest.Wait()
		if f.attached || f.detached != 2 {
			t.Errorf("attached %v after %d tries, want not after 2", f.attached, f.detached)
		}
	})
}
