package ip6tables

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

func prefixes(text ...string) (out []netip.Prefix) {
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// everything has an element in every set and map, but for translated prefixes.
func everything() firewall.Config {
	addr := netip.MustParseAddr
	return firewall.Config{Parents: []string{"eth0"}, Networks: []firewall.Network{
		{
			ID: "aaaaaaaaaaaa", Bridge: "v6naaaaaaaaaaaa", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
			Pools: prefixes("2001:db8:1::/64", "172.18.0.0/16"), Masquerade: prefixes("172.18.0.0/16"),
			Live:       []netip.Addr{addr("2001:db8:1::5"), addr("172.18.0.5")},
			Containers: []firewall.Container{{Port: "v6nvaaaaaaaaaa1", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{addr("2001:db8:1::5"), addr("172.18.0.5")}}},
			Resolvers:  []netip.Addr{addr("2001:db8:1::1"), addr("172.18.0.1")}, Asked: true,
			Published: []firewall.Published{
				{Protocol: "tcp", Container: addr("2001:db8:1::5"), Port: 80},
				{Protocol: "sctp", Container: addr("2001:db8:1::5"), Port: 5000},
				{Protocol: "tcp", Container: addr("172.18.0.5"), Port: 80, HostPort: 8080},
				{Protocol: "udp", Container: addr("172.18.0.5"), Port: 53, HostPort: 53, HostIP: addr("192.0.2.1")},
			},
		},
		{
			ID: "bbbbbbbbbbbb", Bridge: "v6nbbbbbbbbbbbb", Inbound: spec.InboundOpen,
			Pools: prefixes("fd00:1::/64", "172.20.0.0/16"), Masquerade: prefixes("fd00:1::/64", "172.20.0.0/16"),
			Outbound4: addr("192.0.2.7"), Outbound6: addr("2001:db8::7"),
			Published: []firewall.Published{{Protocol: "tcp", Container: addr("fd00:1::5"), Port: 25, HostPort: 25, HostIP: addr("2001:db8::1")}},
		},
		{ID: "cccccccccccc", Bridge: "v6ncccccccccccc", Internal: true, Isolated4: true, Isolated6: true, AnySource: true},
		{
			ID: "dddddddddddd", Bridge: "v6ndddddddddddd", Pools: prefixes("2001:db8:4::/64"), Autonomous: prefixes("2001:db8:4::/64"),
			Live: []netip.Addr{addr("2001:db8:4::5")}, Gateways: []netip.Addr{addr("2001:db8:4::1")},
			Containers: []firewall.Container{{Port: "v6nvdddddddddd1", MAC: "02:00:00:00:00:07", Addresses: []netip.Addr{addr("2001:db8:4::5")}}},
		},
	}}
}

func made(t testing.TB, c firewall.Config, f family) tables {
	t.Helper()
	r, err := firewall.Build(c)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := compile(r, f, []string{"docker0"})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestCompileGolden(t *testing.T) {
	logged := everything()
	logged.Networks[0].Log, logged.Networks[1].Log = true, true
	for name, c := range map[string]firewall.Config{"everything": everything(), "empty": {}, "logged": logged} {
		for _, f := range families {
			golden := fmt.Sprintf("testdata/%s.%s", name, names[f])
			got := made(t, c, f).String()
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("rules differ from %s (-want +got):\n%s", golden, diff)
			}
		}
	}
}

// crowd is a network with so many containers, each with a published port.
func crowd(n int) firewall.Config {
	c := everything()
	c.Networks = c.Networks[:1]
	c.Networks[0].Shared = []netip.Addr{netip.MustParseAddr("2001:db8:1::ffff"), netip.MustParseAddr("172.18.255.254")}
	for i := range n {
		own := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 13: byte(i * 7 >> 16), 14: byte(i * 7 >> 8), 15: byte(i * 7)})
		c.Networks[0].Live = append(c.Networks[0].Live, own)
		c.Networks[0].Containers = append(c.Networks[0].Containers, firewall.Container{Port: fmt.Sprintf("v6nv%x", i), MAC: fmt.Sprintf("02:42:00:00:%02x:%02x", i>>8, i&255), Addresses: []netip.Addr{own}})
		c.Networks[0].Published = append(c.Networks[0].Published,
			firewall.Published{Protocol: "tcp", Container: own, Port: 443},
			firewall.Published{Protocol: "tcp", Container: netip.MustParseAddr("172.18.0.5"), Port: 80, HostPort: uint16(20000 + i)})
	}
	return c
}

// However many containers there are, a packet meets few rules on its way, no chain is
// far below another, as the kernel's 16 want it, and what the kernel walks through when
// it looks for loops does not grow faster than the rules.
func TestChainsAreTrees(t *testing.T) {
	for _, n := range []int{0, 100, 1000} {
		for _, f := range families {
			for name, table := range made(t, crowd(n), f) {
				for _, ch := range table.chains {
					// iptables compares whole MAC addresses alone. That list is only for packets
					// from addresses that hosts have made, and from auxiliary ones.
					if len(ch.rules) > 64 && !strings.HasPrefix(ch.name, prefix+"stations") {
						t.Errorf("%d containers: %s %s, chain %s has %d rules", n, names[f], name, ch.name, len(ch.rules))
					}
				}
				seen := map[string][2]int{}
				for _, j := range table.jumps {
					depth, paths := walk(table, j.chain, seen)
					if depth > 12 || paths > 1000+20*n {
						t.Errorf("%d containers: %s %s, chain %s leads %d deep on %d ways", n, names[f], name, j.chain, depth, paths)
					}
				}
			}
		}
	}
}

