package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/doctor"
)

func TestPrintReport(t *testing.T) {
	r := report{
		Worst: doctor.Problem,
		Set: []change{
			{Setting: doctor.Setting{Key: "net/ipv4/ip_forward", Value: "1"}, Before: "0"},
			{Setting: doctor.Setting{Key: "net/ipv6/conf/eth0/accept_ra", Value: "2"}, Error: "read-only file system"},
		},
		Findings: []doctor.Finding{
			{Check: "upstream", Level: doctor.Problem, On: "eth\x1b[2J0", Found: "it does not answer", Expected: "an answer", Why: strings.Repeat("because `it` is so ", 8), Fix: "ask"},
			{Check: "clock", Level: doctor.Note, Found: "f", Expected: "e", Why: "w", Fix: "x", Settings: []doctor.Setting{{}}},
		},
		Unknown:  []doctor.Unknown{{What: "firewall", Why: "operation not permitted"}},
		NotAsked: []string{"dns", "registry"},
	}
	want := `SET  net/ipv4/ip_forward=1, was 0 (undo: sysctl -w net/ipv4/ip_forward=0)
NOT SET  net/ipv6/conf/eth0/accept_ra=2: read-only file system
These last until the machine starts again; to keep them write them into /etc/sysctl.d.

PROBLEM  upstream: eth [2J0
  found     it does not answer
  expected  an answer
  why       because it is so because it is so because it is so because it is so because it is so
            because it is so because it is so because it is so
  fix       ask

NOTE  clock
  found     f
  expected  e
  why       w
  fix       x

UNKNOWN  firewall: operation not permitted
not asked: dns, registry (--online does)
1 problem, 0 warnings, 1 note; --fix mends 1
`
	var out strings.Builder
	if err := printReport(&out, r, screen{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	out.Reset()
	if err := printReport(&out, r, screen{colour: true}); err != nil || !strings.Contains(out.String(), "\x1b[31mPROBLEM\x1b[0m  upstream: eth [2J0\n") {
		t.Errorf("in colour (%v):\n%q", err, out.String())
	}
	if err := printReport(full{}, r, screen{}); !errors.Is(err, errFull) {
		t.Errorf("printReport = %v, want the writer's error", err)
	}
}

// sysctls are a host's that fails to set one key.
type sysctls struct {
	values map[string]string
	fails  string
	set    []string
}

func (s *sysctls) Get(_ context.Context, key string) (string, error) { return s.values[key], nil }

func (s *sysctls) Set(_ context.Context, key, value string) error {
	if key == s.fails {
		return errFull
	}
	s.set = append(s.set, key+"="+value)
	return nil
}

// Each once, in order; and what comes after one that fails is left, since a host
// that forwards without accept_ra=2 loses its way out.
func TestApplySettings(t *testing.T) {
	ra, forward, four := doctor.Setting{Key: "ra", Value: "2"}, doctor.Setting{Key: "forward", Value: "1"}, doctor.Setting{Key: "four", Value: "1"}
	findings := []doctor.Finding{{Settings: []doctor.Setting{ra}}, {}, {Settings: []doctor.Setting{ra, forward}}, {Settings: []doctor.Setting{four}}}
	host := &sysctls{values: map[string]string{"ra": "1", "forward": "0"}}
	set := applySettings(t.Context(), host, findings)
	if want := []string{"ra=2", "forward=1", "four=1"}; !slices.Equal(host.set, want) || len(set) != 3 || set[0].Before != "1" {
		t.Errorf("set %q (%+v), want %q", host.set, set, want)
	}

	host = &sysctls{values: map[string]string{}, fails: "ra"}
	set = applySettings(t.Context(), host, []doctor.Finding{{Settings: []doctor.Setting{ra, forward}}, {Settings: []doctor.Setting{four}}})
	if want := []string{"four=1"}; !slices.Equal(host.set, want) || len(set) != 2 || set[0].Error == "" {
		t.Errorf("set %q (%+v), want %q", host.set, set, want)
	}
}

func TestExitStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{{exitCode(exitSick), 1}, {usageError{errFull}, 2}, {errFull, 1}} {
		if got := exitStatus(tc.err); got != tc.want {
			t.Errorf("exitStatus(%v) = %d, want %d", tc.err, got, tc.want)
		}
	}
}

// What could not be looked at is not said to be well, and what comes from elsewhere does
// not steer the terminal, by C1 controls or by marks of direction either.
func TestReportOfTheUnknown(t *testing.T) {
	var b strings.Builder
	if err := printReport(&b, report{Unknown: []doctor.Unknown{{What: "links", Why: "x"}, {What: "firewall", Why: "a\u009b31mb\u202ec"}}}, screen{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a 31mb c", "nothing was found, but 2 things could not be looked at\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not said:\n%s", want, b.String())
		}
	}
}
