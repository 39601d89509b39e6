package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// explained is a host with networks of every kind.
func explained() Config {
	n := func(id byte, change func(*Network)) Network {
		text := strings.Repeat(string(rune(id)), 12)
		pool := "2001:db8:" + string(rune(id)) + "::/64"
		n := Network{
			ID: text, Bridge: "br-" + string(rune(id)), ICC: true, Isolate: true, Inbound: spec.InboundPublished,
			Pools:      prefixes(pool, "172.18."+map[byte]string{'a': "1", 'b': "2", 'c': "3", 'd': "4", 'e': "5", 'f': "6", '1': "7"}[id]+".0/24"),
			Containers: []Container{{Port: "v6nv" + string(rune(id)), MAC: "02:00:00:00:00:02"}},
		}
		for _, p := range n.Pools {
			a := p.Addr().Next().Next()
			n.Live, n.Containers[0].Addresses = append(n.Live, a), append(n.Containers[0].Addresses, a)
		}
		n.Masquerade = n.Pools[1:]
		change(&n)
		return n
	}
	return Config{Parents: []string{"eth0"}, Networks: []Network{
		n('a', func(n *Network) {
			n.Live = append(n.Live, address("2001:db8:a::3"))
			n.Containers = append(n.Containers, Container{Port: "v6nva3", MAC: "02:00:00:00:00:03", Addresses: []netip.Addr{address("2001:db8:a::3")}})
			n.Published = []Published{
				{Protocol: "tcp", Container: address("2001:db8:a::2"), Port: 80},
				{Protocol: "tcp", Container: address("172.18.1.2"), Port: 80, HostPort: 8080},
			}
		}),
		n('b', func(n *Network) {
			n.Inbound, n.ICC, n.Outbound4 = spec.InboundOpen, false, address("192.0.2.7")
			n.Published = []Published{{Protocol: "tcp", Container: address("172.18.2.2"), Port: 80, HostPort: 8383}}
		}),
		n('c', func(n *Network) { n.Internal, n.Isolated6 = true, true }),
		n('d', func(n *Network) { n.Inbound, n.Isolate = spec.InboundNone, false }),
		n('e', func(n *Network) { n.Isolate = false }),
		n('f', func(n *Network) {
			n.Pools[0], n.Live[0] = prefixes("fd00:f::/64")[0], address("fd00:f::2")
			n.Containers[0].Addresses[0] = n.Live[0]
			n.Translations = []spec.Translation{{Inside: n.Pools[0], Outside: prefixes("2001:db8:ffff::/64")[0]}}
			n.Published = []Published{{Protocol: "udp", Container: address("fd00:f::2"), Port: 53}}
			n.Isolate = false
		}),
		n('1', func(n *Network) { // masquerades both families: a host's port leads to the caller's
			n.Masquerade, n.Pools[0], n.Live[0] = prefixes("fd00:1::/64", "172.18.7.0/24"), prefixes("fd00:1::/64")[0], address("fd00:1::2")
			n.Containers[0].Addresses[0] = n.Live[0]
			n.Published = []Published{
				{Protocol: "tcp", Container: address("172.18.7.2"), Port: 80, HostPort: 8282},
				{Protocol: "tcp", Container: address("fd00:1::2"), Port: 80, HostPort: 8282},
			}
		}),
	}}
}

