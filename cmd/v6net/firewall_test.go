package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

func TestPrintJudgement(t *testing.T) {
	var out strings.Builder
	if err := printJudgement(&out, spec.Judgement{
		Verdict: spec.Dropped, Why: "the port is not published", Steps: []string{"2001:db8::9 is outside", "2001:db8:1::5 is container web"},
		Table: "inet v6net", Chain: "inbound", Rule: "counter drop",
	}); err != nil {
		t.Fatal(err)
	}
	const want = "2001:db8::9 is outside\n2001:db8:1::5 is container web\ndropped: the port is not published\n  table inet v6net, chain inbound: counter drop\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

// A judgement has the names that Docker gives, as the status has them.
func TestNameJudged(t *testing.T) {
	const network, endpoint = "47e36a743b35aaaaaaaa", "dc254297c6a4bbbbbbbb"
	status := spec.Status{Networks: []spec.NetworkStatus{
		{Network: spec.Network{ID: network, Name: "pub"}, Endpoints: []spec.Endpoint{{ID: endpoint, Name: "web"}, {ID: "eeeeeeeeeeeeffff"}}},
		{Network: spec.Network{ID: "ffffffffffffeeee"}},
	}}
	j := spec.Judgement{
		Why:   "denied to network 47e36a743b35",
		Steps: []string{"2001:db8::2 is endpoint dc254297c6a4 on network 47e36a743b35 (v6n47e36a743b35)", "2001:db8:1::2 is endpoint eeeeeeeeeeee on network ffffffffffff (br0)"},
	}
	nameJudged(&j, status)
	want := spec.Judgement{
		Why:   "denied to network 47e36a743b35 pub",
		Steps: []string{"2001:db8::2 is container web on network 47e36a743b35 pub (v6n47e36a743b35)", "2001:db8:1::2 is endpoint eeeeeeeeeeee on network ffffffffffff (br0)"},
	}
	if diff := cmp.Diff(want, j); diff != "" {
		t.Errorf("named (-want +got):\n%s", diff)
	}
}

// That the rules are not there is said first.
func TestPrintJudgementWithoutRules(t *testing.T) {
	var out strings.Builder
	if err := printJudgement(&out, spec.Judgement{Warning: "the rules are not in place", Verdict: spec.Accepted, Why: "the port is published", Steps: []string{"a step"}}); err != nil {
		t.Fatal(err)
	}
	if want := "WARNING: the rules are not in place\na step\naccepted: the port is published\n"; out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

func TestFirewallWords(t *testing.T) {
	c := spec.FirewallCounters{LetIn: 1, LetOut: 2, DeniedIn: 3, DeniedOut: 4, Forged: map[string]uint64{"web": 5, "db": 6}}
	if got, want := firewallWords(c), "let in 1, out 2; denied in 3, out 4; forged by db 6; forged by web 5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
