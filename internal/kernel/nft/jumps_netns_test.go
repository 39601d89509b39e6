//go:build netns

package nft

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// withLive is a network with a container more.
func withLive(n firewall.Network) firewall.Network {
	n.Live = append(n.Live, prefixes("2001:db8:1::5/128")[0].Addr())
	return n
}

// eachVariant runs a test with both variants of iptables.
func eachVariant(t *testing.T, test func(*testing.T, backend)) {
	for _, b := range backends[1:] {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// What another program does to our rules just before we change them does not become what
// they should be: containers would be open for good.
func TestChangesSeeHarm(t *testing.T) { eachVariant(t, testChangesSeeHarm) }

func testChangesSeeHarm(t *testing.T, b backend) {
	changes, err := withLive(smallNetwork()).Since(smallNetwork())
	if err != nil {
		t.Fatal(err)
	}
	back := firewall.Config{Networks: []firewall.Network{withLive(smallNetwork())}}
	host := b.host(t, "host")
	f := b.open(t, host)
	listed := func() (out string) {
		for _, program := range b.programs {
			for _, table := range []string{"mangle", "raw", "nat"} {
				out += host.Run(t, program, "-w", "-t", table, "-S") + "\n"
			}
		}
		return out
	}
	apply(t, f, small())
	if err := f.Update(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	want := listed()
	for _, harm := range []string{
		"-t mangle -F FORWARD",
		"-t mangle -R v6net-vouch 1 -j ACCEPT",
		"-t mangle -R v6net-forward 1 -j RETURN",
		"-t mangle -I FORWARD -m comment --comment v6net -j v6net-forward",
		"-t mangle -F v6net-forward",
		"-t mangle -N v6net-mine",
	} {
		apply(t, f, small())
		for _, program := range b.programs {
			host.Run(t, append([]string{program, "-w"}, strings.Fields(harm)...)...)
		}
		if err := f.Update(t.Context(), changes); err != nil {
			t.Errorf("%s: %v", harm, err)
		}
		apply(t, f, back) // what the change was not about is looked at here
		if diff := cmp.Diff(want, listed()); diff != "" {
			t.Errorf("%s, and then a container: (-want +got)\n%s", harm, diff)
		}
	}
}

// Nothing that another program accepts gets by our rules: they come first, and come first
// again.
func TestJumpsComeFirst(t *testing.T) { eachVariant(t, testJumpsComeFirst) }

func testJumpsComeFirst(t *testing.T, b backend) {
	host := b.host(t, "host")
	f := b.open(t, host)
	apply(t, f, small())
	watch(t, f)
	first := func(table, base string) func() bool {
		return func() bool {
			for _, program := range b.programs {
				_, rules, _ := strings.Cut(host.Run(t, program, "-w", "-t", table, "-S", base), "\n")
				if !strings.HasPrefix(rules, "-A "+base+" -m comment --comment v6net -j v6net-") {
					return false
				}
			}
			return true
		}
	}
	for _, base := range []string{"mangle FORWARD", "raw PREROUTING"} {
		table, base, _ := strings.Cut(base, " ")
		b.rules(t, host, "-w -t "+table+" -I "+base+" -p tcp -j ACCEPT")
		testnet.Eventually(t, longest, "our rule comes first in "+table+" "+base, first(table, base))
		if all := host.Run(t, b.programs[1], "-w", "-t", table, "-S", base); strings.Count(all, "-p tcp -j ACCEPT") != 1 || strings.Count(all, "-j v6net-") != 1 {
			t.Errorf("%s", all)
		}
	}
}
