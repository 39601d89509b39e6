//go:build netns

package nft

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/ip6tables"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// obstacles are those that a Firewall of any backend says.
func obstacles(t testing.TB, f kernel) []spec.Obstacle {
	t.Helper()
	found, err := f.(interface {
		Obstacles(context.Context) ([]spec.Obstacle, error)
	}).Obstacles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// otherVariant are the programs by which a backend's host is not managed.
func (b backend) otherVariant() backend {
	variant := "legacy"
	if b.name == "iptables-legacy" {
		variant = "nft"
	}
	return backend{name: "iptables-" + variant, programs: [2]string{"iptables-" + variant, "ip6tables-" + variant}, tables: []string{"filter"}}
}

// listed are the filter tables of a host.
func (b backend) listed(t testing.TB, host *testnet.Host) (out string) {
	t.Helper()
	for _, program := range b.programs {
		out += host.Run(t, program, "-w", "-S") + "\n"
	}
	return out
}

// acceptsAfterDocker reports whether our rule comes after those of Docker and its administrator.
func (b backend) acceptsAfterDocker(t testing.TB, host *testnet.Host) bool {
	t.Helper()
	return strings.Count(b.listed(t, host), "-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD\n-A FORWARD "+acceptRule+"\n") == 2
}

// Whatever keeps our rules, others' filter tables of both variants accept what we have
// vouched for, and they may come after us. Where there are none, none are made.
func TestAcceptInEveryVariant(t *testing.T) { eachBackend(t, testAcceptInEveryVariant) }

func testAcceptInEveryVariant(t *testing.T, b backend) {
	host, other := b.host(t, "host"), b.otherVariant()
	f := b.open(t, host)
	apply(t, f, small())
	if b.name == "iptables-legacy" {
		if made := host.Run(t, "nft", "list", "tables"); made != "" {
			t.Errorf("tables were made where nobody has any: %s", made)
		}
	} else if made := host.Run(t, "cat", "/proc/net/ip6_tables_names"); made != "" {
		t.Errorf("tables of iptables-legacy were made where nobody has any: %s", made)
	}
	watch(t, f)
	other.rules(t, host, docker...)
	placed := func() bool { return other.acceptsAfterDocker(t, host) }
	testnet.Eventually(t, longest, "the rule is in a table that came later", placed)
	other.rules(t, host, "-w -F FORWARD", "-w -A FORWARD -j DOCKER-USER", "-w -A FORWARD -j DOCKER-FORWARD")
	testnet.Eventually(t, longest, "the rule is back", placed)
	if found := obstacles(t, f); len(found) > 0 {
		t.Errorf("obstacles: %v", found)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := other.listed(t, host); strings.Contains(left, "v6net") {
		t.Errorf("left behind:\n%s", left)
	}
}

// Docker on iptables-legacy, with its policy of drop: our networks work, beside nftables,
// and where it starts after a v6net that has chosen iptables-nft.
func TestNetworksBesideDockerOnLegacy(t *testing.T) { eachKind(t, testNetworksBesideDockerOnLegacy) }

func testNetworksBesideDockerOnLegacy(t *testing.T, b backend) {
	b.new = func(log *slog.Logger) (kernel, error) {
		if b.frames {
			return New(log)
		}
		return ip6tables.New(context.Background(), log)
	}
	s := b.site(t)
	f := s.open(t)
	apply(t, f, s.config)
	watch(t, f)
	legacy := b.otherVariant()
	legacy.rules(t, s.host, docker...)
	testnet.Eventually(t, longest, "our rule is after Docker's", func() bool { return legacy.acceptsAfterDocker(t, s.host) })
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", true)
	s.wantReached(t, s.outside, "tcp", host4+":8080", true)
	s.wantReached(t, s.c["web2"], "tcp", outside4+":80", true)
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:81", false)
	legacy.rules(t, s.host, "-w -I DOCKER-USER -p tcp --dport 80 -j DROP")
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", false) // an administrator's rules come before ours
}

// A change of what keeps the rules: the sweep of what was before takes nothing from what
// is now, not for a moment.
func TestSweepKeepsTheAccept(t *testing.T) {
	for name, b := range map[string]backend{"from ip6tables": backends[0], "from nftables": backends[1]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := b.host(t, "host")
			b.policyDrop(t, host)
			old := backends[0]
			if b.frames {
				old = backends[1]
			}
			apply(t, old.open(t, host), small())
			f := b.open(t, host)
			apply(t, f, small())
			if found := obstacles(t, f); len(found) > 0 {
				t.Errorf("rules of ours that go at once are obstacles: %v", found)
			}
			chains := func() string {
				return host.Run(t, "nft", "-a", "list", "chain", "ip", "filter", "FORWARD") + host.Run(t, "nft", "-a", "list", "chain", "ip6", "filter", "FORWARD")
			}
			before := chains()
			if strings.Count(before, "counter packets 0 bytes 0 accept") != 2 {
				t.Fatalf("the rule is not there:\n%s", before)
			}
			host.Do(t, func() {
				sweep := func() error { return Sweep(t.Context(), slog.New(slog.DiscardHandler)) }
				if b.frames {
					sweep = func() error { return ip6tables.Sweep(t.Context(), nil) }
				}
				if err := sweep(); err != nil {
					t.Fatal(err)
				}
			})
			if after := chains(); after != before { // the handles, too
				t.Errorf("the chain was\n%s, and after the sweep is\n%s", before, after)
			}
			left := host.Run(t, "nft", "list", "ruleset")
			if b.frames && strings.Contains(left, "v6net-forward") || !b.frames && strings.Contains(left, "table inet v6net") {
				t.Errorf("not swept:\n%s", left)
			}
		})
	}
}

