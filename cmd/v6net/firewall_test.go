package main

import (
	"strings"
	"testing"

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
