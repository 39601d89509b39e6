package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
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

func TestNetworkSinceRefusesNonsense(t *testing.T) {
	n := web()
	n.Published = []Published{{Protocol: "tcp", Container: address("172.18.0.5")}}
	if changes, err := n.Since(web()); err == nil {
		t.Errorf("port 0 was accepted: %v", changes)
	}
}
