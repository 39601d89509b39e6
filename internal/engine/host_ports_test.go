package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// web80 is a port of a container, as `-p 8080:80` asks for it.
var web80 = spec.Port{Protocol: "tcp", Port: 80, HostPort: 8080}

// boundTo is a dual-stack network on a delegation, whose IPv4 ports are published on
// one address of the host's.
func boundTo(t *testing.T, h *host, number int, host4 string) spec.Network {
	t.Helper()
	n, err := h.createNetwork(t.Context(), recipe{id: netID(number), pools: []spec.PoolRequest{auto4(), pd6(spec.FallbackULA)},
		options: func(o *spec.Options) { o.HostBinding4 = ip(host4) }})
	must(t, err)
	return n
}

func (h *host) ports(t reporter, number int) string {
	for _, n := range h.engine.Status(t.Context()).Networks {
		for _, ep := range n.Endpoints {
			if ep.ID == epID(number) {
				return fmt.Sprint(ep.Ports)
			}
		}
	}
	return ""
}

// mappings are the elements of a map.
func (h *host) mappings(set string) string {
	var all []string
	for _, e := range h.ruleset.Set(set).Elements {
		all = append(all, e.String())
	}
	return strings.Join(all, ", ")
}

// Two containers may have the same host port while nothing is translated to them; of
// one host port on every address only one has it. The other is degraded, alone, and
// gets it when it is free.
func TestFallbackCollides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
		one, two := boundTo(t, h, 1, "192.0.2.1"), boundTo(t, h, 2, "192.0.2.2")
		everywhere := web80
		everywhere.HostIP = ip("::") // else a port is IPv4's alone, where the network's are bound to an address of that
		a, b := &attachment{id: epID(1), ports: []spec.Port{web80, everywhere}}, &attachment{id: epID(2), ports: []spec.Port{web80, everywhere}}
		must(t, h.run(t.Context(), one, a))
		must(t, h.run(t.Context(), two, b))
		before := [2]string{h.ports(t, 1), h.ports(t, 2)}

		h.lend(t)
		ula := h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.ULA
		if got, want := h.mappings("ports6"), fmt.Sprintf("tcp . 8080 : %s . 80", spec.Renumbered(ip("2001:db8::2"), ula)); got != want {
			t.Errorf("translated %s, want %s", got, want)
		}
		if got, want := h.mappings("addresses4"), "192.0.2.1 . tcp . 8080 : 172.24.154.2 . 80, 192.0.2.2 . tcp . 8080 : 172.24.155.2 . 80"; got != want {
			t.Errorf("translated %s, want %s", got, want)
		}
		errs := h.errors(t)
		if len(errs) != 1 || !strings.Contains(errs[0], spec.ShortID(epID(2))) || !strings.Contains(errs[0], "port 80/tcp is not published by IPv6: host port 8080/tcp is published by endpoint "+spec.ShortID(epID(1))) {
			t.Errorf("degraded: %q", errs)
		}
		h.consistent(t, "without a prefix")
		three, err := h.createNetwork(t.Context(), recipe{id: netID(3), pools: []spec.PoolRequest{ula6()}})
		must(t, err)
		must(t, h.run(t.Context(), three, &attachment{id: epID(3), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8081}}}))
		h.restart(t)
		if got := h.errors(t); len(got) != 1 {
			t.Errorf("degraded after a start: %q", got)
		}

		must(t, h.stop(t.Context(), *a))
		h.pass(t, 2*time.Minute)
		if got := h.errors(t); len(got) != 0 {
			t.Errorf("degraded when the port is free: %q", got)
		}
		if got := h.mappings("ports6"); !strings.Contains(got, "tcp . 8080 : ") {
			t.Errorf("translated %s: the second container has not got the port", got)
		}
		must(t, h.run(t.Context(), one, &attachment{id: epID(1)}))

		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		if got := h.ports(t, 2); got != before[1] {
			t.Errorf("ports %s with a prefix again, were %s", got, before[1])
		}
		if got := h.elements("published6"); !strings.Contains(got, "2001:db8:b000:1::2 . tcp . 80") {
			t.Errorf("opened %s", got)
		}
		h.consistent(t, "with a prefix again")
	})
}

