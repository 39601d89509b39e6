package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/spec"
)

// containers are of web, with an address that is live without them, too.
func containers(rt *rapid.T, label string) Network {
	n := web()
	n.Live, n.Published, n.Containers = []netip.Addr{address("2001:db8:1::1")}, nil, nil
	for _, last := range rapid.SliceOfDistinct(rapid.IntRange(1, 5), rapid.ID).Draw(rt, label) {
		own := address(fmt.Sprintf("2001:db8:1::%d", last))
		n.Live = append(n.Live, own)
		n.Containers = append(n.Containers, Container{Port: fmt.Sprintf("v6nv%d", last), MAC: fmt.Sprintf("02:00:00:00:00:%02x", last), Addresses: []netip.Addr{own}})
		n.Published = append(n.Published, Published{Protocol: "tcp", Container: own, Port: rapid.Uint16Range(80, 82).Draw(rt, label+" port")})
		// The same key for whoever has it, and a value of its own.
		if !slices.ContainsFunc(n.Published, func(p Published) bool { return p.HostPort != 0 }) {
			private := address(fmt.Sprintf("172.18.0.%d", last))
			n.Published = append(n.Published, Published{Protocol: "udp", Container: private, Port: 53, HostPort: 53})
		}
	}
	return n
}

// A change of one network comes to the same as all built anew, beside another
// network and from any state between before and after.
func TestNetworkSince(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		before, after := containers(rt, "before"), containers(rt, "after")
		got, err := Build(Config{Networks: []Network{before, ula()}})
		if err != nil {
			rt.Fatal(err)
		}
		want, err := Build(Config{Networks: []Network{after, ula()}})
		if err != nil {
			rt.Fatal(err)
		}
		changes, err := after.Since(before)
		if err != nil {
			rt.Fatal(err)
		}
		if all, _ := want.Since(got); !cmp.Equal(all, changes) {
			rt.Errorf("changes (-by rulesets +by networks):\n%s", cmp.Diff(all, changes))
		}
		untouched := got.String()
		copied := got.Clone()
		copied.Change(changes)
		if got.String() != untouched {
			rt.Error("the change of a clone changed the original")
		}
		for range 2 { // again is no change
			got.Change(changes)
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				rt.Fatalf("ruleset (-built +changed):\n%s", diff)
			}
			if pending := got.Pending(changes); len(pending) != 0 {
				rt.Fatalf("pending after the change: %v", pending)
			}
		}
	})
}

// among are some networks in one /62, so that their pools join, with web's containers on the first.
func among(rt *rapid.T, label string, first Network) (all []Network) {
	for _, i := range rapid.SliceOfDistinct(rapid.IntRange(0, 5), rapid.ID).Draw(rt, label) {
		if i == 0 {
			all = append(all, first)
			continue
		}
		pool6, pool4 := netip.MustParsePrefix(fmt.Sprintf("fd00:0:0:%x::/64", 3+i)), netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i))
		all = append(all, Network{
			ID: fmt.Sprint(i), Bridge: fmt.Sprint("v6n", i), ICC: true, Inbound: spec.InboundPublished, Internal: i == 5,
			Pools: []netip.Prefix{pool6, pool4}, Masquerade: []netip.Prefix{pool6, pool4}, Autonomous: []netip.Prefix{pool6},
			Live: []netip.Addr{pool6.Addr().Next()}, Gateways: []netip.Addr{pool6.Addr().Next()}, Resolvers: []netip.Addr{pool6.Addr().Next()}, Asked: i == 4,
		})
	}
	return all
}

// Networks that come and go come to the same as all built anew, whoever else there is, and
// without the containers of those that stay.
func TestConfigSince(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := containers(rt, "containers")
		config := func(first Network, networks []Network) Config {
			networks = slices.Clone(networks)
			c := Config{Networks: networks, Parents: []string{"eth0"}}
			for i, n := range networks {
				if n.ID == first.ID {
					networks[i] = first
				} else {
					c.Parents = append(c.Parents, "eth"+n.ID)
				}
			}
			return c
		}
		before, after := among(rt, "before", first), among(rt, "after", first)
		has := func(networks []Network) bool {
			return slices.ContainsFunc(networks, func(n Network) bool { return n.ID == first.ID })
		}
		outline := first
		if has(before) && has(after) {
			outline.Live, outline.Published, outline.Containers = nil, nil, nil
		}
		changes, ok := config(outline, after).Since(config(outline, before))
		if !ok {
			rt.Fatal("elements alone cannot do it")
		}
		got, err := Build(config(first, before))
		if err != nil {
			rt.Fatal(err)
		}
		want, err := Build(config(first, after))
		if err != nil {
			rt.Fatal(err)
		}
		if all, _ := want.Since(got); !cmp.Equal(all, changes) {
			rt.Errorf("changes (-by rulesets +by configurations):\n%s", cmp.Diff(all, changes))
		}
		got.Change(changes)
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			rt.Fatalf("ruleset (-built +changed):\n%s", diff)
		}
	})
}

// Where more than elements changes, or something does not validate, all is to be built.
func TestConfigSinceSaysWhatItCannot(t *testing.T) {
	telling, translating, wrong := ula(), ula(), ula()
	telling.Log = true
	translating.Translations = []spec.Translation{{Inside: netip.MustParsePrefix("fd00:1::/64"), Outside: netip.MustParsePrefix("2001:db8:9::/64")}}
	wrong.Bridge = web().Bridge
	alone := Config{Networks: []Network{web()}}
	for name, n := range map[string]Network{"it alone tells": telling, "it alone translates": translating, "it has the bridge of another": wrong} {
		both := Config{Networks: []Network{web(), n}}
		if changes, ok := both.Since(alone); ok {
			t.Errorf("%s, and elements were to do it: %v", name, changes)
		}
		if changes, ok := alone.Since(both); ok {
			t.Errorf("it goes: %s, and elements were to do it: %v", name, changes)
		}
	}
	if _, ok := (Config{Networks: []Network{web(), ula()}}).Since(alone); !ok {
		t.Error("elements alone cannot add a network")
	}
}

func TestNetworkSinceRefusesNonsense(t *testing.T) {
	n := web()
	n.Published = []Published{{Protocol: "tcp", Container: address("172.18.0.5")}}
	if changes, err := n.Since(web()); err == nil {
		t.Errorf("port 0 was accepted: %v", changes)
	}
}
