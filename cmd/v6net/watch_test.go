package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/names"
	"github.com/v6net/v6net/internal/spec"
)

func TestEventLines(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	at := time.Date(2026, 11, 27, 9, 8, 7, 6_000_000, time.Local)
	for _, tc := range []struct {
		event spec.Event
		want  string
	}{
		{spec.Event{Type: spec.EventNDP, What: "answered", Reason: "solicited", Link: "eth0", Source: addr("fe80::1"), Address: addr("2001:db8::5"), MAC: spec.MAC{2, 0, 0, 0, 0, 9}, Container: "web", NetworkName: "front"},
			"09:08:07.006  ndp       answered    web/front             2001:db8::5 asked for by fe80::1 (02:00:00:00:00:09) on eth0: solicited"},
		{spec.Event{Type: spec.EventNDP, What: "answered", Reason: "defended", Link: "eth0", Source: addr("::"), Address: addr("2001:db8::5"), MAC: spec.MAC{2, 0, 0, 0, 0, 9}, Endpoint: strings.Repeat("e", 64), Network: strings.Repeat("a", 64)},
			"09:08:07.006  ndp       answered    eeeeeeeeeeee/aaaaaaaaaaaa  2001:db8::5 asked for by duplicate address detection of 02:00:00:00:00:09 on eth0: defended"},
		{spec.Event{Type: spec.EventNDP, What: "ignored", Reason: "unknown_target", Link: "eth0", Source: addr("fe80::1"), Address: addr("2001:db8::6")},
			"09:08:07.006  ndp       ignored     -                     2001:db8::6 asked for by fe80::1 on eth0: unknown target"},
		{spec.Event{Type: spec.EventNDP, What: "ignored", Reason: "advertised", Link: "eth0", Source: addr("fe80::1"), Address: addr("fe80::1"), MAC: spec.MAC{2, 0, 0, 0, 0, 9}},
			"09:08:07.006  ndp       ignored     -                     fe80::1 advertised by fe80::1 (02:00:00:00:00:09) on eth0"},
		{spec.Event{Type: spec.EventRA, What: "sent", Link: "v6n1", Source: addr("fe80::1"), Destination: addr("ff02::1"), NetworkName: "front", Advertisement: &spec.Advertisement{MTU: 1400, Search: []spec.Lasting[string]{{Value: "evil\x1b[2J", Lifetime: 60}}}},
			`09:08:07.006  ra        sent        front                 from fe80::1 to ff02::1 on v6n1: no default router, MTU 1400, DNS search domain "evil\x1b[2J" for 1m0s`},
		{spec.Event{Type: spec.EventRA, What: "ignored", Reason: "wrong_hop_limit", Link: "eth0", Source: addr("fe80::6")},
			"09:08:07.006  ra        ignored     -                     from fe80::6 on eth0: wrong hop limit"},
		{spec.Event{Type: spec.EventFirewall, What: "denied", Source: addr("2001:db8:9::1"), Destination: addr("2001:db8::5"), Protocol: "tcp", Port: 22, Reason: "inbound=published", Container: "web"},
			"09:08:07.006  firewall  denied      web                   2001:db8:9::1 to 2001:db8::5, tcp port 22 (inbound=published)"},
		{spec.Event{Type: spec.EventLease, What: "taken", Address: addr("2001:db8::5"), Prefix: prefix("2001:db8::/64"), NetworkName: "front"},
			"09:08:07.006  lease     taken       front                 2001:db8::5 of 2001:db8::/64"},
		{spec.Event{Type: spec.EventPrefix, What: "gained", Prefix: prefix("2001:db8::/56"), Until: at, Reason: "pd", Link: "eth0", Detail: "server 00:03"},
			"09:08:07.006  prefix    gained      -                     2001:db8::/56 until 2026-11-27 09:08:07 by pd on eth0 (server 00:03)"},
		{spec.Event{Type: spec.EventEndpoint, What: "joined", Address: addr("2001:db8::5"), Container: "web", NetworkName: "front"},
			"09:08:07.006  endpoint  joined      web/front             2001:db8::5"},
		{spec.Event{Type: spec.EventNetwork, What: "degraded", NetworkName: "front", Link: "v6n1", Reason: "parent eth0:\nno such link"},
			"09:08:07.006  network   degraded    front                 v6n1 parent eth0: no such link"},
		{spec.Event{Type: spec.EventLost, Lost: 1024}, "09:08:07.006  1024 events lost: this reader is too slow"},
	} {
		tc.event.Time = at
		if diff := cmp.Diff(tc.want+"\n", eventLine(screen{}, tc.event)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.event.Type, tc.event.What, diff)
		}
	}
}

