package firewall

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

func prefixes(text ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func address(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// web is a network with a global and a private pool, and everything published
// that can be.
func web() Network {
	return Network{
		ID: "aaaaaaaaaaaa1111", Bridge: "v6naaaaaaaaaaaa",
		Isolate: true, ICC: true, Inbound: spec.InboundPublished,
		Pools:      prefixes("2001:db8:1::/64", "172.18.0.0/16"),
		Live:       []netip.Addr{address("2001:db8:1::5"), address("172.18.0.5"), address("172.18.0.6")},
		Masquerade: prefixes("172.18.0.0/16"),
		Shared:     []netip.Addr{address("2001:db8:1::99")},
		Gateways:   []netip.Addr{address("2001:db8:1::1"), address("172.18.0.1")},
		Containers: []Container{
			{Port: "v6nv11111111111", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{address("2001:db8:1::5"), address("172.18.0.5")}},
			{Port: "v6nv22222222222", MAC: "02:00:00:00:00:06", Addresses: []netip.Addr{address("172.18.0.6")}},
		},
		Resolvers: []netip.Addr{address("2001:db8:1::1"), address("172.18.0.1")},
		Published: []Published{
			{Protocol: "tcp", Container: address("2001:db8:1::5"), Port: 80},
			{Protocol: "tcp", Container: address("172.18.0.5"), Port: 80, HostPort: 8080},
			{Protocol: "udp", Container: address("172.18.0.5"), Port: 53, HostIP: address("192.0.2.1"), HostPort: 53},
			{Protocol: "udp", Container: address("172.18.0.6"), Port: 53, HostIP: address("192.0.2.2"), HostPort: 53},
			{Protocol: "sctp", Container: address("172.18.0.5"), Port: 5000, HostIP: address("0.0.0.0"), HostPort: 5000},
			{Protocol: "tcp", Container: address("172.18.0.5"), Port: 9000, HostIP: address("127.0.0.1"), HostPort: 9000},
		},
	}
}

// ula is a network that only has unique local addresses, open to other networks.
func ula() Network {
	return Network{
		ID: "bbbbbbbbbbbb2222", Bridge: "v6nbbbbbbbbbbbb",
		ICC: true, Inbound: spec.InboundPublished,
		Pools:      prefixes("fd00:1::/64"),
		Live:       []netip.Addr{address("fd00:1::7")},
		Masquerade: prefixes("fd00:1::/64"),
		Published: []Published{
			{Protocol: "tcp", Container: address("fd00:1::7"), Port: 443, HostPort: 443},
			{Protocol: "tcp", Container: address("fd00:1::7"), Port: 25, HostIP: address("2001:db8::1"), HostPort: 25},
		},
	}
}

func TestBuildGolden(t *testing.T) {
	for name, config := range map[string]Config{
		"empty":     {},
		"published": {Networks: []Network{web(), ula()}, Parents: []string{"eth0"}},
		"inbound": {Networks: []Network{
			{ID: "aaaaaaaaaaaa", Bridge: "br-open", AnySource: true,
				Containers: []Container{{Port: "v6nv11111111111", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{address("fd00::5")}}}, Isolate: true, ICC: true, Inbound: spec.InboundOpen},
			{ID: "bbbbbbbbbbbb", Bridge: "br-none", Isolate: true, ICC: true, Inbound: spec.InboundNone, Published: web().Published},
			{ID: "cccccccccccc", Bridge: "br-internal", Internal: true, ICC: true, Inbound: spec.InboundOpen, Published: web().Published},
			{ID: "eeeeeeeeeeee", Bridge: "br-direct4", ICC: true, Inbound: spec.InboundPublished, Unprotected4: true},
			{ID: "ffffffffffff", Bridge: "br-direct6", ICC: true, Inbound: spec.InboundPublished, Unprotected6: true},
			{ID: "999999999999", Bridge: "br-alone", Internal: true, ICC: true, Isolated4: true, Isolated6: true},
			{ID: "dddddddddddd", Bridge: "br-noicc", Isolate: true, Inbound: spec.InboundPublished},
		}},
		"translated": {Networks: []Network{{
			ID: "aaaaaaaaaaaa", Bridge: "br-a", Pools: prefixes("fd00:1::/64"), Live: []netip.Addr{address("fd00:1::5"), address("fd00:1::6")},
			Translations: []spec.Translation{{Inside: prefixes("fd00:1::/64")[0], Outside: prefixes("2001:db8:1::/64")[0]}},
		}, {
			ID: "bbbbbbbbbbbb", Bridge: "br-b", Pools: prefixes("fd00:2::/64", "172.18.0.0/16"), Masquerade: prefixes("fd00:2::/64", "172.18.0.0/16"),
			Outbound4: address("192.0.2.1"), Outbound6: address("2001:db8::1"),
		}}},
		"logged": {LogGroup: 7, Networks: []Network{{
			ID: "aaaaaaaaaaaa", Bridge: "br-a", ICC: true, Isolate: true, Inbound: spec.InboundPublished, Pools: prefixes("fd00:1::/64"), Live: []netip.Addr{address("fd00:1::5")},
			Containers: []Container{{Port: "v6nv11111111111", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{address("fd00:1::5")}}}, Log: true,
		}, {
			ID: "bbbbbbbbbbbb", Bridge: "br-b", Containers: []Container{{Port: "v6nv22222222222", MAC: "02:00:00:00:00:06"}},
		}}},
		"adjacent pools": {Networks: []Network{
			{ID: "aaaaaaaaaaaa", Bridge: "br-a", Pools: prefixes("10.0.0.0/24", "10.0.1.0/24", "fd00::/64")},
			{ID: "bbbbbbbbbbbb", Bridge: "br-b", Pools: prefixes("10.0.1.0/25", "fd00::/64"), Autonomous: prefixes("fd00::/64"),
				Live: []netip.Addr{address("fd00::5")}, Gateways: []netip.Addr{address("fd00::1"), address("10.0.1.1")},
				Containers: []Container{{Port: "v6nv11111111111", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{address("fd00::5")}}}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Build(config)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".nft")
			if *update {
				if err := os.WriteFile(golden, []byte(r.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), r.String()); diff != "" {
				t.Errorf("ruleset differs from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// While nobody wants to be told of what is denied, there is no rule that tells.
func TestRulesTellWhereThatIsWanted(t *testing.T) {
	silent := Config{Networks: []Network{web(), ula()}}
	telling := Config{Networks: []Network{web(), ula()}}
	telling.Networks[1].Log = true
	count := func(c Config) int {
		r, err := Build(c)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, table := range r.all() {
			for _, chain := range table.Chains {
				for _, rule := range chain.Rules {
					if strings.Contains(rule, " log ") {
						n++
					}
				}
			}
		}
		return n
	}
	if n, told := count(silent), count(telling); n != 0 || told < 8 {
		t.Errorf("%d rules tell where nobody wants it, and %d where somebody does", n, told)
	}
}

// Nothing but elements depends on the configuration, and their order on nothing.
func TestBuildIsStable(t *testing.T) {
	a := Config{Networks: []Network{web(), ula()}, Parents: []string{"eth0", "eth1"}}
	b := Config{Networks: []Network{ula(), web()}, Parents: []string{"eth1", "eth0", "eth1"}}
	for i := range b.Networks {
		ports := b.Networks[i].Published
		rand.Shuffle(len(ports), func(i, j int) { ports[i], ports[j] = ports[j], ports[i] })
	}
	ra, err := Build(a)
	if err != nil {
		t.Fatal(err)
	}
	rb, err := Build(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ra, rb); diff != "" {
		t.Errorf("order of the configuration matters (-a +b):\n%s", diff)
	}
	empty, err := Build(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ra.Since(empty); !ok {
		t.Error("chains or sets depend on the configuration, not elements alone")
	}
}

func TestSince(t *testing.T) {
	before := Config{Networks: []Network{web()}}
	after := Config{Networks: []Network{web()}}
	ports := slices.Clone(after.Networks[0].Published)
	ports[0].Port = 81                                     // published6: one goes, one comes
	ports[1].Container = netip.MustParseAddr("172.18.0.9") // ports4: same key, another value
	after.Networks[0].Published = ports

	old, err := Build(before)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := Build(after)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := wanted.Since(old)
	if !ok {
		t.Fatal("elements alone cannot make the change")
	}
	want := []Change{
		{"published6", []Element{{Key: "2001:db8:1::5 . tcp . 80"}}, []Element{{Key: "2001:db8:1::5 . tcp . 81"}}},
		{"ports4", []Element{{"tcp . 8080", "172.18.0.5 . 80"}}, []Element{{"tcp . 8080", "172.18.0.9 . 80"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got, ok := old.Since(old); !ok || len(got) != 0 {
		t.Errorf("a ruleset since itself: %v, %v; want nothing to do", got, ok)
	}
	wanted.Tables[0].Chains[0].Rules = append(slices.Clone(wanted.Tables[0].Chains[0].Rules), "counter drop")
	if _, ok := wanted.Since(old); ok {
		t.Error("another rule passes for a change of elements")
	}
}

func TestValidate(t *testing.T) {
	with := func(change func(*Published)) Config {
		n := web()
		n.Published = n.Published[:2]
		change(&n.Published[1])
		return Config{Networks: []Network{n}}
	}
	publish := func(a, b Published) Config {
		n, m := web(), ula()
		n.Published, m.Published = []Published{a}, []Published{b}
		return Config{Networks: []Network{n, m}}
	}
	tcp := func(container, hostIP string, hostPort uint16) Published {
		return Published{Protocol: "tcp", Container: address(container), Port: 80, HostIP: address(hostIP), HostPort: hostPort}
	}
	for _, tc := range []struct {
		name   string
		config Config
		want   []string // parts of the error; none: no error
	}{
		{"valid", Config{Networks: []Network{web(), ula()}}, nil},
		{"no bridge", Config{Networks: []Network{{ID: "aaaaaaaaaaaa"}}}, []string{"aaaaaaaaaaaa", "no bridge"}},
		{"one bridge twice", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b"}, {ID: "bbbbbbbbbbbb", Bridge: "b"}}}, []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb", "bridge b"}},
		{"protocol", with(func(p *Published) { p.Protocol = "icmp" }), []string{`"icmp"`, "sctp", "aaaaaaaaaaaa"}},
		{"container", with(func(p *Published) { p.Container = netip.Addr{} }), []string{"no address of a container"}},
		{"mapped container", with(func(p *Published) { p.Container = address("::ffff:1.2.3.4") }), []string{"no address of a container"}},
		{"live address", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b", Live: []netip.Addr{{}}}}}, []string{"aaaaaaaaaaaa", "live"}},
		{"port of a container", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b", Containers: []Container{{Port: "eth0", MAC: "02:00:00:00:00:05"}}}}}, []string{"aaaaaaaaaaaa", "eth0", "v6nv"}},
		{"MAC of a container", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b", Containers: []Container{{Port: "v6nv1", MAC: "02-00-00-00-00-05"}}}}}, []string{"v6nv1", `"02-00-00-00-00-05"`}},
		{"address of a container", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b", Containers: []Container{{Port: "v6nv1", MAC: "02:00:00:00:00:05", Addresses: []netip.Addr{{}}}}}}}, []string{"v6nv1", "no address"}},
		{"one pool under two addresses", Config{Networks: []Network{
			{ID: "aaaaaaaaaaaa", Bridge: "a", Masquerade: prefixes("10.0.0.0/8"), Outbound4: address("192.0.2.1")},
			{ID: "bbbbbbbbbbbb", Bridge: "b", Masquerade: prefixes("10.1.0.0/16"), Outbound4: address("192.0.2.2")}}}, []string{"bbbbbbbbbbbb", "10.0.0.0/8", "overlaps"}},
		{"address to leave under", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "a", Outbound4: address("::1")}}}, []string{"aaaaaaaaaaaa", "::1"}},
		{"translation", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "a", Translations: []spec.Translation{{}}}}}, []string{"aaaaaaaaaaaa", "IPv6"}},
		{"name server", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b", Resolvers: []netip.Addr{{}}}}}, []string{"aaaaaaaaaaaa", "name server"}},
		{"port 0", with(func(p *Published) { p.Port = 0 }), []string{"port 0"}},
		{"families", with(func(p *Published) { p.HostIP = address("2001:db8::1") }), []string{"different families"}},
		{"same host port", publish(tcp("172.18.0.2", "", 8080), tcp("172.18.0.3", "", 8080)),
			[]string{"8080/tcp", "0.0.0.0:8080->172.18.0.2:80/tcp", "aaaaaaaaaaaa", "172.18.0.3:80", "bbbbbbbbbbbb"}},
		{"same host port of an address", publish(tcp("172.18.0.2", "192.0.2.1", 8080), tcp("172.18.0.3", "192.0.2.1", 8080)), []string{"8080/tcp"}},
		{"every address and one", publish(tcp("172.18.0.2", "", 8080), tcp("172.18.0.3", "192.0.2.1", 8080)), []string{"8080/tcp"}},
		{"two addresses", publish(tcp("172.18.0.2", "192.0.2.2", 8080), tcp("172.18.0.3", "192.0.2.1", 8080)), nil},
		{"two families", publish(tcp("172.18.0.2", "", 8080), tcp("fd00::3", "::", 8080)), nil},
		{"not translated", publish(tcp("172.18.0.2", "", 0), tcp("172.18.0.3", "", 0)), nil},
		{"said twice", Config{Networks: []Network{{ID: "aaaaaaaaaaaa", Bridge: "b", Published: []Published{tcp("172.18.0.2", "", 80), tcp("172.18.0.2", "", 80)}}}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Build(tc.config)
			if len(tc.want) == 0 {
				if err != nil {
					t.Fatalf("error %q, want none", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("no error, want one with %q", tc.want)
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// One network that contradicts itself, or another, leaves the rules of all others as
// they are; it is closed, and what is wrong is said of it.
func TestSound(t *testing.T) {
	closed := func(n Network) Network {
		return Network{ID: n.ID, Bridge: n.Bridge, Internal: true, Isolate: true, ICC: n.ICC, Inbound: spec.InboundNone,
			Isolated4: n.Isolated4, Isolated6: n.Isolated6, Resolvers: n.Resolvers}
	}
	without := func(n Network, port int) Network {
		n.Published = slices.Delete(slices.Clone(n.Published), port, port+1)
		return n
	}
	with := func(n Network, change func(*Network)) Network {
		n.Published, n.Pools, n.Containers = slices.Clone(n.Published), slices.Clone(n.Pools), slices.Clone(n.Containers)
		change(&n)
		return n
	}
	badPool := with(ula(), func(n *Network) {
		n.Pools[0], n.Isolated6, n.Resolvers = netip.Prefix{}, true, []netip.Addr{netip.MustParseAddr("172.19.0.1")}
	})
	badContainer := with(ula(), func(n *Network) { n.Containers = []Container{{Port: "eth7", MAC: "02:00:00:00:00:01"}} })
	sameBridge := with(ula(), func(n *Network) { n.Bridge = web().Bridge })
	samePort := with(ula(), func(n *Network) {
		n.Published = append(n.Published, Published{Protocol: "tcp", Container: netip.MustParseAddr("172.19.0.7"), Port: 80, HostPort: 8080})
	})
	badPort := with(ula(), func(n *Network) { n.Published = append(n.Published, Published{Protocol: "icmp"}) })
	pattern := with(ula(), func(n *Network) { n.Bridge = "e+" }) // every link whose name begins with e, to iptables
	last := len(samePort.Published) - 1
	for _, tc := range []struct {
		name  string
		given []Network
		want  []Network
		says  []string // of each fault
	}{
		{"nothing", []Network{web(), ula()}, []Network{web(), ula()}, nil},
		{"a pool", []Network{badPool, web()}, []Network{closed(badPool), web()}, []string{"invalid pool"}},
		{"a container", []Network{web(), badContainer}, []Network{web(), closed(badContainer)}, []string{"eth7"}},
		{"a bridge", []Network{web(), sameBridge}, []Network{web()}, []string{"both have the bridge"}},
		{"a port", []Network{badPort, web()}, []Network{without(badPort, last), web()}, []string{"icmp"}},
		{"a bridge's name", []Network{web(), pattern}, []Network{web(), closed(pattern)}, []string{"iptables cannot say"}},
		{"a host port", []Network{web(), samePort}, []Network{web(), without(samePort, last)}, []string{"8080/tcp is published twice"}},
		{"several", []Network{badPort, web(), sameBridge}, []Network{without(badPort, last), web()}, []string{"icmp", "both have the bridge"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sound, faults := Config{Networks: tc.given}.Sound()
			if len(faults) != len(tc.says) {
				t.Fatalf("faults %v, want %d", faults, len(tc.says))
			}
			for i, f := range faults {
				if closes := slices.Contains([]string{"a pool", "a container", "a bridge's name"}, tc.name); f.Closed != closes {
					t.Errorf("fault %v closes the network: %t", f.Err, f.Closed)
				}
				if f.Network != ula().ID || !strings.Contains(f.Err.Error(), tc.says[i]) {
					t.Errorf("fault of network %s: %v, want one of %s that says %q", f.Network, f.Err, ula().ID, tc.says[i])
				}
			}
			got, err := Build(sound)
			if err != nil {
				t.Fatal(err)
			}
			want, err := Build(Config{Networks: tc.want})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}
