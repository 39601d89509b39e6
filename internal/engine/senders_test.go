package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A container sends from its own addresses and from the network's auxiliary ones;
// with antispoof=off, and of another network, from any.
func TestSenders(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	for i, free := range []bool{false, true} {
		n := spec.Network{ID: netID(i + 1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{
			Prefix: pfx([]string{"fd00:1::/64", "fd00:2::/64"}[i]), Aux: []netip.Addr{ip([]string{"fd00:1::99", "fd00:2::99"}[i])}}}}
		n.Options.AnySource = free
		must(t, h.engine.CreateNetwork(ctx, n))
		ep, err := h.engine.CreateEndpoint(ctx, spec.Endpoint{ID: epID(i + 1), NetworkID: n.ID, MAC: "02:00:00:00:00:05", IPv6: pfx([]string{"fd00:1::5/64", "fd00:2::5/64"}[i])})
		must(t, err)
		if ep.MAC != "02:00:00:00:00:05" {
			t.Fatalf("MAC address %s", ep.MAC)
		}
	}
	first, second := `"`+spec.VethName(epID(1))+`"`, `"`+spec.VethName(epID(2))+`"`
	for set, want := range map[string]string{
		"senders":   first + " . 02:00:00:00:00:05",
		"sources6":  first + " . fd00:1::5 . 02:00:00:00:00:05 " + first + " . fd00:1::99 . 02:00:00:00:00:05 " + first + " . fe80::ff:fe00:5 . 02:00:00:00:00:05",
		"claimed6":  first + " . fd00:1::5 " + first + " . fd00:1::99 " + first + " . fe80::ff:fe00:5",
		"unguarded": second,
	} {
		if got := h.elements(set); got != want {
			t.Errorf("%s: %s, want %s", set, got, want)
		}
	}
	must(t, h.engine.DeleteEndpoint(ctx, netID(1), epID(1)))
	must(t, h.engine.DeleteEndpoint(ctx, netID(2), epID(2)))
	if left := strings.TrimSpace(h.elements("senders") + h.elements("sources6") + h.elements("claimed6") + h.elements("unguarded")); left != "" {
		t.Errorf("with the containers gone: %s", left)
	}
}

// A container on several networks may send from what it has on each of them by all, for
// as long as it is there; internal ones are nobody's business elsewhere. What happens to
// the container of another sandbox changes nothing.
func TestSendersElsewhere(t *testing.T) {
	h := newHost(t)
	networks := map[int]spec.Network{}
	for i := range 4 {
		n, err := h.createNetwork(t.Context(), recipe{id: netID(i + 1), pools: []spec.PoolRequest{static(fmt.Sprintf("fd00:%d::/64", i+1))}, internal: i == 2})
		must(t, err)
		networks[i+1] = n
	}
	from := func(number int) string {
		port := `"` + spec.VethName(epID(number)) + `" . `
		var all []string
		for _, e := range h.ruleset.Set("sources6").Elements {
			if a, of := strings.CutPrefix(e.Key, port); of && !strings.HasPrefix(a, "fe80:") {
				address, _, _ := strings.Cut(a, " . ")
				all = append(all, address)
			}
		}
		return strings.Join(all, " ")
	}
	wants := func(when string, want ...string) {
		t.Helper()
		for i, w := range want {
			if got := from(i + 1); got != w {
				t.Errorf("%s: container of network %d sends from %q, want %q", when, i+1, got, w)
			}
		}
		for i := range 4 {
			if got := h.elements("claimed6"); strings.Count(got, fmt.Sprintf(" fd00:%d::2", i+1)) > 1 {
				t.Errorf("%s: claimed %s: an address is its own network's alone", when, got)
			}
		}
		h.consistent(t, when)
	}
	at := func(number int, sandbox string) *attachment {
		a := &attachment{id: epID(number), sandbox: sandbox}
		must(t, h.run(t.Context(), networks[number], a))
		return a
	}
	at(1, "/run/web")
	wants("one network", "fd00:1::2")
	two := at(2, "/run/web")
	wants("two networks", "fd00:1::2 fd00:2::2", "fd00:1::2 fd00:2::2")
	at(3, "/run/web")
	at(4, "/run/other")
	wants("an internal one, and another container", "fd00:1::2 fd00:2::2", "fd00:1::2 fd00:2::2", "fd00:1::2 fd00:2::2 fd00:3::2", "fd00:4::2")
	h.restart(t)
	wants("a start", "fd00:1::2 fd00:2::2", "fd00:1::2 fd00:2::2", "fd00:1::2 fd00:2::2 fd00:3::2", "fd00:4::2")
	must(t, h.engine.Leave(t.Context(), two.network, two.id))
	if got := from(1); got != "fd00:1::2" {
		t.Errorf("the other has left: the first sends from %q", got)
	}
	must(t, h.stop(t.Context(), *two))
	wants("one has gone", "fd00:1::2", "", "fd00:1::2 fd00:3::2", "fd00:4::2")

	// A front end that does not say that a container leaves.
	at(2, "/run/web")
	must(t, h.engine.DeleteEndpoint(t.Context(), two.network, two.id))
	if got := from(1); got != "fd00:1::2" {
		t.Errorf("the other is gone: the first sends from %q", got)
	}
}

// A port is said to be judged where the firewall judges frames and the network has them
// judged, and not any more after the next start with a firewall that does not.
func TestJudgedPorts(t *testing.T) {
	for _, free := range []bool{false, true} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.AnySource = free }})
		must(t, err)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		for _, unjudged := range []bool{false, true, false} {
			h.unjudgedPorts = unjudged
			h.restart(t)
			if port := h.links[spec.VethName(epID(1))]; port.Guarded == free || port.Judged != (!free && !unjudged) {
				t.Errorf("any source %t, a firewall that does not judge ports %t: guarded %t, judged %t", free, unjudged, port.Guarded, port.Judged)
			}
		}
	}
}
