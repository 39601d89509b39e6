//go:build netns

package nft

import (
	"fmt"
	"slices"
	"strings"
	"testing"

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

// Where nobody drops forwarded packets, no table is made.
func TestNoForeignTable(t *testing.T) {
	host := testnet.New(t, "host")
	f := open(t, host)
	apply(t, f, everything())
	if out := host.Run(t, "nft", "list", "tables"); out != "table inet v6net\ntable ip v6net\ntable bridge v6net" {
		t.Errorf("tables: %s", out)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := host.Run(t, "nft", "list", "ruleset"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}
