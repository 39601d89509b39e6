//go:build netns

package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// patience is how long a test waits for an event that must come.
const patience = 30 * time.Second

// quiet logs nothing.
var quiet = slog.New(slog.DiscardHandler)

// start watches the host until the test's end.
func start(t *testing.T, host *testnet.Host) <-chan Event {
	t.Helper()
	var w *Watcher
	err := netns.Do(host.Path(), func() (err error) {
		w, err = Subscribe(quiet)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	events, ended := make(chan Event, 1<<16), make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(e Event) { events <- e }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returned %v at the end of its context, want nil", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end with its context")
		}
	})
	return events
}

// await skips events until one fits and returns it.
func await(t *testing.T, events <-chan Event, what string, fits func(Event) bool) Event {
	t.Helper()
	deadline := time.After(patience)
	var seen []Event
	for {
		select {
		case e := <-events:
			if fits(e) {
				return e
			}
			seen = append(seen, e)
		case <-deadline:
			t.Fatalf("no event of %s among %+v", what, seen)
		}
	}
}

func linkEvent(name string, up, deleted bool) func(Event) bool {
	return func(e Event) bool { return e.Kind == Link && e.Link == name && e.Up == up && e.Deleted == deleted }
}

func prefixEvent(kind Kind, link, prefix string, deleted bool) func(Event) bool {
	return func(e Event) bool {
		return e.Kind == kind && e.Link == link && e.Prefix == netip.MustParsePrefix(prefix) && e.Deleted == deleted
	}
}

