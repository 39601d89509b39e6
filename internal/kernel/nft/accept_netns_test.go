//go:build netns

package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/testnet"
)

const acceptRule = "-m mark --mark 0x1000/0x1000 -m comment --comment v6net -j ACCEPT"

// bothIPTables are the programs that manage the foreign chains.
var bothIPTables = []string{"iptables", "ip6tables"}

// policyDrop makes the host refuse to forward, as Docker does on its start.
func policyDrop(t testing.TB, host *testnet.Host) {
	t.Helper()
	for _, iptables := range bothIPTables {
		host.Run(t, iptables, "-P", "FORWARD", "DROP")
	}
}

// dockerUser adds Docker's chain for the rules of others.
func dockerUser(t testing.TB, host *testnet.Host) {
	t.Helper()
	for _, iptables := range bothIPTables {
		host.Run(t, iptables, "-N", "DOCKER-USER")
		host.Run(t, iptables, "-A", "DOCKER-USER", "-j", "RETURN")
		host.Run(t, iptables, "-I", "FORWARD", "-j", "DOCKER-USER")
	}
}

// wantAccept checks that our rule is in the forward chain after so many others, and nowhere else.
func wantAccept(t testing.TB, host *testnet.Host, after int) {
	t.Helper()
	for _, iptables := range bothIPTables {
		if err := acceptMisplaced(t, host, iptables, after); err != "" {
			t.Error(err)
		}
	}
}

// acceptMisplaced says so; of a rule in the input chain, where names are asked for, nothing.
func acceptMisplaced(t testing.TB, host *testnet.Host, iptables string, after int) string {
	t.Helper()
	all := host.Run(t, iptables, "-S")
	if n := strings.Count(all, "v6net") - strings.Count(all, "-A INPUT "+acceptRule); n != 1 {
		return iptables + " -S: want exactly one rule of ours:\n" + all
	}
	rules := strings.Split(host.Run(t, iptables, "-S", "FORWARD"), "\n")
	rules = slices.DeleteFunc(rules, func(s string) bool { return !strings.HasPrefix(s, "-A") })
	if i := slices.Index(rules, "-A FORWARD "+acceptRule); i != after {
		return fmt.Sprintf("%s -S FORWARD: our rule is after %d others, want %d:\n%s", iptables, i, after, all)
	}
	return ""
}

// rules runs iptables and ip6tables once for each line of arguments.
func rules(lines ...string) func(testing.TB, *testnet.Host) {
	return func(t testing.TB, host *testnet.Host) {
		t.Helper()
		policyDrop(t, host)
		for _, line := range lines {
			for _, iptables := range bothIPTables {
				host.Run(t, append([]string{iptables}, strings.Fields(line)...)...)
			}
		}
	}
}

// docker are the chains as Docker has them.
var docker = []string{
	"-N DOCKER-FORWARD", "-N DOCKER-USER",
	"-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-FORWARD",
	"-A DOCKER-USER -j RETURN",
}

func TestAcceptIsPlaced(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(testing.TB, *testnet.Host)
		after   int
	}{
		{"forward chain alone", rules(), 0},
		{"an administrator's rules", rules("-A FORWARD -p udp --dport 25 -j DROP", "-A FORWARD -p tcp --dport 25 -m comment --comment mail -j REJECT"), 2},
		{"a drop of everything", rules("-A FORWARD -p tcp --dport 25 -j DROP", "-A FORWARD -j DROP"), 1},
		{"a rejection of everything", rules("-A FORWARD -p tcp --dport 25 -j DROP", "-A FORWARD -m comment --comment last -j REJECT", "-A FORWARD -j DROP"), 1},
		{"docker", rules(docker...), 1},
		{"docker, and rules of an administrator", rules(slices.Concat(docker, []string{
			"-I DOCKER-USER -p tcp --dport 25 -j DROP", "-I FORWARD -p tcp --dport 26 -j DROP", "-A FORWARD -p tcp --dport 27 -j DROP"})...), 2},
		{"ufw, and a route that it denies", rules(
			"-N ufw-before-forward", "-N ufw-user-forward", "-N ufw-after-forward", "-N ufw-after-logging-forward", "-N ufw-reject-forward", "-N ufw-track-forward",
			"-A FORWARD -j ufw-before-forward", "-A FORWARD -j ufw-after-forward", "-A FORWARD -j ufw-after-logging-forward", "-A FORWARD -j ufw-reject-forward", "-A FORWARD -j ufw-track-forward",
			"-A ufw-before-forward -j ufw-user-forward", "-A ufw-user-forward -p tcp --dport 25 -j DROP",
			"-A ufw-after-logging-forward -m limit --limit 3/min --limit-burst 10 -j LOG", "-A ufw-reject-forward -j REJECT"), 1},
		{"docker's chain, not reached", rules(slices.Concat(docker, []string{"-F FORWARD"})...), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := testnet.New(t, "host")
			tc.prepare(t, host)
			before := host.Run(t, "nft", "-a", "list", "ruleset")
			f := open(t, host)
			for range 3 {
				apply(t, f, everything())
				wantAccept(t, host, tc.after)
			}
			apply(t, open(t, host), everything()) // the daemon starts anew
			wantAccept(t, host, tc.after)
			for range 2 {
				if err := f.Remove(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, host.Run(t, "nft", "-a", "list", "ruleset")); diff != "" {
					t.Errorf("Remove leaves the ruleset different (-before +after):\n%s", diff)
				}
			}
		})
	}
}

