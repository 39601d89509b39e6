//go:build netns

package nft

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/testnet"
)

const acceptRule = "-m mark --mark 0x10000000/0x10000000 -m comment --comment v6net -j ACCEPT"

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

// wantAccept checks that our rule is the first of a chain and nowhere else.
func wantAccept(t testing.TB, host *testnet.Host, chain string) {
	t.Helper()
	for _, iptables := range bothIPTables {
		if err := acceptMisplaced(t, host, iptables, chain); err != "" {
			t.Error(err)
		}
	}
}

func acceptMisplaced(t testing.TB, host *testnet.Host, iptables, chain string) string {
	t.Helper()
	all := host.Run(t, iptables, "-S")
	if n := strings.Count(all, "v6net"); n != 1 {
		return iptables + " -S: want exactly one rule of ours:\n" + all
	}
	rules := strings.Split(host.Run(t, iptables, "-S", chain), "\n")
	rules = slices.DeleteFunc(rules, func(s string) bool { return !strings.HasPrefix(s, "-A") })
	if len(rules) == 0 || rules[0] != "-A "+chain+" "+acceptRule {
		return iptables + " -S " + chain + ": our rule is not the first:\n" + all
	}
	return ""
}

func TestAcceptIsPlaced(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(testing.TB, *testnet.Host)
		chain   string
	}{
		{"forward chain alone", policyDrop, "FORWARD"},
		{"docker's chain", func(t testing.TB, h *testnet.Host) { policyDrop(t, h); dockerUser(t, h) }, "DOCKER-USER"},
		{"docker's chain, not reached", func(t testing.TB, h *testnet.Host) {
			dockerUser(t, h)
			for _, iptables := range bothIPTables {
				h.Run(t, iptables, "-F", "FORWARD")
			}
		}, "FORWARD"},
		{"other rules before", func(t testing.TB, h *testnet.Host) {
			policyDrop(t, h)
			for _, iptables := range bothIPTables {
				h.Run(t, iptables, "-A", "FORWARD", "-p", "tcp", "--dport", "25", "-m", "comment", "--comment", "no mail", "-j", "REJECT")
			}
		}, "FORWARD"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := testnet.New(t, "host")
			tc.prepare(t, host)
			before := host.Run(t, "nft", "-a", "list", "ruleset")
			f := open(t, host)
			for range 3 {
				apply(t, f, everything())
				wantAccept(t, host, tc.chain)
			}
			apply(t, open(t, host), everything()) // the daemon starts anew
			wantAccept(t, host, tc.chain)
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
	if out := host.Run(t, "nft", "list", "tables"); out != "table inet v6net" {
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
	wantAccept(t, host, "FORWARD")
	dockerUser(t, host)
	apply(t, f, everything())
	wantAccept(t, host, "DOCKER-USER")
}

// iptables can save and restore the chain; the rule is still known as ours.
func TestAcceptSurvivesSaveAndRestore(t *testing.T) {
	host := testnet.New(t, "host")
	policyDrop(t, host)
	dockerUser(t, host)
	rules := func() string { return host.Run(t, "iptables", "-S") + host.Run(t, "ip6tables", "-S") }
	before := rules()
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
	wantAccept(t, host, "DOCKER-USER")
	apply(t, f, everything())
	wantAccept(t, host, "DOCKER-USER")
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, rules()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// The same rule without our comment is the administrator's: it will do, and it stays.
func TestAcceptOfOthersIsRespected(t *testing.T) {
	host := testnet.New(t, "host")
	policyDrop(t, host)
	for _, iptables := range bothIPTables {
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x10000000/0x10000000", "-j", "ACCEPT")
		// Others that look alike will not do.
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x10000000/0x30000000", "-j", "ACCEPT")
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x10000000/0x10000000", "-j", "DROP")
		host.Run(t, iptables, "-I", "FORWARD", "-m", "mark", "--mark", "0x10000000/0x10000000", "-p", "tcp", "-j", "ACCEPT")
	}
	before := listing(t, host)
	f := open(t, host)
	apply(t, f, everything())
	for _, iptables := range bothIPTables {
		if out := host.Run(t, iptables, "-S"); strings.Contains(out, "v6net") {
			t.Errorf("a second rule was added:\n%s", out)
		}
		host.Run(t, iptables, "-D", "FORWARD", "-m", "mark", "--mark", "0x10000000/0x10000000", "-j", "ACCEPT")
	}
	apply(t, f, everything())
	wantAccept(t, host, "FORWARD")
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, iptables := range bothIPTables {
		host.Run(t, iptables, "-A", "FORWARD", "-m", "mark", "--mark", "0x10000000/0x10000000", "-j", "ACCEPT")
	}
	if diff := cmp.Diff(before, listing(t, host)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}
