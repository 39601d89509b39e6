//go:build netns

package ndbpf

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/v6net/v6net/ndproxy"
)

// witness keeps what it is told of the frames of the tests' asker.
type witness struct {
	mu   sync.Mutex
	seen []ndproxy.Seen
	lost uint64
}

func (w *witness) see(s ndproxy.Seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost += s.Lost
	if s.From == asker {
		w.seen = append(w.seen, s)
	}
}

func (w *witness) all() []ndproxy.Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]ndproxy.Seen(nil), w.seen...)
}

// Who watches sees what becomes of each frame, by every path and whoever decides.
func TestWatched(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		var w witness
		l.see = w.see
		l.add(t, leased)
		eventually(t, "answers have a source", func() bool { return !l.fast || l.conn.Load().LinkLocal().IsValid() })
		l.drain(t)
		l.send(t, multicastTo(target).frame(t))
		l.advertisement(t, target)
		if got := w.all(); len(got) > 0 {
			t.Fatalf("nobody watches, and %+v are told of", got)
		}
		l.proxy.Watch(true)
		stranger := netip.MustParseAddr(unknown)
		far := multicastTo(target)
		far.spoil = set(21, 64) // hop limit
		var want []ndproxy.Seen
		for _, q := range []struct {
			question
			reason ndproxy.Reason
		}{
			{multicastTo(target), ndproxy.Solicited},
			{multicastTo(stranger), ndproxy.UnknownTarget},
			{far, ndproxy.BadHopLimit},
		} {
			l.send(t, q.frame(t))
			want = append(want, ndproxy.Seen{Reason: q.reason, From: asker, Source: source, Target: q.target})
			eventually(t, "told of "+q.reason.String(), func() bool { return len(w.all()) >= len(want) })
		}
		if diff := cmp.Diff(want, w.all(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("told of (-want +got):\n%s", diff)
		}
		l.drain(t) // of the answer that was watched
		l.proxy.Watch(false)
		l.send(t, multicastTo(target).frame(t))
		l.advertisement(t, target)
		l.proxy.Watch(true) // and whoever comes later begins anew
		l.send(t, multicastTo(stranger).frame(t))
		eventually(t, "told again", func() bool { return len(w.all()) > len(want) })
		if got := w.all()[len(want):]; len(got) != 1 || got[0].Reason != ndproxy.UnknownTarget {
			t.Errorf("after nobody watched: %+v, want one of an unknown target", got)
		}
	})
}

// Of a flood that nobody can keep up with all is told of or counted as lost.
func TestWatchedFlood(t *testing.T) {
	for _, path := range []string{"ebpf by tcx", "ebpf by clsact"} {
		t.Run(path, func(t *testing.T) {
			l := newLab(t, path, ndproxy.Knobs{})
			var w witness
			hold := make(chan struct{})
			l.see = func(s ndproxy.Seen) { <-hold; w.see(s) }
			l.add(t, leased)
			l.proxy.Watch(true)
			f := multicastTo(netip.MustParseAddr(unknown)).frame(t)
			const flood = 3000 // more than there is room for
			before := l.settled()["unknown_target"]
			for range flood {
				l.send(t, f)
			}
			eventually(t, "judged", func() bool { return l.settled()["unknown_target"] >= before+flood })
			close(hold)
			eventually(t, "all told of or lost", func() bool {
				told := uint64(len(w.all()))
				w.mu.Lock()
				defer w.mu.Unlock()
				return told+w.lost >= flood
			})
			if w.lost == 0 {
				t.Errorf("nothing is lost of %d, which there is no room for", flood)
			}
		})
	}
}
