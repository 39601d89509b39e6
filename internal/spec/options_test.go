package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"
)

func TestParseOptions(t *testing.T) {
	with := func(change func(*Options)) Options {
		o := DefaultOptions()
		change(&o)
		return o
	}
	for _, tc := range []struct {
		name string
		raw  map[string]string
		want Options
	}{
		{"none", nil, DefaultOptions()},
		{"every key of our own", map[string]string{
			"mode": "bridge", "parent": "eth0.50", "ndproxy": "off", "ra": "off", "masquerade": "on",
			"inbound": "none", "isolate": "off", "host_access": "off", "antispoof": "off", "log_denied": "on",
		}, with(func(o *Options) {
			o.Parent, o.NDProxy, o.RA, o.Masquerade, o.Inbound, o.Isolate, o.AnySource, o.LogDenied = "eth0.50", SwitchOff, SwitchOff, SwitchOn, InboundNone, false, true, true
		})},
		{"ra", map[string]string{
			"ra": "on", "ra.dns": "2001:db8::53, fe80::53", "ra.search": "Example.org.,b.example", "ra.pref64": "64:ff9b::/96",
			"ra.captive_portal": "https://portal.example/api", "ra.autonomous": "on", "ra.lifetime": "900", "ra.announce": "on", "ra.upstream": "off",
		}, with(func(o *Options) {
			lifetime := Seconds(900)
			o.RA, o.Advertise = SwitchOn, RAOptions{
				DNS:    []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::53")},
				Search: []string{"example.org", "b.example"}, PREF64: netip.MustParsePrefix("64:ff9b::/96"),
				CaptivePortal: "https://portal.example/api", Autonomous: true, Lifetime: &lifetime, Announce: true, NoUpstream: true,
			}
		})},
		{"labels", map[string]string{"v6net.inbound": "open"}, with(func(o *Options) { o.Inbound = InboundOpen })},
		{"Docker's bridge keys", map[string]string{
			"com.docker.network.bridge.name":                 "br-web",
			"com.docker.network.bridge.enable_icc":           "false",
			"com.docker.network.bridge.enable_ip_masquerade": "false",
			"com.docker.network.bridge.gateway_mode_ipv4":    "routed",
			"com.docker.network.bridge.gateway_mode_ipv6":    "nat",
			"com.docker.network.bridge.host_binding_ipv4":    "127.0.0.1",
			"com.docker.network.bridge.inhibit_ipv4":         "true",
			"com.docker.network.driver.mtu":                  "1400",
			"com.docker.network.container_iface_prefix":      "net",
		}, with(func(o *Options) {
			o.BridgeName, o.ICC, o.Masquerade4, o.GatewayMode4, o.Masquerade = "br-web", false, false, GatewayRouted, SwitchOn
			o.HostBinding4, o.Inhibit4, o.MTU, o.InterfacePrefix = netip.MustParseAddr("127.0.0.1"), true, 1400, "net"
		})},
		{"an empty value of Docker's is its default", map[string]string{"com.docker.network.driver.mtu": ""}, DefaultOptions()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseOptions(tc.raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
				t.Errorf("ParseOptions(%v) (-want +got):\n%s", tc.raw, diff)
			}
		})
	}
}