// Where nobody drops forwarded packets, no table is made.
func TestNoForeignTable(t *testing.T) {
	host := testnet.New(t, "host")
	f := open(t, host)
	apply(t, f, everything())
	if out := host.Run(t, "nft", "list", "tables"); out != "table inet v6net\ntable bridge v6net" {
		t.Errorf("tables: %s", out)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := host.Run(t, "nft", "list", "ruleset"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}

// Docker's chain appears after ours was put into the forward chain: one rule, there.
func TestAcceptFollowsDocker(t *testing.T) {
	host := testnet.New(t, "host")
	policyDrop(t, host)
	f := open(t, host)
	apply(t, f, everything())
	wantAccept(t, host, 0)
	dockerUser(t, host)
	apply(t, f, everything())
	wantAccept(t, host, 1)
	rules("-N DOCKER-FORWARD", "-I FORWARD -j DOCKER-FORWARD", "-D FORWARD -j DOCKER-USER", "-I FORWARD -j DOCKER-USER")(t, host)
	apply(t, f, everything())
	wantAccept(t, host, 1)
}

// Earlier versions had another bit, and their rule at the top of Docker's chain.
func TestAcceptOfEarlierVersionsGoes(t *testing.T) {
	host := testnet.New(t, "host")
	rules(slices.Concat(docker, []string{
		"-I DOCKER-USER -m mark --mark 0x10000000/0x10000000 -m comment --comment v6net -j ACCEPT",
		"-I FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment v6net -j ACCEPT"})...)(t, host)
	apply(t, open(t, host), everything())
	wantAccept(t, host, 1)
}

// What an administrator, fail2ban or CrowdSec drops stays dropped, whatever is
// published; and who returns from DOCKER-USER early is not cut off.
func TestAcceptComesAfterTheAdministrators(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(testing.TB, *testnet.Host)
	}{
		{"in DOCKER-USER", rules(slices.Concat(docker, []string{
			"-I DOCKER-USER -p tcp --dport 80 -i eth0 -j DROP",
			"-I DOCKER-USER -p udp -j RETURN"})...)},
		{"in FORWARD", rules("-A FORWARD -p tcp --dport 80 -i eth0 -j DROP", "-A FORWARD -j REJECT")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			tc.prepare(t, s.host)
			apply(t, open(t, s.host), s.config)
			for _, call := range []struct {
				from    *testnet.Host
				network string
				to      string
				reached bool
			}{
				{s.outside, "tcp", "[2001:db8:1::2]:80", false},
				{s.outside, "tcp", host4 + ":8080", false},
				{s.outside, "udp", "[2001:db8:1::2]:53", true},
				{s.outside, "udp", host4 + ":5353", true},
				{s.c["web2"], "tcp", outside4 + ":80", true},
			} {
				s.wantReached(t, call.from, call.network, call.to, call.reached)
			}
		})
	}
}

// Docker keeps its rules in iptables-legacy, where ours cannot be: said once.
func TestLegacyIsWarnedOf(t *testing.T) {
	testnet.Self(t).Run(t, "iptables-legacy", "-t", "filter", "-S") // makes the table
	var log bytes.Buffer
	f, err := New(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.Remove(context.Background()), f.Close()); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		apply(t, f, everything())
	}
	if n := strings.Count(log.String(), "iptables-legacy"); n == 0 || n != strings.Count(log.String(), "level=WARN") {
		t.Errorf("log: %s", &log)
	}
}

// iptables can save and restore the chain; the rule is still known as ours.
func TestAcceptSurvivesSaveAndRestore(t *testing.T) {
	host := testnet.New(t, "host")
	policyDrop(t, host)
	dockerUser(t, host)
	listed := func() string { return host.Run(t, "iptables", "-S") + host.Run(t, "ip6tables", "-S") }
	before := listed()
	f := open(t, host)
	apply(t, f, everything())
	for _, iptables := range bothIPTables {
		saved := host.Run(t, iptables+"-save")
		if strings.Contains(saved, "incompatible") {
			t.Errorf("%s-save: %s", iptables, saved)
		}
		file := t.TempDir() + "/saved"
		if err := os.WriteFile(file, []byte(saved+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		host.Run(t, iptables+"-restore", file)
	}
	wantAccept(t, host, 1)
	apply(t, f, everything())
	wantAccept(t, host, 1)
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, listed()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// The same rule without our comment is the administrator's: it will do, and it stays.
func TestAcceptOfOthersIsRespected(t *testing.T) {
	host := testnet.New(t, "host")
	policyDrop(t, host)
	for _, iptables := range bothIPTables {
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x1000/0x1000", "-j", "ACCEPT")
		// Others that look alike will not do.
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x1000/0x3000", "-j", "ACCEPT")
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x1000/0x1000", "-j", "DROP")
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x1000/0x1000", "-p", "tcp", "-j", "ACCEPT")
	}
	before := listing(t, host)
	f := open(t, host)
	apply(t, f, everything())
	for _, iptables := range bothIPTables {
		if out := host.Run(t, iptables, "-S"); strings.Contains(out, "v6net") {
			t.Errorf("a second rule was added:\n%s", out)
		}
		host.Run(t, iptables, "-D", "FORWARD", "-m", "mark", "--mark", "0x1000/0x1000", "-j", "ACCEPT")
	}
	apply(t, f, everything())
	wantAccept(t, host, 3)
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, iptables := range bothIPTables {
		host.Run(t, iptables, "-A", "FORWARD", "-m", "mark", "--mark", "0x1000/0x1000", "-j", "ACCEPT")
	}
	if diff := cmp.Diff(before, listing(t, host)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}
