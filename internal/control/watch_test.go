package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/serve"
	"github.com/v6net/v6net/internal/spec"
)

// watched knows one address.
type watched struct{}

func (watched) Status(context.Context) spec.Status { return spec.Status{} }
func (watched) Describe(events []spec.Event) {
	for i := range events {
		if events[i].Address == netip.MustParseAddr("2001:db8::5") {
			events[i].Container = "web"
		}
	}
}

// stage is a server with a hub; end ends it and waits.
func stage(t *testing.T, patience time.Duration) (path string, hub *event.Hub, end func()) {
	t.Helper()
	path, hub = filepath.Join(t.TempDir(), "v6net.sock"), &event.Hub{}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	done := make(chan error, 1)
	go func() { done <- serveFor(ctx, l, watchers(ctx, watched{}, hub, log), patience) }()
	return path, hub, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// reader watches until it ends; what it got can be read from got.
type reader struct {
	began chan struct{}
	got   chan spec.Event
	done  chan error
}

func read(ctx context.Context, path string, filter Filter) *reader {
	r := &reader{make(chan struct{}), make(chan spec.Event, 100), make(chan error, 1)}
	go func() {
		r.done <- NewClient(path).Watch(ctx, filter, func() { close(r.began) }, func(e spec.Event) error { r.got <- e; return nil })
	}()
	return r
}

func (r *reader) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.began:
	case err := <-r.done:
		t.Fatalf("the stream does not begin: %v", err)
	}
}

func TestWatch(t *testing.T) {
	path, hub, end := stage(t, requestTimeout)
	all := read(t.Context(), path, Filter{})
	some := read(t.Context(), path, Filter{Types: []spec.EventType{spec.EventNDP}, Source: netip.MustParsePrefix("fe80::/10")})
	all.wait(t)
	some.wait(t)
	sent := spec.Event{
		Time: time.Now().UTC().Round(0), Type: spec.EventNDP, What: "answered", Reason: "solicited", Link: "eth0",
		Source: netip.MustParseAddr("fe80::1"), Address: netip.MustParseAddr("2001:db8::5"), MAC: spec.MAC{2, 0, 0, 0, 0, 9},
	}
	hub.Publish(spec.Event{Type: spec.EventLease, What: "taken"})
	hub.Publish(spec.Event{Type: spec.EventNDP, What: "ignored", Source: netip.MustParseAddr("2001:db8::1")})
	hub.Publish(sent)
	want := sent
	want.Container = "web"
	for _, what := range []string{"taken", "ignored", "answered"} {
		if got := <-all.got; got.What != what || got.What == "answered" && got != want {
			t.Errorf("got %+v, want %s, of which %+v", got, what, want)
		}
	}
	if got := <-some.got; got != want {
		t.Errorf("got %+v, want %+v alone", got, want)
	}
	end()
	for _, r := range []*reader{all, some} {
		if err := <-r.done; !errors.Is(err, ErrEnded) {
			t.Errorf("at the daemon's end: %v, want ErrEnded", err)
		}
	}
	if hub.Wanted(spec.EventNDP) {
		t.Error("somebody listens after the end")
	}
}

// A stream goes on for longer than a request may take, and a reader that goes is forgotten.
func TestWatchOutlastsRequests(t *testing.T) {
	const patience = 50 * time.Millisecond
	path, hub, end := stage(t, patience)
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	r := read(ctx, path, Filter{})
	r.wait(t)
	select {
	case err := <-r.done:
		t.Fatalf("ended: %v", err)
	case <-time.After(3 * patience):
	}
	hub.Publish(spec.Event{Type: spec.EventLease, What: "taken"})
	select {
	case <-r.got:
	case err := <-r.done:
		t.Fatalf("ended: %v", err)
	}
	cancel()
	if err := <-r.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v, want its context's error", err)
	}
	for deadline := time.Now().Add(time.Minute); hub.Wanted(spec.EventLease); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a reader that has gone is still served")
		}
	}
}

// A reader that takes nothing costs a bounded amount, and hears how much it missed.
func TestWatchSlowReader(t *testing.T) {
	path, hub, end := stage(t, requestTimeout)
	defer end()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is about what it reads
	if _, err := io.WriteString(conn, "GET /v1/events?type=ndp HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for !hub.Wanted(spec.EventNDP) {
		time.Sleep(time.Millisecond)
	}
	const flood = 20_000
	detail := strings.Repeat("x", 1000)
	for range flood {
		hub.Publish(spec.Event{Type: spec.EventNDP, Detail: detail})
	}
	lines := json.NewDecoder(after(t, conn))
	got, lost := uint64(0), uint64(0)
	for got+lost < flood {
		var e spec.Event
		if err := lines.Decode(&e); err != nil {
			t.Fatalf("after %d events and %d lost: %v", got, lost, err)
		}
		if lost += e.Lost; e.Type == spec.EventNDP {
			got++
		}
	}
	if lost == 0 || got+lost != flood {
		t.Errorf("%d got and %d lost, want %d in all", got, lost, flood)
	}
}

// A reader that is paused (less, ^S) does not keep the daemon from ending, however long it
// would wait for requests.
func TestWatchPausedReaderAtTheEnd(t *testing.T) {
	path, hub := filepath.Join(t.TempDir(), "v6net.sock"), &event.Hub{}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := &http.Server{Handler: watchers(ctx, watched{}, hub, slog.New(slog.DiscardHandler)), ReadHeaderTimeout: headerTimeout}
	go func() { done <- serve.HTTP(ctx, l, server, time.Hour) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is read from it
	if _, err := io.WriteString(conn, "GET /v1/events?type=ndp HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for !hub.Wanted(spec.EventNDP) {
		time.Sleep(time.Millisecond)
	}
	for range 20_000 { // more than a socket takes
		hub.Publish(spec.Event{Type: spec.EventNDP, Detail: strings.Repeat("x", 1000)})
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the server waits for a reader that is paused")
	}
}

// after is what follows a response's header.
func after(t *testing.T, r io.Reader) io.Reader {
	t.Helper()
	for end := ""; end != "\r\n\r\n"; {
		b := make([]byte, 1)
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
		if end += string(b); len(end) > 4 {
			end = end[1:]
		}
	}
	return r
}

func TestWatchRefuses(t *testing.T) {
	path, hub, end := stage(t, requestTimeout)
	defer end()
	err := NewClient(path).Watch(t.Context(), Filter{Types: []spec.EventType{"noise"}}, func() { t.Error("it begins") }, nil)
	if err == nil || !strings.Contains(err.Error(), `"noise" is not allowed (allowed: ndp, ra,`) {
		t.Errorf("error %v, want one that names the type and what is allowed", err)
	}
	for range 32 {
		s, err := hub.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if err := NewClient(path).Watch(t.Context(), Filter{}, func() { t.Error("it begins") }, nil); err == nil || !strings.Contains(err.Error(), "32 readers") {
		t.Errorf("error %v, want one that says why", err)
	}
}

// A daemon that is killed in the middle of a line has ended, like any other.
func TestWatchHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"type\":\r\n")
		_ = conn.Close()
	}()
	err = NewClient(path).Watch(t.Context(), Filter{}, func() {}, func(spec.Event) error { return nil })
	if !errors.Is(err, ErrEnded) {
		t.Errorf("%v, want ErrEnded", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-done
}