// A rule that iptables cannot read is no reason for anything of ours to fail: our rule in
// the same chain stays or is put at its end, which is said, and goes with the rest.
func TestRulesThatCannotBeRead(t *testing.T) {
	b := backends[1]
	unreadable := []string{"meta skuid 0 accept", `meta time "2026-01-01" drop`, "@nh,8,8 1 drop"}
	for _, tc := range []struct {
		chain string
		early bool // before v6net
		shown bool
		after string
	}{
		{"DOCKER-FORWARD", false, false, "DOCKER-FORWARD"},
		{"DOCKER-FORWARD", true, false, "DOCKER-FORWARD"},
		{"FORWARD", false, true, "DOCKER-FORWARD"},
		{"FORWARD", true, true, "@nh"},
	} {
		t.Run(tc.chain+map[bool]string{true: " early", false: " late"}[tc.early], func(t *testing.T) {
			t.Parallel()
			host := b.host(t, "host")
			b.rules(t, host, docker...)
			add := func() {
				for _, rule := range unreadable {
					if out, err := host.Command(t.Context(), "nft", "add rule ip6 filter "+tc.chain+" "+rule).CombinedOutput(); err != nil {
						t.Logf("this kernel has no %s: %s", rule, out)
					}
				}
			}
			if tc.early {
				add()
			}
			f := b.open(t, host)
			apply(t, f, small())
			watch(t, f)
			if !tc.early {
				add()
			}
			ours := func() int {
				return strings.Count(host.Run(t, "nft", "list", "chain", "ip6", "filter", "FORWARD"), " == 0x00001000 ")
			}
			if tc.shown {
				testnet.Eventually(t, longest, "shown as an obstacle", func() bool {
					return slices.ContainsFunc(obstacles(t, f), func(o spec.Obstacle) bool { return o.Chain == "FORWARD" && strings.HasPrefix(o.Table, "ip6 ") })
				})
			} else if found := obstacles(t, f); len(found) > 0 {
				t.Errorf("obstacles: %v", found)
			}
			changes, err := withLive(smallNetwork()).Since(smallNetwork())
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Update(t.Context(), changes); err != nil {
				t.Errorf("a container cannot start: %v", err)
			}
			apply(t, f, small())
			if n := ours(); n != 1 {
				t.Errorf("%d rules of ours in FORWARD, want 1", n)
			}
			before, _, _ := strings.Cut(host.Run(t, "nft", "list", "chain", "ip6", "filter", "FORWARD"), " == 0x00001000 ")
			if lines := strings.Split(before, "\n"); len(lines) < 2 || !strings.Contains(lines[len(lines)-2], tc.after) {
				t.Errorf("ours does not come after %s:\n%s", tc.after, before)
			}
			if err := f.Remove(t.Context()); err != nil {
				t.Errorf("a network cannot be removed: %v", err)
			}
			if n := ours(); n != 0 {
				t.Errorf("%d rules are left behind", n)
			}
		})
	}
}
