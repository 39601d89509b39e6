package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// site is a host with so many networks in one prefix, each with so many containers that
// publish a port.
func site(t testing.TB, networks, containers int) *host {
	t.Helper()
	h := newHost(t)
	for i := range networks {
		n, err := h.createNetwork(t.Context(), inTheSameSite(i))
		must(t, err)
		for c := range containers {
			a := &attachment{id: epID(i*containers + c), ports: []spec.Port{{Protocol: "tcp", Port: 80}}}
			must(t, h.run(t.Context(), n, a))
		}
	}
	h.disarm()
	return h
}

// inTheSameSite is a network whose pools are beside those of the next one, so that the
// ruleset has both as one.
func inTheSameSite(i int) recipe {
	return recipe{id: netID(i + 1), pools: []spec.PoolRequest{static(fmt.Sprintf("2001:db8:ff:%x::/64", i)), static(fmt.Sprintf("10.7.%d.0/24", i))}}
}

// A network that comes or goes sends its own elements and what it changes of prefixes that
// all networks have together, whatever containers there are; and the rules are those that
// are made when all of it is applied.
func TestNetworkComesAndGoesWithItsOwnRules(t *testing.T) {
	var sent []int
	for _, containers := range []int{0, 5} {
		h := site(t, 3, containers)
		changed := func(what string, do func()) {
			t.Helper()
			h.disarm()
			before := h.ruleset.Clone()
			do()
			applied := slices.DeleteFunc(slices.Clone(h.calls), func(call string) bool { return !strings.HasPrefix(call, "firewall: ") })
			if !slices.Equal(applied, []string{"firewall: update networks"}) {
				t.Errorf("%s beside %d containers: %q, want one change of elements", what, containers, applied)
			}
			changes, ok := h.ruleset.Since(before)
			if !ok {
				t.Fatalf("%s: the ruleset is another one", what)
			}
			elements := 0
			for _, c := range changes {
				elements += len(c.Delete) + len(c.Add)
			}
			sent = append(sent, elements)
			now := h.ruleset.String()
			h.engine.Resync(t.Context())
			if all := h.ruleset.String(); now != all {
				t.Errorf("%s beside %d containers:\n%s\nwant\n%s", what, containers, now, all)
			}
		}
		changed("a network comes", func() {
			_, err := h.createNetwork(t.Context(), inTheSameSite(3))
			must(t, err)
		})
		changed("a network goes", func() { must(t, h.engine.DeleteNetwork(t.Context(), netID(4))) })
	}
	if len(sent) != 4 || !slices.Equal(sent[:2], sent[2:]) || sent[0] == 0 || sent[0] > 30 {
		t.Errorf("elements that came, that went, and the same beside containers: %v, want as many beside them, and few", sent)
	}
}

// What a network changes beyond elements has all of the ruleset applied.
func TestNetworkComesWithAllRules(t *testing.T) {
	for name, options := range map[string]func(*spec.Options){
		"it tells of what is denied": func(o *spec.Options) { o.LogDenied = true },
		"its prefix is translated": func(o *spec.Options) {
			o.Masquerade, o.NPTv6 = spec.SwitchNPTv6, pfx("2001:db8:fe::/64")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := site(t, 2, 1)
			r := recipe{id: netID(9), pools: []spec.PoolRequest{static("fd00:9::/64")}, options: options}
			_, err := h.createNetwork(t.Context(), r)
			must(t, err)
			if !slices.Contains(h.calls, "firewall: apply") {
				t.Errorf("calls %q", h.calls)
			}
			now := h.ruleset.String()
			h.engine.Resync(t.Context())
			if all := h.ruleset.String(); now != all {
				t.Errorf("rules\n%s\nwant\n%s", now, all)
			}
		})
	}
}

// A network that could not be taken away has no rules any more, and is there: what comes next
// puts all of them in place.
func TestRulesAfterANetworkThatStays(t *testing.T) {
	h := site(t, 3, 1)
	h.broken = "link: remove " + spec.BridgeName(netID(1))
	if err := h.engine.DeleteNetwork(t.Context(), netID(1)); err == nil {
		t.Fatal("its bridge stays, and that is no error")
	}
	h.disarm()
	_, err := h.createNetwork(t.Context(), inTheSameSite(3))
	must(t, err)
	if !slices.Contains(h.calls, "firewall: apply") {
		t.Errorf("calls %q, want all rules applied", h.calls)
	}
}

// BenchmarkNetwork is what a network's creation and removal cost beside others with ten
// containers each, the kernel and the disk left aside.
func BenchmarkNetwork(b *testing.B) {
	for _, networks := range []int{10, 100} {
		b.Run(fmt.Sprintf("networks=%d", networks), func(b *testing.B) {
			h := site(b, networks, 10)
			r := inTheSameSite(networks)
			b.ReportAllocs()
			for b.Loop() {
				n, err := h.createNetwork(b.Context(), r)
				must(b, err)
				must(b, h.deleteNetwork(b.Context(), n))
				h.disarm()
			}
		})
	}
}
