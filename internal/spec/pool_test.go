package spec

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParsePoolRequest(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tc := range []struct {
		name           string
		v6             bool
		subnet, irange string
		raw            map[string]string
		want           PoolRequest
		refused        string // what the error must say; empty: accepted
	}{
		{name: "nothing asked", v6: true, want: PoolRequest{V6: true, Source: SourceAuto, Allocation: Sequential}},
		{name: "IPv4 ignores the IPv6 pool's source", raw: map[string]string{"source": "parent", "prefix_length": "80"},
			want: PoolRequest{Source: SourcePrivate, Allocation: Sequential}},
		{name: "static", v6: true, subnet: "2001:db8:1::5/64", irange: "2001:db8:1::/80",
			want: PoolRequest{V6: true, Prefix: prefix("2001:db8:1::/64"), Range: prefix("2001:db8:1::/80"), Source: SourceStatic, Allocation: Sequential}},
		{name: "static, and said so", v6: true, subnet: "2001:db8:1::/64", raw: map[string]string{"source": "static", "prefix_length": "64", "allocation": "random", "parent": "eth1"},
			want: PoolRequest{V6: true, Prefix: prefix("2001:db8:1::/64"), Source: SourceStatic, Bits: 64, Allocation: Random, Parent: "eth1"}},
		{name: "auto is no contradiction", v6: true, subnet: "2001:db8:1::/64", raw: map[string]string{"source": "auto"},
			want: PoolRequest{V6: true, Prefix: prefix("2001:db8:1::/64"), Source: SourceStatic, Allocation: Sequential}},
		{name: "IPv4 subnet beside the IPv6 pool's options", subnet: "10.0.0.0/24", raw: map[string]string{"source": "ula", "prefix_length": "80"},
			want: PoolRequest{Prefix: prefix("10.0.0.0/24"), Source: SourceStatic, Allocation: Sequential}},
		{name: "subnet and ULA", v6: true, subnet: "2001:db8:1::/64", raw: map[string]string{"source": "ula"}, refused: `option source: "ula" is not allowed`},
		{name: "subnet and parent", v6: true, subnet: "2001:db8:1::/64", raw: map[string]string{"source": "parent"}, refused: "--subnet 2001:db8:1::/64"},
		{name: "subnet of another length", v6: true, subnet: "2001:db8:1::/64", raw: map[string]string{"prefix_length": "80"}, refused: `option prefix_length: "80"`},
		{name: "all options", v6: true, raw: map[string]string{"source": "parent", "prefix_length": "96", "allocation": "random", "parent": "eth1"},
			want: PoolRequest{V6: true, Source: SourceParent, Bits: 96, Allocation: Random, Parent: "eth1"}},
		{name: "static without subnet", v6: true, raw: map[string]string{"source": "static"}, refused: "--subnet"},
		{name: "a lent prefix with a fallback", v6: true, raw: map[string]string{"source": "pd", "fallback": "ula"},
			want: PoolRequest{V6: true, Source: SourcePD, Allocation: Sequential, Fallback: FallbackULA}},
		{name: "the parent's own prefix with a fallback", v6: true, raw: map[string]string{"source": "parent", "fallback": "ula"},
			want: PoolRequest{V6: true, Source: SourceParent, Allocation: Sequential, Fallback: FallbackULA}},
		{name: "IPv4 ignores the IPv6 pool's fallback", raw: map[string]string{"source": "pd", "fallback": "ula"},
			want: PoolRequest{Source: SourcePrivate, Allocation: Sequential}},
		{name: "fallback of a prefix that stays", v6: true, raw: map[string]string{"source": "ula", "fallback": "ula"}, refused: "only with source=pd"},
		{name: "fallback beside a subnet", v6: true, subnet: "2001:db8:1::/64", raw: map[string]string{"fallback": "ula"}, refused: "only with source=pd"},
		{name: "another fallback", v6: true, raw: map[string]string{"fallback": "nat"}, refused: "none, ula"},
		{name: "unknown option", v6: true, raw: map[string]string{"size": "64"}, refused: "prefix_length"},
		{name: "too short for SLAAC and on-link use", v6: true, subnet: "2001:db8::/56", refused: "64 to 126"},
		{name: "no room", v6: true, subnet: "2001:db8::/127", refused: "64 to 126"},
		{name: "prefix_length out of range", v6: true, raw: map[string]string{"prefix_length": "48"}, refused: "48"},
		{name: "other family", v6: true, subnet: "10.0.0.0/24", refused: "family"},
		{name: "4in6", v6: true, subnet: "::ffff:10.0.0.0/120", refused: "family"},
		{name: "no prefix", v6: true, subnet: "2001:db8::1", refused: "2001:db8::1"},
		{name: "multicast", v6: true, subnet: "ff02::/64", refused: "unicast"},
		{name: "link-local", v6: true, subnet: "fe80::/64", refused: "unicast"},
		{name: "IPv4 for future use", subnet: "240.0.0.0/24", refused: "unicast"},
		{name: "IPv4 broadcast", subnet: "255.255.255.0/24", refused: "unicast"},
		{name: "IPv4 /32", subnet: "10.0.0.1/32", refused: "8 to 30"},
		{name: "range outside", v6: true, subnet: "2001:db8:1::/64", irange: "2001:db8:2::/80", refused: "not inside"},
		{name: "range without subnet", v6: true, irange: "2001:db8:2::/80", refused: "not inside"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParsePoolRequest(tc.v6, tc.subnet, tc.irange, tc.raw)
			switch {
			case tc.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("error %v does not say %q", err, tc.refused)
			case tc.refused == "" && got != tc.want:
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		strings.Repeat("a", 64): true,
		strings.Repeat("0", 12): true,
		"short":                 false,
		"":                      false,
		strings.Repeat("a", 65): false,
		"../../../../etc":       false,
		"ABCDEFABCDEF":          false,
	} {
		if err := CheckID("network", id); (err == nil) != ok {
			t.Errorf("CheckID(%q) = %v, want ok=%v", id, err, ok)
		}
	}
}

func TestNamesFitTheKernel(t *testing.T) {
	id := strings.Repeat("f", 64)
	for _, name := range []string{BridgeName(id), VethName(id), SandboxName(id)} {
		if len(name) > maxInterfaceName || !strings.HasPrefix(name, LinkPrefix) {
			t.Errorf("%s: %d characters, want at most %d and the prefix %s", name, len(name), maxInterfaceName, LinkPrefix)
		}
	}
}

func TestEndpointMACFollowsTheAddress(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::6")
	mac := EndpointMAC("n1", a)
	if mac.String() != EndpointMAC("n1", a).String() {
		t.Error("the same address must come with the same MAC again")
	}
	if mac.String() == EndpointMAC("n1", b).String() || mac.String() == EndpointMAC("n2", a).String() {
		t.Error("another address or network must have another MAC")
	}
	if mac[0]&1 != 0 || mac[0]&2 == 0 {
		t.Errorf("%s is not unicast and locally administered", mac)
	}
}
