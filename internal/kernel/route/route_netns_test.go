//go:build netns

package route_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// host is the host under test with two uplinks to one router.
func host(t *testing.T) (*route.Handle, *testnet.Host) {
	t.Helper()
	self, router := testnet.Self(t), testnet.New(t, "router")
	testnet.Connect(t, self, "eth0", router, "lan0")
	testnet.Connect(t, self, "eth1", router, "lan1")
	h, err := route.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, self
}

// script runs lines of `ip` commands; routes on eth0 and eth1 go with the links.
func script(t *testing.T, self *testnet.Host, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			self.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
		}
	}
}

func TestDefaultParent(t *testing.T) {
	for name, c := range map[string]struct{ setup, want string }{
		"none":                  {"", ""},
		"one":                   {"-6 route add default via fe80::1 dev eth0", "eth0"},
		"learned by RA":         {"-6 route add default via fe80::1 dev eth1 proto ra metric 1024", "eth1"},
		"without gateway":       {"-6 route add default dev eth0", "eth0"},
		"lowest metric":         {"-6 route add default via fe80::1 dev eth0 metric 200\n-6 route add default via fe80::1 dev eth1 metric 100", "eth1"},
		"best is without link":  {"-6 route add default via fe80::1 dev eth0 metric 200\n-6 route add default via fe80::1 dev eth1 metric 100\n-n router link set lan1 down", "eth0"},
		"only one without link": {"-6 route add default via fe80::1 dev eth0\n-n router link set lan0 down", ""},
		"unreachable":           {"-6 route add unreachable default metric 10\n-6 route add default via fe80::1 dev eth0", "eth0"},
		"only blackhole":        {"-6 route add blackhole default", ""},
		"IPv4 only":             {"addr add 192.0.2.2/24 dev eth0\nroute add default via 192.0.2.1", ""},
		"other table":           {"-6 route add default via fe80::1 dev eth0 table 100", ""},
		"multipath":             {"-6 route add default nexthop via fe80::1 dev eth0 weight 1 nexthop via fe80::1 dev eth1 weight 5", "eth1"},
		"multipath, best down":  {"-6 route add default nexthop via fe80::1 dev eth0 weight 1 nexthop via fe80::1 dev eth1 weight 5\n-n router link set lan1 down", "eth0"},
		"nexthop object":        {"nexthop add id 7 via fe80::1 dev eth1\n-6 route add default nhid 7", "eth1"},
	} {
		t.Run(name, func(t *testing.T) {
			h, self := host(t)
			t.Cleanup(func() { _ = self.Command(context.Background(), "ip", "-6", "route", "flush", "default").Run() })
			script(t, self, c.setup)
			got, err := h.DefaultParent(t.Context())
			if c.want == "" {
				if !errors.Is(err, route.ErrNoDefault) {
					t.Errorf("%q, %v; want ErrNoDefault", got, err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("%q, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestRALinks(t *testing.T) {
	h, self := host(t)
	if names, err := h.RALinks(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("without any: %v, %v", names, err)
	}
	script(t, self, `
		-6 route add default via fe80::1 dev eth0 proto static metric 10
		-6 route add default via fe80::1 dev eth1 proto ra metric 1024
		-6 route add default via fe80::2 dev eth1 proto ra metric 1025
		-6 route add 2001:db8:7::/64 via fe80::1 dev eth0 proto ra`)
	if names, err := h.RALinks(t.Context()); err != nil || !slices.Equal(names, []string{"eth1"}) {
		t.Errorf("%v, %v; want eth1 alone", names, err)
	}
	script(t, self, "-6 route add default via fe80::3 dev eth0 proto ra metric 1026")
	if names, err := h.RALinks(t.Context()); err != nil || !slices.Equal(names, []string{"eth0", "eth1"}) {
		t.Errorf("%v, %v; want eth0 and eth1", names, err)
	}
}

func TestDefaultLinks(t *testing.T) {
	for name, c := range map[string]struct {
		setup string
		want  []string
	}{
		"none":                       {"", nil},
		"IPv4":                       {"route add default via 192.0.2.1", []string{"eth0"}},
		"IPv6":                       {"-6 route add default via fe80::1 dev eth1", []string{"eth1"}},
		"each by another link":       {"route add default via 192.0.2.1\n-6 route add default via fe80::1 dev eth1 proto ra", []string{"eth0", "eth1"}},
		"both by one":                {"route add default via 192.0.2.1\n-6 route add default via fe80::1 dev eth0", []string{"eth0"}},
		"the worse one too":          {"route add default via 192.0.2.1 metric 10\nroute add default dev eth1 metric 20", []string{"eth0", "eth1"}},
		"multipath":                  {"route add default nexthop via 192.0.2.1 dev eth0 nexthop dev eth1", []string{"eth0", "eth1"}},
		"leads nowhere":              {"route add blackhole default metric 10\n-6 route add unreachable default metric 10", nil},
		"other table":                {"route add default dev eth1 table 100", nil},
		"half of the world, no more": {"route add 0.0.0.0/1 dev eth1\n-6 route add 2000::/3 dev eth1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			h, self := host(t)
			t.Cleanup(func() {
				for _, family := range []string{"-4", "-6"} {
					_ = self.Command(context.Background(), "ip", family, "route", "flush", "default").Run()
				}
			})
			script(t, self, "addr add 192.0.2.2/24 dev eth0\n"+c.setup)
			if got, err := h.DefaultLinks(t.Context()); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestOnLink(t *testing.T) {
	h, self := host(t)
	if prefixes, err := h.OnLink(t.Context(), "eth0"); err != nil || len(prefixes) != 0 {
		t.Errorf("without addresses: %v, %v", prefixes, err)
	}
	script(t, self, `
		addr add 2001:db8:1::5/64 dev eth0
		addr add 2001:db8:1::6/64 dev eth0
		addr add 2001:db8:2::5/128 dev eth0
		addr add 2001:db8:0:9::5/64 dev eth0 preferred_lft 0
		addr add 2001:db8:0:8::5/64 dev eth0 preferred_lft 0
		addr add 2001:db8:0:8::6/64 dev eth0
		addr add 2001:db8:3::5/80 dev eth0 noprefixroute
		addr add 2001:db8:4::5/64 dev eth1
		addr add 192.0.2.5/24 dev eth0
		-6 route add 2001:db8:5::/64 dev eth0 proto ra
		-6 route add 2001:db8:6::/64 dev eth0 proto kernel expires 600
		-6 route add 2001:db8:7::/64 dev eth0 proto static
		-6 route add 2001:db8:8::/64 via fe80::1 dev eth0 proto ra
		-6 route add 2001:db8:a::/64 dev eth1 proto ra
		-6 route add default via fe80::1 dev eth0 proto ra`)
	got, err := h.OnLink(t.Context(), "eth0")
	want := prefixes("2001:db8:0:8::/64", "2001:db8:1::/64", "2001:db8:3::/80", "2001:db8:5::/64", "2001:db8:6::/64", "2001:db8:0:9::/64")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v;\nwant %v", got, err, want)
	}
	all, up, err := h.OnLinkFor(t.Context(), "eth0")
	if err != nil || !up || len(all) != len(want) || all[0].Deprecated || !all[len(all)-1].Deprecated || all[0].Valid != 0 {
		t.Errorf("%+v, %v; want all without end, and the last one deprecated", all, err)
	}
	for _, p := range all {
		if byRoute := slices.Contains(prefixes("2001:db8:5::/64", "2001:db8:6::/64"), p.Prefix); p.ByRoute != byRoute {
			t.Errorf("%s: by a route alone: %v, want %v", p.Prefix, p.ByRoute, byRoute)
		}
	}
	script(t, self, `
		addr change 2001:db8:1::5/64 dev eth0 valid_lft 1000 preferred_lft 0
		addr change 2001:db8:1::6/64 dev eth0 valid_lft 500 preferred_lft 100
		addr change 2001:db8:0:8::5/64 dev eth0 valid_lft 500 preferred_lft 0`)
	all, _, err = h.OnLinkFor(t.Context(), "eth0")
	if err != nil || all[0].Valid != 0 || all[1].Deprecated || all[1].Valid < 900*time.Second || all[1].Valid > 1000*time.Second {
		t.Errorf("%+v, %v; want the first without end, the second for 1000 s and preferred", all, err)
	}
	self.Run(t, "ip", "link", "set", "eth0", "down")
	if _, up, err = h.OnLinkFor(t.Context(), "eth0"); err != nil || up {
		t.Errorf("up %t, %v of a link that is down", up, err)
	}
	if _, err := h.OnLink(t.Context(), "absent0"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "absent0") {
		t.Errorf("absent link: %v, want fs.ErrNotExist", err)
	}
}

func TestConnected(t *testing.T) {
	h, self := host(t)
	script(t, self, `
		addr add 2001:db8:1::5/64 dev eth0
		addr add 2001:db8:1::6/64 dev eth0
		addr add 2001:db8:2::5/128 dev eth0
		addr add 192.0.2.5/24 dev eth0
		addr add 198.51.100.1/32 dev eth0
		addr add 2001:db8:4::5/64 dev eth1
		-6 route add 2001:db8:5::/64 dev eth1 proto ra
		-6 route add 2001:db8:6::/64 via fe80::1 dev eth0 proto ra
		-6 route add 2001:db8:7::/64 proto ra nexthop via fe80::1 dev eth0 nexthop via fe80::1 dev eth1
		-6 route add 2001:db8:8::/48 dev eth0
		route add 10.0.0.0/8 via 192.0.2.1
		link add none0 type bridge
		link set none0 arp off up
		addr add 2001:db8:f00::1/48 dev none0
		addr add 203.0.113.1/24 dev lo`)
	t.Cleanup(func() {
		for _, args := range []string{"link del none0", "addr del 203.0.113.1/24 dev lo"} {
			_ = self.Command(context.Background(), append([]string{"ip"}, strings.Fields(args)...)...).Run()
		}
	})
	for part, want := range map[string]map[string][]netip.Prefix{
		"2001:db8:1:0:1::/80": {"eth0": prefixes("2001:db8:1::/64")}, "192.0.2.128/25": {"eth0": prefixes("192.0.2.0/24")},
		"2001:db8:4:0:1::/80": {"eth1": prefixes("2001:db8:4::/64")}, "2001:db8:5:0:1::/80": {"eth1": prefixes("2001:db8:5::/64")},
		"2001:db8:1::/64": {}, "2001:db8::/32": {}, "2001:db8:2::5/128": {}, "198.51.100.1/32": {}, "2001:db8:6:0:1::/80": {}, "2001:db8:7:0:1::/80": {},
		"2001:db8:8:1::/64": {}, "10.7.0.0/16": {}, "2001:db8:f00:1::/64": {}, "203.0.113.128/25": {},
	} {
		got, err := h.Connected(t.Context(), netip.MustParsePrefix(part))
		if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("around %s: %v, %v;\nwant %v", part, got, err, want)
		}
	}
}

func TestTaken(t *testing.T) {
	h, self := host(t)
	self.Sysctl(t, "net/ipv6/conf/all/forwarding", "1") // makes anycast routes
	defer self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
	script(t, self, `
		addr add 2001:db8:1::5/64 dev eth0
		addr add 2001:db8:2::5/128 dev eth0
		addr add 2001:db8:3::5/80 dev eth0 noprefixroute
		addr add 192.0.2.5/24 dev eth0
		addr add 169.254.7.5/16 dev eth0
		route add default via 192.0.2.1
		route add 0.0.0.0/1 via 192.0.2.1
		route add 10.0.0.0/8 via 192.0.2.1
		route add 10.7.0.0/16 via 192.0.2.1
		route add 172.20.0.0/16 via 192.0.2.1 table 100
		route add prohibit 192.168.9.0/24
		-6 route add default via fe80::1 dev eth0
		-6 route add 2000::/3 via fe80::1 dev eth0
		-6 route add unreachable fc00::/7
		-6 route add unreachable 2001:db8:f00::/40
		-6 route add blackhole fd12:3456:789a::/48
		-6 route add 2001:db8:5::/64 via fe80::1 dev eth0 table 100
		-6 route add local 2001:db8:6::/64 dev lo
		link add br7 type bridge
		addr add 172.21.0.1/16 dev br7
		addr add 2001:db8:7::1/64 dev br7`)
	t.Cleanup(func() {
		for _, args := range []string{"link del br7", "route del prohibit 192.168.9.0/24", "-6 route del unreachable fc00::/7",
			"-6 route del unreachable 2001:db8:f00::/40", "-6 route del blackhole fd12:3456:789a::/48", "-6 route del local 2001:db8:6::/64 dev lo"} {
			_ = self.Command(context.Background(), append([]string{"ip"}, strings.Fields(args)...)...).Run()
		}
	})
	got, err := taken(t, h)
	want := prefixes("0.0.0.0/1", "10.0.0.0/8", "10.7.0.0/16", "172.20.0.0/16", "172.21.0.0/16", "172.21.0.1/32",
		"192.0.2.0/24", "192.0.2.5/32", "192.168.9.0/24", "2000::/3",
		"2001:db8:1::/64", "2001:db8:1::5/128", "2001:db8:2::5/128", "2001:db8:3::/80", "2001:db8:3::5/128", "2001:db8:5::/64",
		"2001:db8:6::/64", "2001:db8:7::/64", "2001:db8:7::1/128", "2001:db8:f00::/40", "fc00::/7", "fd12:3456:789a::/48")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v;\nwant %v", got, err, want)
	}
	for where, want := range map[string][]netip.Prefix{
		"2001:db8:7::/65":        prefixes("2000::/3", "2001:db8:7::/64", "2001:db8:7::1/128"),
		"2001:db8:7:0:8000::/65": prefixes("2000::/3", "2001:db8:7::/64"),
		"2001:db8::/45":          prefixes("2000::/3", "2001:db8:1::/64", "2001:db8:1::5/128", "2001:db8:2::5/128", "2001:db8:3::/80", "2001:db8:3::5/128", "2001:db8:5::/64", "2001:db8:6::/64", "2001:db8:7::/64", "2001:db8:7::1/128"),
		"172.21.0.0/24":          prefixes("172.21.0.0/16", "172.21.0.1/32"),
	} {
		if got, err := h.Taken(t.Context(), netip.MustParsePrefix(where)); err != nil || !slices.Equal(got, want) {
			t.Errorf("of %s: %v, %v;\nwant %v", where, got, err, want)
		}
	}
}

// A list taken while routes come and go is whole. The IPv6 routes fit into one
// reply of the kernel: see the gap that Handle.routes tells of.
func TestTakenDuringChurn(t *testing.T) {
	h, self := host(t)
	var add, flap strings.Builder
	for i := range 100 {
		fmt.Fprintf(&add, "route add 2001:db8:%x::/48 dev eth0\n", 0x1000+i)
	}
	for i := range 3000 {
		fmt.Fprintf(&add, "route add 11.%d.%d.0/24 dev eth0\n", i/250, i%250)
	}
	for range 20 {
		for i := range 50 {
			for _, p := range []string{fmt.Sprintf("2001:db8:%x::/48", i+1), fmt.Sprintf("10.%d.0.0/16", i)} {
				fmt.Fprintf(&flap, "route add %s dev eth1\nroute del %s dev eth1\n", p, p)
			}
		}
	}
	batch := func(lines string) error {
		cmd := self.Command(t.Context(), "ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(lines)
		return cmd.Run()
	}
	if err := batch(add.String()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- batch(flap.String()) }()
	for {
		got, err := taken(t, h)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) < 3100 {
			t.Fatalf("%d prefixes, want the 3100 that are there all the time", len(got))
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

// taken are those of both families.
func taken(t *testing.T, h *route.Handle) ([]netip.Prefix, error) {
	t.Helper()
	v4, err4 := h.Taken(t.Context(), netip.MustParsePrefix("0.0.0.0/0"))
	v6, err6 := h.Taken(t.Context(), netip.MustParsePrefix("::/0"))
	return slices.Concat(v4, v6), errors.Join(err4, err6)
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
