package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// renumbered is a network that uses b000 now, and has been on a000.
func renumbered(until time.Time) spec.NetworkStatus {
	prefix := netip.MustParsePrefix
	return spec.NetworkStatus{
		Network: spec.Network{ID: strings.Repeat("a", 64), Options: spec.DefaultOptions(),
			IPv6: []spec.Subnet{{Prefix: prefix("2001:db8:a000::/64"), Source: spec.SourcePD, Reason: "part of 2001:db8:a000::/56", Lent: &spec.Lent{
				SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"},
				Prefixes: []spec.LentPrefix{
					{Prefix: prefix("2001:db8:b000::/64"), Of: prefix("2001:db8:b000::/56"), Origin: "server 00:03", Preferred: until.Add(time.Hour), Valid: until.Add(2 * time.Hour)},
					{Prefix: prefix("2001:db8:a000::/64"), Of: prefix("2001:db8:a000::/56"), Former: true, Valid: until},
				}}}}},
		Bridge: "v6naaaaaaaaaaaa",
		Endpoints: []spec.Endpoint{
			{ID: strings.Repeat("e", 64), IPv6: prefix("2001:db8:a000::2/64"), IPv4: prefix("172.16.0.2/24"), Held: []spec.SandboxAddress{
				{Prefix: prefix("2001:db8:b000::2/64")}, {Prefix: prefix("2001:db8:a000::2/64"), Former: true, Valid: until}}},
			{ID: strings.Repeat("f", 64), IPv6: prefix("2001:db8:b000::3/64"), Home: netip.MustParseAddr("2001:db8:a000::3"), Name: "web", Container: "c"},
		},
		Notes: []string{"endpoint eeeeeeeeeeee keeps the addresses that it had"},
	}
}

func TestHosts(t *testing.T) {
	until := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	entries := hostEntries(spec.Status{Networks: []spec.NetworkStatus{renumbered(until)}})
	var out strings.Builder
	if err := printHosts(&out, entries); err != nil {
		t.Fatal(err)
	}
	want := `2001:db8:b000::2  eeeeeeeeeeee
172.16.0.2        eeeeeeeeeeee
2001:db8:b000::3  web
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(entries[0])
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `{"endpoint":"` + strings.Repeat("e", 64) + `","network":"` + strings.Repeat("a", 64) + `","addresses":["2001:db8:b000::2","172.16.0.2"],` +
		`"former":[{"address":"2001:db8:a000::2","valid":"2026-11-27T12:00:00Z"}]}`
	if string(text) != wantJSON {
		t.Errorf("JSON %s, want %s", text, wantJSON)
	}
	// One that cannot be entered has what it had.
	stuck := renumbered(until)
	stuck.Endpoints = stuck.Endpoints[:1]
	stuck.Endpoints[0].Held = []spec.SandboxAddress{{Prefix: netip.MustParsePrefix("2001:db8:a000::2/64")}, {Prefix: netip.MustParsePrefix("2001:db8:b000::2/64"), Pending: true}}
	for _, e := range hostEntries(spec.Status{Networks: []spec.NetworkStatus{stuck}}) {
		if got := fmt.Sprint(e.Addresses, len(e.Former)); got != "[172.16.0.2] 1" {
			t.Errorf("a container that could not be entered: %s", got)
		}
	}
	if got := hostEntries(spec.Status{}); got == nil {
		t.Error("no containers are null in JSON")
	}
}

// What others know a translated container by is what its user has to put in the DNS.
func TestTranslatedAreShown(t *testing.T) {
	prefix := netip.MustParsePrefix
	n := spec.NetworkStatus{Network: spec.Network{ID: strings.Repeat("a", 64), Options: spec.DefaultOptions(),
		IPv6: []spec.Subnet{{Prefix: prefix("fd00:10::/64"), Outside: prefix("2001:db8:2::/64")}}}}
	n.Endpoints = []spec.Endpoint{{ID: strings.Repeat("e", 64), Name: "web", IPv6: prefix("fd00:10::2/64"), IPv4: prefix("172.16.0.2/24")}}
	outside, _ := n.Translation().Out(netip.MustParseAddr("fd00:10::2"))
	status := spec.Status{Networks: []spec.NetworkStatus{n}}
	if got := hostEntries(status)[0].Outside; len(got) != 1 || got[0] != outside {
		t.Errorf("hosts: outside %v, want %s", got, outside)
	}
	var out strings.Builder
	if err := printStatus(&out, status, screen{}); err != nil {
		t.Fatal(err)
	}
	if want := "fd00:10::2 (" + outside.String() + " outside), 172.16.0.2"; !strings.Contains(out.String(), want) {
		t.Errorf("status does not say %q:\n%s", want, out.String())
	}
}