func TestExplain(t *testing.T) {
	local := []netip.Addr{address("192.0.2.1"), address("2001:db8::1"), address("2001:db8:c::1")}
	ways := map[netip.Addr]spec.Way{address("172.17.0.2"): {Link: "docker0", Bridge: true}, address("192.0.2.9"): {Link: "eth0"}, address("2001:db8:77::1"): {Link: "wg0"}}
	c := explained()
	c.Networks[0].Log = true // which decides nothing
	out, _ := c.Networks[5].Translations[0].Out(address("fd00:f::2"))
	public := out.String()
	const outside6, outside4 = "2001:db8::9", "192.0.2.9"
	for _, tc := range []struct {
		from, to, port string
		verdict        spec.Verdict
		says           []string // in the reason or the steps
		chain          string
	}{
		{outside6, "2001:db8:a::2", "80", spec.Accepted, []string{"published"}, "towards"},
		{outside6, "2001:db8:a::2", "81", spec.Dropped, []string{"not published", "aaaaaaaaaaaa"}, "inbound"},
		{outside6, "2001:db8:a::2", "80/udp", spec.Dropped, []string{"not published"}, "inbound"},
		{outside6, "2001:db8:a::2", "ping", spec.Accepted, []string{"echo"}, "inbound"},
		{outside6, "2001:db8:a::77", "80", spec.Dropped, []string{"nobody"}, "towards"},
		{outside4, "192.0.2.1", "8080", spec.Accepted, []string{"translated to port 80 of 172.18.1.2", "published"}, "towards"},
		{outside4, "192.0.2.1", "8282", spec.Accepted, []string{"translated to port 80 of 172.18.7.2"}, "towards"},
		{outside6, "2001:db8::1", "8282", spec.Accepted, []string{"translated to port 80 of fd00:1::2"}, "towards"},
		{outside6, "2001:db8::1", "8080", spec.Unjudged, []string{"host itself"}, ""},
		{outside4, "192.0.2.1", "22", spec.Unjudged, []string{"host itself"}, ""},
		{outside4, "172.18.1.2", "80", spec.Dropped, []string{"not published", "published at port 8080 of the host's addresses"}, "inbound"},
		{outside6, "2001:db8:b::2", "81", spec.Accepted, []string{"inbound=open"}, "inbound"},
		{outside6, "2001:db8:d::2", "81", spec.Dropped, []string{"inbound"}, "inbound"},
		{outside6, "2001:db8:d::2", "ping", spec.Dropped, nil, "inbound"},
		{outside6, "2001:db8:c::2", "81", spec.Dropped, []string{"internal"}, "towards"},
		{outside6, public, "53/udp", spec.Accepted, []string{"is fd00:f::2 inside", "published"}, "towards"},
		{outside6, "2001:db8:ffff::7", "53/udp", spec.Dropped, []string{"nptv6"}, "inside"},
		{outside6, "2001:db8:9999::1", "80", spec.Unjudged, []string{"neither"}, ""},
		{"2001:db8:a::2", outside6, "443", spec.Accepted, []string{"outside"}, "leaving"},
		{"172.18.1.2", outside4, "443", spec.Accepted, []string{"masquerade"}, "leaving"},
		{"172.18.2.2", outside4, "443", spec.Accepted, []string{"192.0.2.7"}, "leaving"},
		{"172.18.1.2", "172.17.0.2", "80", spec.Unjudged, []string{"behind docker0", "another engine's bridge"}, "leaving"},
		{"2001:db8:a::2", "2001:db8:77::1", "80", spec.Accepted, []string{"behind wg0", "outside"}, "leaving"},
		{"fe80::9", "2001:db8:a::2", "80", spec.Dropped, []string{"one link", "RFC 4291"}, ""},
		{"2001:db8:a::2", "fe80::9", "80", spec.Unjudged, []string{"one link", "stays on the caller's bridge"}, ""},
		{"fd00:f::2", outside6, "443", spec.Accepted, []string{public}, "leaving"},
		{public, outside6, "443", spec.Accepted, []string{public + " is fd00:f::2 inside", "is on network ffffffffffff", "goes on under " + public}, "leaving"},
		{public, "2001:db8:a::2", "80", spec.Accepted, []string{"published", public}, "towards"},
		{public, public, "53/udp", spec.Accepted, []string{public + " is fd00:f::2 inside"}, "within"},
		{"2001:db8:ffff::7", outside6, "443", spec.Dropped, []string{"inside", "antispoof"}, ""},
		{"2001:db8:c::2", outside6, "443", spec.Dropped, []string{"internal"}, "outward"},
		{"2001:db8:c::2", "2001:db8:c::1", "22", spec.Dropped, []string{"isolated"}, "input"},
		{"2001:db8:a::2", "2001:db8:b::2", "81", spec.Dropped, []string{"isolate"}, "between"},
		{"2001:db8:e::2", "2001:db8:a::2", "80", spec.Accepted, []string{"published"}, "towards"},
		{"fd00:f::2", "2001:db8:e::2", "81", spec.Accepted, []string{"isolate=off", public}, "between"},
		{"2001:db8:a::2", "2001:db8:a::3", "81", spec.Accepted, []string{"one bridge"}, ""},
		{"2001:db8:a::2", "2001:db8:a::77", "81", spec.Unjudged, []string{"nobody on the network has 2001:db8:a::77", "nobody answers"}, ""},
		{"172.18.1.2", "172.18.1.77", "ping", spec.Unjudged, []string{"nobody on the network has 172.18.1.77"}, ""},
		{"2001:db8:a::2", "2001:db8:a::2", "81", spec.Unjudged, []string{"does not leave the container"}, ""},
		{"2001:db8:b::2", "2001:db8:b::2", "81", spec.Unjudged, []string{"does not leave the container"}, ""},
		{"172.18.2.2", "192.0.2.1", "8383", spec.Accepted, []string{"translated to port 80 of 172.18.2.2", "published"}, "within"},
		{outside6, "fd00:f::2", "53/udp", spec.Accepted, []string{"published; but the answer comes from " + public, "no connection"}, "towards"},
		{outside6, "fd00:f::2", "ping", spec.Accepted, []string{"the answer comes from " + public}, "inbound"},
		{outside6, "fd00:f::2", "54/udp", spec.Dropped, []string{"not published"}, "inbound"},
		{"2001:db8:a::2", "fd00:f::2", "53/udp", spec.Accepted, []string{"the answer comes from " + public}, "towards"},
		{"fd00:f::2", "fd00:f::2", "53/udp", spec.Unjudged, []string{"does not leave"}, ""},
		{outside6, "2001:db8:d::2", "81", spec.Dropped, []string{"inbound=none"}, "inbound"},
		{outside6, "2001:db8:d::2", "ping", spec.Dropped, []string{"inbound=none"}, "inbound"},
		{"2001:db8:e::2", "2001:db8:d::2", "80", spec.Dropped, []string{"inbound=none"}, "between"},
		{"2001:db8:a::2", "2001:db8:b::2", "ping", spec.Dropped, []string{"isolate=on)"}, "between"},
		{outside4, "172.18.1.2", "ping", spec.Dropped, []string{"echo requests", "masqueraded"}, "inbound"},
		{outside4, "192.0.2.1", "ping", spec.Unjudged, []string{"for the host itself", "whether it answers"}, ""},
		{"2001:db8:b::2", "2001:db8:b::3", "81", spec.Dropped, []string{"enable_icc"}, ""},
		{"2001:db8:a::99", outside6, "443", spec.Dropped, []string{"antispoof"}, ""},
		{"2001:db8::1", "2001:db8:a::2", "81", spec.Unjudged, []string{"host itself"}, ""},
	} {
		call, err := spec.ParseCall(tc.from, tc.to, tc.port)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Explain(call, Host{Addresses: local, Ways: ways})
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != tc.verdict || got.Chain != tc.chain {
			t.Errorf("%s to %s %s: %s by chain %q, want %s by %q\n%+v", tc.from, tc.to, tc.port, got.Verdict, got.Chain, tc.verdict, tc.chain, got)
		}
		text := strings.Join(append(got.Steps, got.Why), "\n")
		for _, s := range tc.says {
			if !strings.Contains(text, s) {
				t.Errorf("%s to %s %s: %q is not said:\n%s", tc.from, tc.to, tc.port, s, text)
			}
		}
	}
}