// Where nothing is translated the record keeps which host port was wanted, for when it is.
func TestWantedHostPortIsKept(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{pd6(spec.FallbackULA)}})
			must(t, err)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: []spec.Port{web80, {Protocol: "udp", Port: 53, HostPort: 5300, HostEnd: 5310}, {Protocol: "tcp", Port: 90}}}))
			if got := h.mappings("ports6"); got != "" {
				t.Fatalf("translated %s", got)
			}
			if restart {
				h.restart(t)
			}
			h.disarm()
			h.lend(t)
			own := spec.Renumbered(ip("2001:db8::2"), h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.ULA)
			want := fmt.Sprintf("tcp . 49152 : %[1]s . 90, tcp . 8080 : %[1]s . 80, udp . 5300 : %[1]s . 53", own)
			if got := h.mappings("ports6"); got != want {
				t.Errorf("translated %s, want %s", got, want)
			}
			if !h.calledInOrder("firewall: apply", fmt.Sprintf("conntrack: forget ports [[::]:5300->[%s]:53/udp]", own)) {
				t.Errorf("calls %q: who asked too early goes on to the host itself", h.calls)
			}
			before := h.mappings("ports6")
			h.lend(t, delegated("fd00:dead::/56", time.Hour, 2*time.Hour)) // a local one, which is translated, too
			if got, want := h.mappings("ports6"), strings.ReplaceAll(before, own.String(), "fd00:dead::2"); got != want {
				t.Errorf("translated %s, want %s: no host port leads to a former address", got, want)
			}
			h.consistent(t, "translated")
		})
	}
}

// Nothing is open to all that was published on one address of the host's.
func TestHostAddressIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("fd00:dead::/56", time.Hour, 2*time.Hour)}
		n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{pd6(spec.FallbackNone)}})
		must(t, err)
		only := web80
		only.HostIP = ip("2001:db8:1::5")
		must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: []spec.Port{only}}))
		h.lend(t, delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour))
		if got := h.elements("published6"); got != "" {
			t.Errorf("opened to all: %s", got)
		}
		if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], "2001:db8:1::5") {
			t.Errorf("degraded: %q", got)
		}
	})
}

// An earlier daemon's journal has one host port twice: the rules are made all the same.
func TestJournalWithACollision(t *testing.T) {
	h := newHost(t)
	for i, id := range []string{"1", "2"} {
		n, err := h.createNetwork(t.Context(), recipe{id: netID(i + 1), pools: []spec.PoolRequest{ula6()}})
		must(t, err)
		port := web80
		port.HostPort += uint16(i)
		must(t, h.run(t.Context(), n, &attachment{id: epID(i + 1), ports: []spec.Port{port}}))
		key := journalKey("endpoint", epID(i+1))
		record := strings.ReplaceAll(h.world.journal[key], "8081", "8080")
		record, _, _ = strings.Cut(record, `,"asked":`)
		if record += "}"; !strings.Contains(record, "8080") || strings.Contains(record, "asked") {
			t.Fatalf("record %s: %s", id, record)
		}
		h.world.journal[key] = record
	}
	h.restart(t)
	if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], "8080/tcp") {
		t.Errorf("degraded: %q", got)
	}
	if got := len(h.ruleset.Set("ports6").Elements); got != 1 {
		t.Errorf("%d translated ports", got)
	}
}

// A container that starts on an IPv6-only translated network while nothing is lent has
// its host port as soon as there is a prefix, with Docker's calls and with Podman's.
func TestHostPortWaitsForAPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
		n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{pd6(spec.FallbackNone)},
			options: func(o *spec.Options) { o.Masquerade = spec.SwitchOn }})
		must(t, err)
		h.pass(t, 2*time.Hour)
		h.lend(t)
		if got := h.notes(t); !strings.Contains(got, "lends no prefix") {
			t.Fatalf("notes %q", got)
		}
		must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}))
		h.restart(t)
		if strings.Contains(h.ruleset.String(), "tcp . 8080 :") {
			t.Errorf("the host port leads somewhere while there is no prefix:\n%s", h.ruleset)
		}
		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		if want := "tcp . 8080 : 2001:db8:b000::2 . 80"; !strings.Contains(h.ruleset.String(), want) {
			t.Errorf("the ruleset lacks %s:\n%s", want, h.ruleset)
		}
		if got := h.errors(t); len(got) > 0 {
			t.Errorf("degraded: %q", got)
		}
		h.consistent(t, "with a prefix")
	})
}