// Two keys that mean the same are one option.
func TestOptionsThatSayTheSame(t *testing.T) {
	const mode = "com.docker.network.bridge.gateway_mode_ipv6"
	for _, tc := range []struct {
		name    string
		raw     map[string]string
		want    Switch // masquerade
		refused []string
	}{
		{"nat and on", map[string]string{mode: "nat", "masquerade": "on"}, SwitchOn, nil},
		{"routed and off", map[string]string{mode: "routed", "v6net.masquerade": "off"}, SwitchOff, nil},
		{"nat and auto", map[string]string{mode: "nat", "masquerade": "auto"}, SwitchOn, nil},
		{"nat and off", map[string]string{mode: "nat", "masquerade": "off"}, "", []string{"masquerade", `"off"`, "gateway_mode_ipv6", "nat"}},
		{"routed and on", map[string]string{mode: "routed", "v6net.masquerade": "on"}, "", []string{"masquerade", `"on"`, "gateway_mode_ipv6", "routed"}},
		{"nat-unprotected", map[string]string{mode: "nat-unprotected"}, SwitchOn, nil},
		{"nat-unprotected and off", map[string]string{mode: "nat-unprotected", "masquerade": "off"}, "", []string{"masquerade", "nat-unprotected"}},
		{"nat-unprotected and open", map[string]string{mode: "nat-unprotected", "inbound": "open"}, SwitchOn, nil},
		{"nat-unprotected and none", map[string]string{mode: "nat-unprotected", "inbound": "none"}, "", []string{"inbound", "none", "nat-unprotected"}},
		{"isolated", map[string]string{mode: "isolated"}, SwitchAuto, nil},
		{"nptv6", map[string]string{"masquerade": "nptv6", "nptv6": "2001:db8::/64"}, SwitchNPTv6, nil},
		{"nptv6 and nat", map[string]string{mode: "nat", "masquerade": "nptv6", "nptv6": "2001:db8::/64"}, "", []string{"masquerade", "nptv6"}},
		{"a label and an option", map[string]string{"masquerade": "on", "v6net.masquerade": "on"}, SwitchOn, nil},
		{"a label against an option", map[string]string{"masquerade": "on", "v6net.masquerade": "off"}, "", []string{"v6net.masquerade", `"off"`, `"on"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := ParseOptions(tc.raw)
			if tc.refused == nil && (err != nil || o.Masquerade != tc.want) {
				t.Errorf("masquerade %q, %v; want %q", o.Masquerade, err, tc.want)
			}
			for _, s := range tc.refused {
				if err == nil || !strings.Contains(err.Error(), s) {
					t.Errorf("error %v does not say %q", err, s)
				}
			}
		})
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, key, value string
		later            bool     // refused as not available yet
		says             []string // what the message must name
	}{
		{"unknown key", "colour", "blue", false, []string{"colour", "mode", "parent"}},
		{"bad mode", "mode", "tunnel", false, []string{"mode", "tunnel", "bridge"}},
		{"macvlan_mode of a bridge", "macvlan_mode", "vepa", false, []string{"macvlan_mode", "mode=macvlan"}},
		{"ipvlan_mode of a bridge", "ipvlan_mode", "l3", false, []string{"ipvlan_mode", "mode=ipvlan"}},
		{"bad macvlan_mode", "macvlan_mode", "tree", false, []string{"tree", "vepa"}},
		{"bad ra", "ra", "always", false, []string{"ra", "always", "auto, on, off"}},
		{"ra.dns of IPv4", "ra.dns", "192.0.2.53", false, []string{"ra.dns", "192.0.2.53", "IPv6"}},
		{"ra.dns on the host's loopback", "ra.dns", "::1", false, []string{"::1"}},
		{"too many ra.dns", "ra.dns", "::2" + strings.Repeat(",::2", 8), false, []string{"at most 8"}},
		{"ra.search", "ra.search", "example..org", false, []string{"example..org"}},
		{"ra.search with a slash", "ra.search", "a/b", false, []string{"a/b"}},
		{"too many ra.search", "ra.search", "a" + strings.Repeat(",a", 8), false, []string{"at most 8"}},
		{"ra.pref64 of another length", "ra.pref64", "64:ff9b::/72", false, []string{"64:ff9b::/72", "96, 64, 56, 48, 40 or 32"}},
		{"ra.pref64 with host bits", "ra.pref64", "64:ff9b::1/96", false, []string{"64:ff9b::1/96"}},
		{"ra.captive_portal", "ra.captive_portal", "http://portal.example/", false, []string{"https"}},
		{"ra.captive_portal without a host", "ra.captive_portal", "https:///x", false, []string{"https"}},
		{"ra.autonomous", "ra.autonomous", "auto", false, []string{"off, on"}},
		{"ra.lifetime too short", "ra.lifetime", "29", false, []string{"30 to 9000"}},
		{"ra.lifetime too long", "ra.lifetime", "9001", false, []string{"30 to 9000"}},
		{"ra.upstream", "ra.upstream", "auto", false, []string{"on, off"}},
		{"antispoof", "antispoof", "auto", false, []string{"on, off"}},
		{"log_denied", "log_denied", "auto", false, []string{"off, on"}},
		{"ra.announce", "ra.announce", "yes", false, []string{"off, on"}},
		{"nptv6 without a prefix", "masquerade", "nptv6", false, []string{"nptv6=PREFIX"}},
		{"a prefix without nptv6", "nptv6", "2001:db8::/64", false, []string{"masquerade=nptv6"}},
		{"no prefix", "nptv6", "2001:db8::1/64", false, []string{"2001:db8::1/64", "prefix"}},
		{"host_ipv6 of the other family", "com.docker.network.host_ipv6", "192.0.2.1", false, []string{"192.0.2.1", "IPv6"}},
		{"host_ipv4 of the other family", "com.docker.network.host_ipv4", "::1", false, []string{"::1", "IPv4"}},
		{"host_access of a bridge", "host_access", "on", false, []string{"host_access", "bridge"}},
		{"empty value of ours", "inbound", "", false, []string{"inbound", "published"}},
		{"parent too long", "parent", "averyverylongname", false, []string{"parent", "15"}},
		{"parent with a slash", "parent", "../x", false, []string{"parent"}},
		{"a bridge that is a pattern to iptables", "com.docker.network.bridge.name", "e+", false, []string{"bridge.name", "e+", "end in '+'"}},
		{"a bridge with a quote", "com.docker.network.bridge.name", `a"b`, false, []string{"quotes"}},
		{"a bridge with a backslash", "com.docker.network.bridge.name", `a\b`, false, []string{"backslashes"}},
		{"a bridge that is an option to iptables", "com.docker.network.bridge.name", "-x", false, []string{"begin with '-'"}},
		{"a bridge that is a negation to iptables", "com.docker.network.bridge.name", "!x", false, []string{"'!'"}},
		{"MTU below IPv6's least", "com.docker.network.driver.mtu", "1279", false, []string{"1279", "1280"}},
		{"MTU no number", "com.docker.network.driver.mtu", "big", false, []string{"big"}},
		{"host binding of the other family", "com.docker.network.bridge.host_binding_ipv4", "::1", false, []string{"::1", "IPv4"}},
		{"bool", "com.docker.network.bridge.enable_icc", "maybe", false, []string{"maybe", "true, false"}},
		{"gateway mode", "com.docker.network.bridge.gateway_mode_ipv6", "bridge", false, []string{"bridge", "nat, routed, isolated, nat-unprotected"}},
		{"interface prefix too long", "com.docker.network.container_iface_prefix", "abcdefghijklmn", false, []string{"13"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseOptions(map[string]string{tc.key: tc.value})
			if err == nil {
				t.Fatalf("%s=%s was accepted", tc.key, tc.value)
			}
			if errors.Is(err, ErrNotAvailable) != tc.later {
				t.Errorf("%v: not available yet = %v, want %v", err, !tc.later, tc.later)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("mode", "bridge")
	f.Add("v6net.parent", "eth0")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := ParseOptions(map[string]string{key: value})
		if err == nil && (o.Mode != ModeBridge || o.MTU != 0 && o.MTU < MinMTU) {
			t.Errorf("%q=%q gave %+v", key, value, o)
		}
	})
}