// What a bridge forwards is judged where br_netfilter shows it to the rules, and then goes
// on as a bridge has it: what is translated, too.
func TestExplainShownFrames(t *testing.T) {
	c := explained()
	for _, tc := range []struct {
		from, to, port string
		host           Host
		verdict        spec.Verdict
		says, chain    string
	}{
		{"2001:db8:a::2", "2001:db8:a::3", "81", Host{ShownFrames6: true}, spec.Accepted, "br_netfilter shows", "within"},
		{"2001:db8:a::2", "2001:db8:a::3", "81", Host{ShownFrames4: true}, spec.Accepted, "without asking", ""},
		{"172.18.2.2", "192.0.2.1", "8383", Host{ShownFrames4: true}, spec.Dropped, "enable_icc=false): br_netfilter", ""},
		{"172.18.2.2", "192.0.2.1", "8383", Host{ShownFrames6: true}, spec.Accepted, "published", "within"},
		{"172.18.2.2", "192.0.2.1", "8080", Host{ShownFrames4: true}, spec.Accepted, "published", "towards"}, // another network's
		{"172.18.7.2", "192.0.2.1", "8282", Host{ShownFrames4: true}, spec.Accepted, "containers of the network reach each other", "within"},
		{"2001:db8:b::2", "2001:db8:b::3", "81", Host{ShownFrames6: true}, spec.Dropped, "enable_icc=false): the bridge", ""},
		{"2001:db8:a::99", "2001:db8:a::2", "80", Host{UnjudgedPorts: true, ShownFrames6: true}, spec.Dropped, "while the bridge forwards it", ""},
		{"2001:db8:a::99", "2001:db8:a::2", "80", Host{UnjudgedPorts: true}, spec.Unjudged, "nor does br_netfilter", ""},
		{"2001:db8:a::99", "2001:db8::9", "80", Host{UnjudgedPorts: true}, spec.Dropped, "where it comes to the host", ""},
		{"2001:db8:a::99", "2001:db8::9", "80", Host{UnjudgedPorts: true, UnjudgedSenders: true}, spec.Unjudged, "cannot filter on bridges", ""},
	} {
		call, err := spec.ParseCall(tc.from, tc.to, tc.port)
		if err != nil {
			t.Fatal(err)
		}
		tc.host.Addresses = []netip.Addr{address("192.0.2.1")}
		got, err := c.Explain(call, tc.host)
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != tc.verdict || got.Chain != tc.chain || !strings.Contains(got.Why, tc.says) {
			t.Errorf("%s to %s %s with %+v: %+v, want %s by %q because %q", tc.from, tc.to, tc.port, tc.host, got, tc.verdict, tc.chain, tc.says)
		}
	}
}