// walk is how deep chains lead, and on how many ways.
func walk(t *table, name string, seen map[string][2]int) (depth, paths int) {
	if was, ok := seen[name]; ok {
		return was[0], was[1]
	}
	for _, rule := range t.index()[name].rules {
		if to := leadsTo(rule); strings.HasPrefix(to, prefix) {
			d, p := walk(t, to, seen)
			depth, paths = max(depth, d), paths+p
		}
	}
	seen[name] = [2]int{depth + 1, paths + 1}
	return depth + 1, paths + 1
}

// Many networks do not multiply each other.
func TestManyNetworks(t *testing.T) {
	var c firewall.Config
	for i := range 200 {
		c.Networks = append(c.Networks, firewall.Network{ID: fmt.Sprintf("%012x", i), Bridge: fmt.Sprintf("v6n%012x", i), Inbound: spec.InboundPublished,
			Pools: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 7: byte(i)}), 64)}})
	}
	ts := made(t, c, ip6)
	rules := 0
	for _, table := range ts {
		for _, ch := range table.chains {
			rules += len(ch.rules)
		}
		for _, j := range table.jumps {
			if _, paths := walk(table, j.chain, map[string][2]int{}); paths > 100_000 {
				t.Errorf("the kernel has %d ways to walk through from %s", paths, j.chain)
			}
		}
	}
	if rules > 40*200 {
		t.Errorf("%d rules for 200 networks", rules)
	}
}

// The lines for a change turn the one into the other, and touch no chain that is the same.
func TestSince(t *testing.T) {
	before, after := made(t, crowd(100), ip6), made(t, crowd(101), ip6)
	for _, name := range tableNames {
		lines := after[name].since(before[name])
		if got := replay(before[name], lines); !cmp.Equal(got, content(after[name])) {
			t.Errorf("table %s (-want +got):\n%s", name, cmp.Diff(content(after[name]), got))
		}
		if n := len(lines); n > 150 { // the list of MAC addresses is one of them all
			t.Errorf("table %s: %d lines for one container more", name, n)
		}
		if lines := before[name].since(before[name]); len(lines) > 0 {
			t.Errorf("table %s: lines for no change: %q", name, lines)
		}
		if got := replay(before[name], (&table{}).since(before[name])); len(got) > 0 {
			t.Errorf("table %s: left after all is removed: %v", name, got)
		}
	}
	// What counts goes on counting: its chain is not made anew.
	c := everything()
	one := c
	one.Networks = c.Networks[:1]
	all, less := made(t, c, ip6)["mangle"], made(t, one, ip6)["mangle"]
	if lines := strings.Join(all.since(less), ""); strings.Contains(lines, ":v6net-let_in ") || !strings.Contains(lines, "-I v6net-let_in 1 -o v6nbbbbbbbbbbbb\n") {
		t.Errorf("a network more:\n%s", lines)
	}
}

func content(t *table) map[string][]string {
	out := map[string][]string{}
	for _, ch := range t.chains {
		out[ch.name] = slices.Sorted(slices.Values(ch.rules))
	}
	return out
}

// replay does what iptables-restore does with lines, for our chains.
func replay(t *table, lines []string) map[string][]string {
	out := content(t)
	for _, line := range lines {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
		switch chain := strings.TrimPrefix(fields[0], ":"); {
		case chain != fields[0]:
			out[chain] = nil
		case fields[0] == "-A":
			out[fields[1]] = append(out[fields[1]], fields[2])
		case fields[0] == "-I" && strings.HasPrefix(fields[1], prefix):
			out[fields[1]] = append(out[fields[1]], strings.TrimPrefix(fields[2], "1 "))
		case fields[0] == "-D" && strings.HasPrefix(fields[1], prefix):
			out[fields[1]] = slices.DeleteFunc(out[fields[1]], func(r string) bool { return r == fields[2] })
		case fields[0] == "-F":
			out[fields[1]] = nil
		case fields[0] == "-X":
			delete(out, fields[1])
		}
	}
	for name, rules := range out {
		out[name] = slices.Sorted(slices.Values(rules))
	}
	return out
}

// A bridge that iptables cannot name, of a network of an earlier version's, is in no rule:
// "-i e+" would be every link whose name begins with e.
func TestLinksThatCannotBeNamed(t *testing.T) {
	c := everything()
	for i, name := range []string{"e+", `a"b`, "-x", "!x", `a\b`} {
		n := c.Networks[0]
		n.ID, n.Bridge, n.Published = fmt.Sprintf("%012x", i), name, nil
		c.Networks = append(c.Networks, n)
	}
	c, _ = c.Sound() // in which they are closed
	for _, f := range families {
		if diff := cmp.Diff(made(t, everything(), f).String(), made(t, c, f).String()); diff != "" {
			t.Errorf("%s: bridges with such names make a difference (-without +with):\n%s", names[f], diff)
		}
	}
}

// A rule that cannot be had by iptables is an error, and not another rule.
func TestCompileRefuses(t *testing.T) {
	for _, text := range []string{"ip6 daddr @nothing drop", "tcp flags syn drop", "iifname . oifname == x drop", "icmpv6 type nothing drop", "dnat ip to 192.0.2.1"} {
		r, err := firewall.Build(everything())
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Tables[0].Chains {
			if r.Tables[0].Chains[i].Name == "towards" {
				r.Tables[0].Chains[i].Rules = append(slices.Clone(r.Tables[0].Chains[i].Rules[:3]), text)
			}
		}
		if _, err := compile(r, ip6, nil); err == nil {
			t.Errorf("%q is compiled", text)
		}
	}
}
