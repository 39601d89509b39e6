//go:build netns

package ndbpf

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/ndproxy"
)

// floods are attacks on neighbor discovery by programs that others wrote, each
// for floodTime. They run in the namespace upstream, and end with it.
var floods = map[string][]string{
	"solicitations for targets by chance":     {"atk6-flood_solicitate6", "lan0"},
	"solicitations for a lease":               {"atk6-flood_solicitate6", "lan0", leased, "ff02::1:ff00:5"},
	"solicitations behind hop-by-hop options": {"atk6-flood_solicitate6", "-a", "lan0", leased, "ff02::1:ff00:5"},
	"advertisements by chance":                {"atk6-flood_advertise6", "lan0"},
	"advertisements of a lease":               {"atk6-flood_advertise6", "lan0", leased},
	"forged sources and targets":              {"ns6", "-i", "lan0", "-s", "2001:db8::/64", "-d", "ff02::1", "-t", "2001:db8::/64", "-T", "50", "-F", "50", "-e", "-l", "-z", "1"},
	"fragments":                               {"ns6", "-i", "lan0", "-s", "2001:db8::/64", "-d", "ff02::1:ff00:5", "-t", leased, "-F", "50", "-y", "8", "-e", "-l", "-z", "1"},
}

// floodTime is for how long there is to be a flood, however long its program takes to start.
const floodTime = 500 * time.Millisecond

// RFC 6583: during a flood a live lease is answered, and after it nothing of it
// is left: no memory, no goroutine.
func TestFloods(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.add(t, leased, second)
		before, goroutines, lines := heap(), runtime.NumGoroutine(), l.lines.Load()
		for name, command := range floods {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				flood := l.up.Command(ctx, command...)
				var out strings.Builder
				flood.Stdout, flood.Stderr = &out, &out
				before, asked := received(t), 0
				if err := flood.Start(); err != nil {
					t.Fatal(err)
				}
				answered := 0
				var since time.Time // when it was a flood
				for ctx.Err() == nil && (answered == 0 || since.IsZero() || time.Since(since) < floodTime) {
					l.drain(t)
					if since.IsZero() {
						if received(t) < before+20 {
							continue
						}
						since = time.Now()
					}
					l.send(t, multicastTo(netip.MustParseAddr(second)).frame(t))
					asked++
					if l.heard(t, netip.MustParseAddr(second)) {
						answered++
					}
				}
				cancel()
				_ = flood.Wait() // it was killed
				if n := received(t) - before - asked; n < 20 {
					t.Errorf("%d frames have come, want a flood; %v says\n%s", n, command, out.String())
				}
				if answered == 0 {
					t.Error("a live lease was not answered once during the flood")
				}
			})
		}
		if s := l.status(); s.Error != "" || s.PathError != "" || len(s.Conflicts) > 2 {
			t.Errorf("status %+v", s)
		}
		if n := l.lines.Load() - lines; n > 3 {
			t.Errorf("the floods have written %d lines into the log, want one for each of the leases at most", n)
		}
		if after := heap(); after > before+2<<20 {
			t.Errorf("%d bytes of memory, %d before the floods", after, before)
		}
		if n := runtime.NumGoroutine(); n > goroutines+5 {
			t.Errorf("%d goroutines, %d before the floods", n, goroutines)
		}
	})
}

// received are the frames that have come to eth0.
func received(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	_, of, _ := strings.Cut(string(text), "eth0:")
	var bytes, packets int
	if _, err := fmt.Sscan(of, &bytes, &packets); err != nil {
		t.Fatalf("eth0 in /proc/self/net/dev: %v\n%s", err, text)
	}
	return packets
}

// heard reports whether an advertisement of target comes within a tenth of a second.
func (l *lab) heard(t *testing.T, target netip.Addr) bool {
	t.Helper()
	deadline := time.Now().Add(100 * time.Millisecond)
	if err := l.wire.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); time.Now().Before(deadline); {
		n, err := l.wire.Read(b)
		if err != nil {
			return false
		}
		if n >= 78 && b[20] == 58 && b[54] == 136 && netip.AddrFrom16([16]byte(b[62:])) == target && [6]byte(b[:6]) == asker {
			return true
		}
	}
	return false
}

// heap is what this process holds, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