// A call enters or leaves a network whose prefix is translated, or stays on its bridge.
func TestTranslated(t *testing.T) {
	c := explained()
	out, _ := c.Networks[5].Translations[0].Out(address("fd00:f::2"))
	const outside6 = "2001:db8::9"
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"fd00:f::2", outside6, true}, {outside6, out.String(), true}, {"fd00:f::2", out.String(), true}, {"fd00:f::2", "2001:db8:a::2", true},
		{"fd00:f::2", "fd00:f::3", false}, {"2001:db8:a::2", outside6, false}, {outside6, "2001:db8:a::2", false},
	} {
		n := c.Translated(spec.Call{From: address(tc.from), To: address(tc.to)})
		if (n != nil) != tc.want || n != nil && n.Bridge != "br-f" {
			t.Errorf("from %s to %s: %v, want a translated network: %v", tc.from, tc.to, n, tc.want)
		}
	}
}

// What ends a packet's way has a reason in words.
func TestEveryDecisionHasAReason(t *testing.T) {
	all := tables(wanted{translation: true})
	for _, c := range append(all[0].Chains, all[1].Chains...) {
		if slices.Contains(append([]string{"prerouting", "output", "translate", "postrouting", "arriving"}, deciding...), c.Name) {
			continue
		}
		for _, rule := range c.Rules {
			_, to, _ := strings.Cut(rule, "goto ")
			ends := slices.Contains(deciding, to) || strings.HasSuffix(rule, "drop") || strings.HasSuffix(rule, "accept") ||
				strings.HasSuffix(rule, "return") && c.Name != "inside" && c.Name != "outside"
			if !ends {
				continue
			}
			e := explanation{}
			if why := e.reason(decision{chain: c.Name, rule: rule}); why == "no rule is about it" {
				t.Errorf("chain %s: no reason for %q", c.Name, rule)
			}
		}
	}
}

// Every rule of the table can be followed.
func TestEveryRuleIsUnderstood(t *testing.T) {
	c := explained()
	c.Networks[0].Log = true
	r, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	everything := map[string]string{}
	for _, name := range fields {
		everything[name] = "x"
	}
	for _, table := range r.Tables {
		if table.Family == FamilyBridge {
			continue
		}
		for _, c := range table.Chains {
			for _, rule := range c.Rules {
				table.rule(rule, &packet{fields: map[string]string{}})
				table.rule(rule, &packet{fields: everything})
			}
		}
	}
}
