//go:build engine

package engine_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// traceless runs a sub-test and checks that the host and v6net's own journal
// are afterwards as they were before.
func (l *lab) traceless(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	state := func(t *testing.T) []string {
		t.Helper()
		return append(hostState(t, l.host), journalState(l.status(t))...)
	}
	var before []string
	t.Run(name, func(t *testing.T) {
		before = state(t)
		test(t)
	})
	if before != nil { // not if -run has left it out
		mustEqual(t, name, before, state(t))
	}
}

// mustEqual compares two states.
func mustEqual(t *testing.T, name string, before, after []string) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s: the host is not as it was (-before +after):\n%s", name, diff)
	}
}

// hostState is all of a host that v6net might change, a line for each thing, in
// no order of theirs: an engine that is restarted orders its own rules anew.
func hostState(t *testing.T, h *testnet.Host) []string {
	t.Helper()
	out := h.Run(t, "sh", "-c", `
		ip -brief link | awk '{print $1, $2}'
		ip -brief address
		ip route show table all; ip -6 route show table all
		ip rule; ip -6 rule
		ip neigh show proxy; ip -6 neigh show proxy
		grep -rs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf
		nft --stateless list ruleset
		# The same rules in another tongue: a rule may look right in one only.
		iptables-save; ip6tables-save`)
	var lines []string
	for line := range strings.Lines(out) {
		if line = stable(line); line != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// counters are what iptables-save shows of a chain's packets.
var counters = regexp.MustCompile(` ?\[\d+:\d+\]`)

// stable takes out of a line what changes by itself.
func stable(line string) string {
	if strings.HasPrefix(line, "#") {
		return ""
	}
	return counters.ReplaceAllString(strings.TrimSpace(line), "")
}

// journalState is what v6net remembers, a line for each thing.
func journalState(status spec.Status) []string {
	var lines []string
	for _, n := range status.Networks {
		lines = append(lines, fmt.Sprintf("network %s, %d endpoints, error %q", n.ID, len(n.Endpoints), n.Error))
	}
	for _, p := range status.Pools {
		lines = append(lines, fmt.Sprintf("pool %s, %d leases", p.ID, p.Leases))
	}
	for _, p := range status.Proxies {
		lines = append(lines, fmt.Sprintf("proxy on %s for %v", p.Parent, p.Addresses))
	}
	for _, s := range status.Sysctls {
		lines = append(lines, "sysctl "+s.Key)
	}
	return lines
}
