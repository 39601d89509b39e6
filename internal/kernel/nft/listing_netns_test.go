//go:build netns

package nft

import (
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// open makes a Firewall of the host; the rules go at the end of the test.
func open(t testing.TB, host *testnet.Host) *Firewall {
	t.Helper()
	var f *Firewall
	host.Do(t, func() {
		var err error
		if f, err = New(slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func build(t testing.TB, c firewall.Config) firewall.Ruleset {
	t.Helper()
	r, err := firewall.Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func apply(t testing.TB, f kernel, c firewall.Config) {
	t.Helper()
	if err := f.Apply(t.Context(), build(t, c)); err != nil {
		t.Fatal(err)
	}
}

// listing is what nft has to say, without what it counts.
func listing(t testing.TB, host *testnet.Host) string {
	t.Helper()
	return host.Run(t, "nft", "--stateless", "list", "ruleset")
}

func prefixes(text ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// everything has an element in every set and map.
func everything() firewall.Config {
	addr := netip.MustParseAddr
	return firewall.Config{
		Parents: []string{"eth0", "br0"},
		Networks: []firewall.Network{
			{
				ID: "aaaaaaaaaaaa", Bridge: "v6naaaaaaaaaaaa", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
				Resolvers: []netip.Addr{addr("2001:db8:1::1"), addr("172.18.0.1")}, Asked: true,
				Pools: prefixes("2001:db8:1::/64", "172.18.0.0/16"), Masquerade: prefixes("172.18.0.0/16"),
				Live:       []netip.Addr{addr("2001:db8:1::5"), addr("172.18.0.5")},
				Containers: []firewall.Container{{Port: "v6nvaaaaaaaaaa1", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{addr("2001:db8:1::5"), addr("172.18.0.5")}, Elsewhere: []netip.Addr{addr("172.19.0.5")}}},
				Published: []firewall.Published{
					{Protocol: "tcp", Container: addr("2001:db8:1::5"), Port: 80},
					{Protocol: "udp", Container: addr("2001:db8:1::5"), Port: 53},
					{Protocol: "sctp", Container: addr("2001:db8:1::5"), Port: 5000},
					{Protocol: "tcp", Container: addr("172.18.0.5"), Port: 80, HostPort: 8080},
					{Protocol: "sctp", Container: addr("172.18.0.5"), Port: 5000, HostPort: 5000},
					{Protocol: "udp", Container: addr("172.18.0.5"), Port: 53, HostPort: 53, HostIP: addr("192.0.2.1")},
				},
			},
			{
				ID: "bbbbbbbbbbbb", Bridge: "v6nbbbbbbbbbbbb", Inbound: spec.InboundOpen,
				Pools: prefixes("fd00:1::/64", "172.19.0.0/16", "255.255.255.0/24"), Masquerade: prefixes("fd00:1::/64", "172.19.0.0/16", "255.255.255.0/24"),
				Outbound4: addr("192.0.2.7"), Outbound6: addr("2001:db8::7"),
				Published: []firewall.Published{
					{Protocol: "tcp", Container: addr("172.19.0.5"), Port: 443},
					{Protocol: "tcp", Container: addr("fd00:1::5"), Port: 443, HostPort: 443},
					{Protocol: "tcp", Container: addr("fd00:1::5"), Port: 25, HostPort: 25, HostIP: addr("2001:db8::1")},
				},
			},
			{ID: "cccccccccccc", Bridge: "v6ncccccccccccc", Internal: true, AnySource: true, Containers: []firewall.Container{{Port: "v6nvcccccccccc1", MAC: "02:00:00:00:00:06"}}},
			{
				ID: "eeeeeeeeeeee", Bridge: "v6neeeeeeeeeeee", Pools: prefixes("fd00:5::/64"), Live: []netip.Addr{addr("fd00:5::5"), addr("fd00:5::6")},
				Translations: []spec.Translation{{Inside: prefixes("fd00:5::/64")[0], Outside: prefixes("2001:db8:5::/64")[0]}},
			},
			{
				ID: "dddddddddddd", Bridge: "v6ndddddddddddd", Pools: prefixes("2001:db8:4::/64"), Autonomous: prefixes("2001:db8:4::/64"),
				Live: []netip.Addr{addr("2001:db8:4::5")}, Gateways: []netip.Addr{addr("2001:db8:4::1")}, Shared: []netip.Addr{addr("2001:db8:4::9")},
				Containers: []firewall.Container{{Port: "v6nvdddddddddd1", MAC: "02:00:00:00:00:07", Addresses: []netip.Addr{addr("2001:db8:4::5")}}},
			},
		},
	}
}

// What nft reads in the kernel is what nft itself would have put there.
func TestKernelHoldsTheText(t *testing.T) {
	t.Parallel()
	told := everything()
	told.Networks[0].Log = true
	for name, c := range map[string]firewall.Config{"silent": everything(), "telling": told} {
		t.Run(name, func(t *testing.T) { testKernelHoldsTheText(t, build(t, c)) })
	}
}

func testKernelHoldsTheText(t *testing.T, r firewall.Ruleset) {
	ours, judge := testnet.New(t, "ours"), testnet.New(t, "judge")
	f := open(t, ours)
	if err := f.Apply(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/ruleset.nft"
	if err := os.WriteFile(file, []byte(r.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	judge.Run(t, "nft", "-f", file)
	if diff := cmp.Diff(typed(listing(t, judge)), typed(listing(t, ours))); diff != "" {
		t.Errorf("the kernel's table (-by nft +by us):\n%s", diff)
	}
}

// typed is a listing in which the sets of neighbor discovery's targets are of
// addresses: nft, which has no name for those before 1.0.9, is given numbers.
func typed(listing string) string {
	listing = regexp.MustCompile(`,\s+`).ReplaceAllString(listing, ",\n\t\t\t") // where nft breaks a line follows from the length
	listing = strings.NewReplacer("typeof iifname . @th,64,128", "type ifname . ipv6_addr", "typeof @th,64,128", "type ipv6_addr",
		"typeof @th,128,128 : @th,128,128", "type ipv6_addr : ipv6_addr", "typeof @th,256,128 : @th,256,128", "type ipv6_addr : ipv6_addr").Replace(listing)
	return regexp.MustCompile(`(v6nv\w+" \. |[{,:]\s*|\t)0x[0-9a-f]{32}`).ReplaceAllStringFunc(listing, func(s string) string {
		i := strings.LastIndex(s, "0x")
		n, _ := new(big.Int).SetString(s[i:], 0)
		return s[:i] + netip.AddrFrom16([16]byte(n.FillBytes(make([]byte, 16)))).String()
	})
}

// However the kernel came to a ruleset, it holds the same.
func TestApplyConverges(t *testing.T) {
	t.Parallel()
	host, fresh := testnet.New(t, "host"), testnet.New(t, "fresh")
	f := open(t, host)
	small := firewall.Config{Networks: everything().Networks[:1]}
	small.Networks[0].Published = small.Networks[0].Published[:2]
	for i, c := range []firewall.Config{{}, everything(), everything(), small, {}, small, everything()} {
		apply(t, f, c)
		once := open(t, fresh)
		apply(t, once, c)
		if diff := cmp.Diff(listing(t, fresh), listing(t, host)); diff != "" {
			t.Fatalf("step %d (-at once +by steps):\n%s", i, diff)
		}
	}
}

// Where only elements differ, the table is not replaced: its counters go on.
func TestElementsAloneKeepTheTable(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	translated := everything()
	translated.Networks = slices.DeleteFunc(translated.Networks, func(n firewall.Network) bool { return len(n.Translations) == 0 })
	apply(t, f, translated)
	before := host.Run(t, "nft", "-a", "list", "chain", "inet", "v6net", "forward")
	apply(t, f, everything())
	if after := host.Run(t, "nft", "-a", "list", "chain", "inet", "v6net", "forward"); after != before {
		t.Errorf("rules were replaced:\n%s\n%s", before, after)
	}
}

// A published port that moves keeps its key in the map and gets another value.
func TestMappingChanges(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	c := everything()
	apply(t, f, c)
	c.Networks[0].Published[3].Container = netip.MustParseAddr("172.18.0.99")
	apply(t, f, c)
	if out := host.Run(t, "nft", "list", "map", "inet", "v6net", "ports4"); !strings.Contains(out, "tcp . 8080 : 172.18.0.99 . 80") || strings.Contains(out, "tcp . 8080 : 172.18.0.5 . 80") {
		t.Errorf("map after the change:\n%s", out)
	}
}

// A table that somebody has removed or gutted is whole again after Apply.
func TestApplyReplacesWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, harm := range []string{
		"delete table inet v6net",
		"flush ruleset",
		"flush set inet v6net published6",
		"delete element inet v6net published6 { 2001:db8:1::5 . udp . 53 }",
	} {
		t.Run(harm, func(t *testing.T) {
			host := testnet.New(t, "host")
			f := open(t, host)
			apply(t, f, everything())
			host.Run(t, "nft", harm)
			apply(t, f, firewall.Config{})
			apply(t, f, everything())
			out := listing(t, host)
			apply(t, open(t, host), everything()) // from nothing
			if diff := cmp.Diff(listing(t, host), out); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", harm, diff)
			}
		})
	}
}

// manyPorts publishes n ports of one container, and translates n of another.
func manyPorts(n int) firewall.Config {
	c := everything()
	c.Networks = c.Networks[:1]
	c.Networks[0].Published = nil
	for i := range n {
		c.Networks[0].Published = append(c.Networks[0].Published,
			firewall.Published{Protocol: "tcp", Container: netip.MustParseAddr("2001:db8:1::5"), Port: uint16(i + 1)},
			firewall.Published{Protocol: "tcp", Container: netip.MustParseAddr("172.18.0.5"), Port: uint16(i + 1), HostPort: uint16(i + 1)})
	}
	return c
}

// Thousands of elements are still one batch.
func TestManyElements(t *testing.T) {
	const n = 20000
	host := testnet.New(t, "host")
	f := open(t, host)
	many := build(t, manyPorts(n))
	timed := func(what string, r firewall.Ruleset) {
		begin := time.Now()
		if err := f.Apply(t.Context(), r); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: %v", what, time.Since(begin))
	}
	timed(fmt.Sprintf("replace with %d elements", 2*n), many)
	timed("nothing to change", many)
	timed("one element less", build(t, func() firewall.Config {
		c := manyPorts(n)
		c.Networks[0].Published = c.Networks[0].Published[1:]
		return c
	}()))
	timed("all go", build(t, firewall.Config{}))
	timed("all come", many)
	if got := strings.Count(host.Run(t, "nft", "list", "set", "inet", "v6net", "published6"), "2001:db8:1::5"); got != n {
		t.Errorf("%d elements in the kernel, want %d", got, n)
	}
}