func TestEventColours(t *testing.T) {
	e := spec.Event{Type: spec.EventFirewall, What: "denied"}
	if got := eventLine(screen{colour: true}, e); !strings.Contains(got, "\x1b[31mdenied    \x1b[0m") {
		t.Errorf("%q is not red", got)
	}
}

func TestWatchChooses(t *testing.T) {
	web := spec.Event{Type: spec.EventEndpoint, Network: "abcd1234", NetworkName: "front", Endpoint: "beef5678", Container: "web"}
	none := spec.Event{Type: spec.EventPrefix}
	lost := spec.Event{Type: spec.EventLost}
	known := names.Directory{Containers: map[string]names.Container{"beef5678": {ID: "cafe9012"}}}
	for _, tc := range []struct {
		command   watchCommand
		web, none bool
	}{
		{watchCommand{}, true, true},
		{watchCommand{Network: "front"}, true, false},
		{watchCommand{Network: "abcd"}, true, false},
		{watchCommand{Network: "a"}, false, false}, // a name that nobody has
		{watchCommand{Network: "back"}, false, false},
		{watchCommand{Container: "web"}, true, false},
		{watchCommand{Container: "beef"}, true, false},
		{watchCommand{Container: "cafe9012"}, true, false},
		{watchCommand{Container: "db"}, false, false},
		{watchCommand{Network: "front", Container: "db"}, false, false},
		{watchCommand{Network: "fron"}, false, false},
	} {
		v := viewer{command: &tc.command, known: known}
		if v.wanted(web) != tc.web || v.wanted(none) != tc.none || !v.wanted(lost) {
			t.Errorf("%+v: of web %v, of nobody %v, lost %v", tc.command, v.wanted(web), v.wanted(none), v.wanted(lost))
		}
	}
}

// What is called so is meant, and nothing whose ID begins so.
func TestWatchChoosesByNameFirst(t *testing.T) {
	begins := spec.Event{Type: spec.EventEndpoint, Endpoint: "cafe5678", Container: "other"}
	called := spec.Event{Type: spec.EventEndpoint, Endpoint: "beef5678", Container: "cafe"}
	v := viewer{command: &watchCommand{Container: "cafe"}}
	if !v.wanted(begins) || !v.wanted(called) || v.wanted(begins) {
		t.Error("the beginning of an ID is still one where something is called so, or none where nothing is")
	}
}

// watched is a viewer whose lines can be read, and what Docker knows.
func watched(t *testing.T, c watchCommand) (v *viewer, docker *atomic.Pointer[names.Directory], lines func() string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	docker = &atomic.Pointer[names.Directory]{}
	docker.Store(&names.Directory{})
	v = &viewer{command: &c, out: out, names: func(context.Context) (names.Directory, error) { return *docker.Load(), nil }}
	return v, docker, func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
}

// The last one that --count wants had to wait for its name, and others come before the
// watching has ended.
func TestWatchCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, docker, lines := watched(t, watchCommand{Container: "web", Count: 1})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		show := func(what string) error {
			return v.show(ctx, cancel, spec.Event{Type: spec.EventEndpoint, Endpoint: "beef5678", What: what})
		}
		if err := show("first"); err != nil {
			t.Error(err)
		}
		docker.Store(&names.Directory{Containers: map[string]names.Container{"beef5678": {ID: "cafe9012", Name: "web"}}})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for range 3 {
			if err := show("more"); !errors.Is(err, errEnough) {
				t.Errorf("after enough: %v", err)
			}
		}
		if n := strings.Count(lines(), "\n"); n != 1 {
			t.Errorf("--count 1 shows %d:\n%s", n, lines())
		}
	})
}

// What waits for a name when the watching ends is asked for once more; what stays unsure is
// said to be lost.
func TestWatchEndsWithWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, docker, lines := watched(t, watchCommand{Container: "web"})
		ctx, cancel := context.WithCancelCause(t.Context())
		for _, endpoint := range []string{"beef5678", "beef5678", "feed0000"} {
			if err := v.show(ctx, cancel, spec.Event{Type: spec.EventEndpoint, Endpoint: endpoint, What: "created"}); err != nil {
				t.Error(err)
			}
		}
		docker.Store(&names.Directory{Containers: map[string]names.Container{"beef5678": {ID: "cafe9012", Name: "web"}}})
		cancel(nil) // ^C
		if err := v.forget(ctx); err != nil {
			t.Error(err)
		}
		if n := strings.Count(lines(), "created"); n != 2 || v.summary() != "2 events, and 1 other lost" {
			t.Errorf("%d are shown, and said is %q:\n%s", n, v.summary(), lines())
		}
	})
}

