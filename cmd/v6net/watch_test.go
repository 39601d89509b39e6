package main

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	} {
		v := viewer{command: &tc.command, names: known}
		if v.wanted(web) != tc.web || v.wanted(none) != tc.none || !v.wanted(lost) {
			t.Errorf("%+v: of web %v, of nobody %v, lost %v", tc.command, v.wanted(web), v.wanted(none), v.wanted(lost))
		}
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
