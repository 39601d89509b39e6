//go:build netns

package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/testnet"
)

// runDoctor is `v6net doctor` with these arguments on this host.
func runDoctor(t *testing.T, args ...string) (output string, status int) {
	t.Helper()
	cmd := testnet.Self(t).Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), argsEnv+"=doctor "+strings.Join(args, " "))
	out, err := cmd.Output()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// doctorReport is what it says with --json.
func doctorReport(t *testing.T, args ...string) (r report, status int) {
	t.Helper()
	out, status := runDoctor(t, append([]string{"--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if len(r.Unknown) > 0 {
		t.Errorf("it could not find out %+v", r.Unknown)
	}
	r.Findings = slices.DeleteFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == "clock" }) // the machine's own
	return r, status
}

func checksOf(r report) string {
	var names []string
	for _, f := range r.Findings {
		names = append(names, f.Check)
	}
	return strings.Join(names, " ")
}

// A daemon with a network whose container is reached has nothing wrong; when
// somebody turns forwarding off, doctor says so, mends it, and it is reached again.
func TestDoctorMendsADaemonsHost(t *testing.T) {
	s := newSite(t)
	self := testnet.Self(t)
	self.AddAddress(t, "2001:db8:ffff::2/128", "eth0")
	s.up.Run(t, "ip", "route", "add", "2001:db8:ffff::2/128", "via", self.LinkLocal(t, "eth0"), "dev", "lan0")
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	_, addr := s.run(t, 1)
	s.answers(t, addr.String())
	if r, status := doctorReport(t, "--socket", s.socket, "--strict"); status != 0 || len(r.Findings) != 0 {
		t.Fatalf("of a sound host it says %+v, and ends with status %d", r.Findings, status)
	}

	self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
	if s.connects(t, addr.String()) {
		t.Fatal("the host forwards all the same: the test would prove nothing")
	}
	if r, status := doctorReport(t, "--socket", s.socket); status != 1 || checksOf(r) != "forwarding" {
		t.Errorf("without forwarding it says %+v, and ends with status %d", r.Findings, status)
	}
	r, status := doctorReport(t, "--socket", s.socket, "--fix")
	if status != 0 || len(r.Findings) != 0 || !slices.ContainsFunc(r.Set, func(c change) bool {
		return c.Key == "net/ipv6/conf/all/forwarding" && c.Value == "1" && c.Before == "0" && c.Error == ""
	}) {
		t.Errorf("--fix left %+v, set %+v, and ended with status %d", r.Findings, r.Set, status)
	}
	s.answers(t, addr.String())
	if r, _ := doctorReport(t, "--socket", s.socket, "--fix"); len(r.Set) != 0 {
		t.Errorf("with nothing wrong --fix set %+v", r.Set)
	}
}

// The most frequent fault of all, on a host without a daemon: what is said for
// people, what is set, and how it is undone.
func TestDoctorWithoutADaemon(t *testing.T) {
	self, up := testnet.Self(t), testnet.New(t, "up")
	testnet.Connect(t, self, "eth0", up, "lan0")
	self.AddAddress(t, "2001:db8::2/64", "eth0")
	self.Run(t, "ip", "-6", "route", "add", "default", "via", up.LinkLocal(t, "lan0"), "dev", "eth0", "proto", "ra")
	if r, status := doctorReport(t); status != 0 || checksOf(r) != "daemon" || r.Findings[0].Level != doctor.Warning {
		t.Errorf("it says %+v, and ends with status %d", r.Findings, status)
	}
	if _, status := doctorReport(t, "--strict"); status != 1 {
		t.Errorf("with --strict it ends with status %d for a warning", status)
	}

	// As Docker does it: the advertised route goes at once.
	self.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	t.Cleanup(func() { self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0") })
	out, status := runDoctor(t)
	for _, want := range []string{"PROBLEM  accept_ra: eth0\n", "  found     accept_ra=1 while the host forwards\n", "  expected  accept_ra=2\n", "  fix       sysctl -w net/ipv6/conf/eth0/accept_ra=2\n", "--fix mends 1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if status != 1 || strings.Contains(out, "\x1b") {
		t.Errorf("status %d, of a pipe:\n%q", status, out)
	}
	out, _ = runDoctor(t, "--fix")
	undo := "sysctl -w net/ipv6/conf/eth0/accept_ra=1"
	if !strings.Contains(out, "SET  net/ipv6/conf/eth0/accept_ra=2, was 1 (undo: "+undo+")\n") || strings.Contains(out, "PROBLEM  accept_ra") {
		t.Errorf("--fix said\n%s", out)
	}
	if got := self.Run(t, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"); got != "2" {
		t.Errorf("accept_ra=%s", got)
	}
	self.Run(t, strings.Fields(undo)...)
	if r, _ := doctorReport(t); !strings.Contains(checksOf(r), "accept_ra") {
		t.Errorf("after the undo it says %+v", r.Findings)
	}
}

// Scripts tell a wrong command line from a sick host.
func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{{"--nonsense"}, {"--registry", "registry.example"}} {
		if _, status := runDoctor(t, args...); status != exitUsage {
			t.Errorf("%q ends with status %d, want %d", args, status, exitUsage)
		}
	}
}