// Docker says what a container is called some time after its first events: those wait,
// are shown in order, and end the command if they are enough.
func TestWatchWaitsForNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, docker, lines := watched(t, watchCommand{Container: "web", Count: 3})
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		show := func(endpoint, what string) {
			t.Helper()
			if err := v.show(ctx, cancel, spec.Event{Type: spec.EventEndpoint, Endpoint: endpoint, What: what}); err != nil {
				t.Error(err)
			}
		}
		show("eeee1", "created")
		show("eeee2", "created")
		show("", "of nobody")
		time.Sleep(1500 * time.Millisecond)
		show("eeee1", "joined")
		if got := lines(); got != "" {
			t.Errorf("without names it shows %q", got)
		}
		docker.Store(&names.Directory{Containers: map[string]names.Container{"eeee1": {ID: "c1", Name: "web"}, "eeee2": {ID: "c2", Name: "db"}}})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got := lines()
		if created, joined := strings.Index(got, "created"), strings.Index(got, "joined"); created < 0 || joined < created || strings.Count(got, "\n") != 2 || strings.Contains(got, "db") {
			t.Errorf("with names it shows\n%s", got)
		}
		if err := v.show(ctx, cancel, spec.Event{Type: spec.EventLost, Lost: 7}); err != nil {
			t.Errorf("what is lost counts as shown: %v", err)
		}
		// One that stays without a name is lost; the next one is the third.
		show("eeee3", "created")
		time.Sleep(heldTime + 2*time.Second)
		synctest.Wait()
		if len(v.held) != 0 || v.timer != nil || ctx.Err() != nil {
			t.Errorf("%d events are held for ever", len(v.held))
		}
		show("eeee4", "created")
		docker.Store(&names.Directory{Containers: map[string]names.Container{"eeee4": {ID: "c1", Name: "web"}}})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), errEnough) {
			t.Errorf("after the third one: %v", context.Cause(ctx))
		}
		if got := v.summary(); got != "3 events, and 8 others lost" {
			t.Errorf("there were %s", got)
		}
	})
}

// A name that is ambiguous, or the beginning of more than one's ID, is refused; one that
// nobody has yet is waited for.
func TestWatchLooksWhoIsMeant(t *testing.T) {
	for _, tc := range []struct {
		command watchCommand
		status  int
	}{
		{watchCommand{Container: "eeee"}, exitUsage},
		{watchCommand{Container: "cafe"}, 0},
		{watchCommand{Container: "web"}, 0}, // on two networks
		{watchCommand{Container: "later"}, 0},
		{watchCommand{Network: "dddd"}, exitUsage},
		{watchCommand{Network: "front"}, 0},
	} {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := json.NewEncoder(w).Encode(captured()); err != nil {
				t.Error(err)
			}
		})}}
		server.Start()
		v, _, _ := watched(t, tc.command)
		if err := v.choose(t.Context(), control.NewClient(l.Addr().String())); (err != nil) != (tc.status != 0) || err != nil && exitStatus(err) != tc.status {
			t.Errorf("%+v: %v, want status %d", tc.command, err, tc.status)
		}
		server.Close()
	}
}

func TestWatchRefuses(t *testing.T) {
	for want, c := range map[string]watchCommand{
		"--type: event type":             {Type: []string{"noise"}},
		`--source: "web" is not allowed`: {Source: "web"},
		"--count=-1":                     {Count: -1},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	c := watchCommand{Type: []string{"ndp", "ra"}, Source: "2001:db8::7/64"}
	if f, err := c.filter(); err != nil || f.Source != netip.MustParsePrefix("2001:db8::/64") || len(f.Types) != 2 {
		t.Errorf("filter %+v, %v", f, err)
	}
}

// The help names every type.
func TestWatchHelpIsCurrent(t *testing.T) {
	field, _ := reflect.TypeFor[watchCommand]().FieldByName("Type")
	var all []string
	for _, known := range spec.EventTypes {
		all = append(all, string(known))
	}
	if help := field.Tag.Get("help"); !strings.HasSuffix(help, ": "+strings.Join(all, ", ")+".") {
		t.Errorf("help %q, types %v", help, all)
	}
}