func TestLinkFlapRenameAndDelete(t *testing.T) {
	self := testnet.Self(t)
	events := start(t, self)
	self.Run(t, "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	made := await(t, events, "creation", linkEvent("va", false, false))
	self.Run(t, "ip", "link", "set", "vb", "up")
	self.Run(t, "ip", "link", "set", "va", "up")
	await(t, events, "up", linkEvent("va", true, false))
	self.Run(t, "ip", "link", "set", "vb", "down")
	await(t, events, "loss of carrier", linkEvent("va", false, false))
	self.Run(t, "ip", "link", "set", "vb", "up")
	await(t, events, "up again", linkEvent("va", true, false))
	self.Run(t, "ip", "link", "set", "va", "down")
	await(t, events, "down", linkEvent("va", false, false))
	self.Run(t, "ip", "link", "set", "va", "name", "vc")
	if gone := await(t, events, "the end of the former name", linkEvent("va", false, true)); gone.Renamed != "vc" {
		t.Errorf("%+v, want that the link is called vc now", gone)
	}
	renamed := await(t, events, "rename", linkEvent("vc", false, false))
	self.Run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", "vc")
	await(t, events, "address under the new name", prefixEvent(Address, "vc", "192.0.2.7/24", false))
	self.Run(t, "ip", "link", "del", "vc")
	deleted := await(t, events, "deletion", linkEvent("vc", false, true))
	if deleted.Renamed != "" {
		t.Errorf("%+v, which is no more", deleted)
	}
	if made.Index == 0 || renamed.Index != made.Index || deleted.Index != made.Index {
		t.Errorf("one link has the indices %d, %d and %d", made.Index, renamed.Index, deleted.Index)
	}
}

// Who subscribes knows the links of before by name, so that he hears of one's end.
func TestLinkOfBeforeIsRenamed(t *testing.T) {
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	defer self.Run(t, "ip", "link", "del", "vb")
	events := start(t, self)
	self.Run(t, "ip", "link", "set", "va", "name", "vc")
	await(t, events, "the end of the former name", linkEvent("va", false, true))
	await(t, events, "the new name", linkEvent("vc", false, false))
}

// A bridge says in RTM_DELLINK that a port has left; the link is still there.
func TestPortThatLeavesItsBridgeIsNotDeleted(t *testing.T) {
	self := testnet.Self(t)
	events := start(t, self)
	self.Run(t, "ip", "link", "add", "br7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br7")
	self.Run(t, "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	defer self.Run(t, "ip", "link", "del", "va")
	self.Run(t, "ip", "link", "set", "va", "master", "br7")
	self.Run(t, "ip", "link", "set", "va", "nomaster")
	self.Run(t, "ip", "link", "add", "vend", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "vend")
	await(t, events, "the end", func(e Event) bool {
		if e.Deleted {
			t.Errorf("%+v, but no link was deleted", e)
		}
		return e.Link == "vend"
	})
}

func TestLinkThatLeavesTheNamespaceIsDeleted(t *testing.T) {
	self := testnet.Self(t)
	events := start(t, self)
	other := testnet.New(t, "other")
	self.Run(t, "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	self.Run(t, "ip", "link", "set", "va", "netns", other.Name())
	await(t, events, "the move", linkEvent("va", false, true))
	self.Run(t, "ip", "link", "del", "vb")
}

// A macvlan link in another namespace goes with that, and its parent's namespace
// hears of no link. It does hear that the namespace is gone.
func TestNamespaceThatEnds(t *testing.T) {
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	defer self.Run(t, "ip", "link", "del", "va")
	events := start(t, self)
	other := self.Command(t.Context(), "unshare", "--net", "sh", "-c", "echo there; exec sleep 1000")
	said, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	self.Run(t, "ip", "link", "add", "mv", "link", "va", "type", "macvlan")
	self.Run(t, "ip", "link", "set", "mv", "netns", strconv.Itoa(other.Process.Pid))
	await(t, events, "the move", linkEvent("mv", false, true))
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
	await(t, events, "the namespace's end", func(e Event) bool { return e.Kind == Namespace && e.Deleted })
}

func TestAddressesAndRoutesOfBothFamilies(t *testing.T) {
	self, router := testnet.Self(t), testnet.New(t, "router")
	testnet.Connect(t, self, "eth0", router, "lan0") // before the subscription: its name has to be asked for
	events := start(t, self)
	for _, step := range []struct {
		command string
		fits    func(Event) bool
	}{
		{"addr add 2001:db8:1::5/64 dev eth0", prefixEvent(Address, "eth0", "2001:db8:1::5/64", false)},
		{"addr add 2001:db8:2::5/64 dev eth0", prefixEvent(Route, "eth0", "2001:db8:2::/64", false)},
		{"addr add 192.0.2.5/24 dev eth0", prefixEvent(Address, "eth0", "192.0.2.5/24", false)},
		{"-6 route add default via fe80::1 dev eth0 proto ra", prefixEvent(Route, "eth0", "::/0", false)},
		{"route add default via 192.0.2.1", prefixEvent(Route, "eth0", "0.0.0.0/0", false)},
		{"-6 route add 2001:db8:7::/48 via fe80::1 dev eth0", prefixEvent(Route, "eth0", "2001:db8:7::/48", false)},
		{"-6 route del default dev eth0", prefixEvent(Route, "eth0", "::/0", true)},
		{"addr del 192.0.2.5/24 dev eth0", prefixEvent(Address, "eth0", "192.0.2.5/24", true)},
		{"addr del 2001:db8:1::5/64 dev eth0", prefixEvent(Address, "eth0", "2001:db8:1::5/64", true)},
		{"-6 route add unreachable 2001:db8:8::/48", func(e Event) bool {
			return e.Kind == Route && e.Prefix == netip.MustParsePrefix("2001:db8:8::/48") && !e.Deleted
		}},
	} {
		self.Run(t, append([]string{"ip"}, strings.Fields(step.command)...)...)
		await(t, events, step.command, step.fits)
	}
	self.Run(t, "ip", "-6", "route", "del", "unreachable", "2001:db8:8::/48")
}

// The subscription stays in the namespace where it was made, whoever runs it.
func TestSubscriptionStaysInItsNamespace(t *testing.T) {
	self, other := testnet.Self(t), testnet.New(t, "other")
	events := start(t, other)
	self.Run(t, "ip", "link", "add", "br7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br7")
	other.Run(t, "ip", "link", "add", "br8", "type", "bridge")
	await(t, events, "creation", func(e Event) bool {
		if e.Link == "br7" {
			t.Errorf("%+v is of another namespace", e)
		}
		return e.Link == "br8" && e.Kind == Link
	})
}

// burst adds and deletes n/2 addresses, quickly.
func burst(t *testing.T, self *testnet.Host, link string, n int) {
	t.Helper()
	var lines strings.Builder
	for i := range n / 2 {
		fmt.Fprintf(&lines, "addr add 10.9.%d.%d/32 dev %s\naddr del 10.9.%[1]d.%[2]d/32 dev %[3]s\n", i/250, i%250+1, link)
	}
	cmd := self.Command(t.Context(), "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("burst: %v\n%s", err, out)
	}
}

func TestBurstArrivesWholeAndInOrder(t *testing.T) {
	self := testnet.Self(t)
	events := start(t, self)
	self.Run(t, "ip", "link", "add", "br7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br7")
	const n = 2000
	burst(t, self, "br7", n)
	for i := range n {
		want := fmt.Sprintf("10.9.%d.%d/32", i/2/250, i/2%250+1)
		e := await(t, events, want, func(e Event) bool { return e.Kind == Address || e.Kind == Resync })
		if !prefixEvent(Address, "br7", want, i%2 == 1)(e) {
			t.Fatalf("event %d is %+v, want %s, deleted %t", i, e, want, i%2 == 1)
		}
	}
}

// A subscriber that is too slow is told to read the world again, gets nothing
// from before the loss after that, and everything from then on.
func TestOverrunMakesAResync(t *testing.T) {
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "add", "br7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br7")
	var logged bytes.Buffer
	w, err := subscribe(slog.New(slog.NewTextHandler(&logged, nil)), 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	burst(t, self, "br7", 2000) // before anybody reads
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan Event, 1<<16), make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(e Event) { events <- e }) }()
	await(t, events, "the loss", func(e Event) bool { return e.Kind == Resync })
	select {
	case e := <-events:
		t.Errorf("%+v is from before the loss", e)
	case <-time.After(50 * time.Millisecond):
	}
	for i := range 20 { // the subscription is as good as new
		p := fmt.Sprintf("10.10.0.%d/32", i+1)
		self.Run(t, "ip", "addr", "add", p, "dev", "br7")
		await(t, events, p, prefixEvent(Address, "br7", p, false))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(logged.String(), "lost") {
		t.Errorf("the loss was not logged: %q", logged.String())
	}
}

// What happens between Subscribe and Run is not lost.
func TestNothingIsLostBeforeRun(t *testing.T) {
	self := testnet.Self(t)
	w, err := Subscribe(quiet)
	if err != nil {
		t.Fatal(err)
	}
	self.Run(t, "ip", "link", "add", "br7", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "br7")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := false
	err = w.Run(ctx, func(e Event) {
		if linkEvent("br7", false, false)(e) {
			seen = true
			cancel()
		}
	})
	if err != nil || !seen {
		t.Errorf("Run: %v; event of br7 seen: %t, want it", err, seen)
	}
}

// An end leaves neither a socket nor a goroutine.
func TestEndLeavesNothing(t *testing.T) {
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	once := func() {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		w, err := Subscribe(quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Run(ctx, func(Event) {}), w.Close()); err != nil {
			t.Error(err)
		}
		if w, err = Subscribe(quiet); err != nil { // never run
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	once() // the poller's own files
	filesBefore, goroutinesBefore := files(), runtime.NumGoroutine()
	for range 20 {
		once()
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > goroutinesBefore && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // AfterFunc's may be about to end
	}
	if f, g := files(), runtime.NumGoroutine(); f > filesBefore || g > goroutinesBefore {
		t.Errorf("%d files and %d goroutines became %d and %d", filesBefore, goroutinesBefore, f, g)
	}
}

// A context that has ended already ends Run.
func TestRunWithEndedContext(t *testing.T) {
	w, err := Subscribe(quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx, func(e Event) { t.Errorf("%+v after the end", e) }); err != nil {
		t.Error(err)
	}
}
