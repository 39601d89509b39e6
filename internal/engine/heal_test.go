package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/spec"
)

// soon lets the time pass after which what failed is done again.
func (h *host) soon(t testing.TB) {
	t.Helper()
	h.engine.DoChores(t.Context(), time.Now().Add(time.Second))
}

// errors are what Status shows as degraded: the host's error, and each network's.
func (h *host) errors(t reporter) []string {
	t.Helper()
	status := h.engine.Status(t.Context())
	var out []string
	if status.Error != "" {
		out = append(out, "host: "+status.Error)
	}
	for _, n := range status.Networks {
		if n.Error != "" {
			out = append(out, spec.ShortID(n.ID)+": "+n.Error)
		}
	}
	return out
}

// Something that stays broken while a container is made and taken back: nothing is
// forgotten that is still there, and all goes once it works again.
func TestBrokenUndo(t *testing.T) {
	for _, broken := range []string{"firewall: update", "conntrack: forget", "link: remove", "journal: delete endpoint"} {
		t.Run(broken, func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			before := h.snapshot()
			ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
			must(t, err)
			h.broken = broken
			if broken != "firewall: update" {
				_, err = h.engine.CreateEndpoint(t.Context(), ep)
				must(t, err)
			} else if _, err := h.engine.CreateEndpoint(t.Context(), ep); err == nil {
				t.Fatal("an endpoint without its rules")
			}
			if err := h.engine.DeleteEndpoint(t.Context(), n.ID, ep.ID); err == nil {
				t.Error("deleted, and nobody looks after what is left")
			}
			if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], spec.ShortID(ep.ID)) {
				t.Errorf("degraded: %q, want the network with its endpoint", got)
			}
			if _, left := h.links[spec.VethName(ep.ID)]; left && broken != "link: remove" {
				t.Error("the link was left, though it could be removed")
			}
			h.soon(t) // in vain
			h.broken = ""
			must(t, gone(h.engine.ReleaseAddress(t.Context(), ep.IPv6.Masked().String(), ep.IPv6.Addr())))
			must(t, gone(h.engine.ReleaseAddress(t.Context(), ep.IPv4.Masked().String(), ep.IPv4.Addr())))
			h.settle(t)
			if got := h.errors(t); len(got) != 0 {
				t.Errorf("degraded once it works again: %q", got)
			}
			sameWorld(t, "healed", before, h.snapshot())
		})
	}
}

// What failed is done again, and is shown until it is done.
func TestHeals(t *testing.T) {
	for _, tc := range []struct {
		name, broken string
		make         func(t *testing.T, h *host)
		shown        string
	}{
		{name: "a bridge at the start", broken: "link: bridge", shown: "bridge", make: func(t *testing.T, h *host) {
			_, err := h.createNetwork(t.Context(), recipe{id: netID(1), internal: true, pools: []spec.PoolRequest{ula6()}})
			must(t, err)
			h.remove(spec.BridgeName(netID(1)))
		}},
		{name: "the firewall at the start", broken: "firewall: apply", shown: "host: ", make: func(t *testing.T, h *host) {
			_, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			h.ruleset = nil
		}},
		{name: "a sysctl at the start", broken: "sysctl: set net/ipv6/conf/eth0", shown: "host: ", make: func(t *testing.T, h *host) {
			_, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			h.reboot("another boot")
			h.set(forwarding6, "0")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			tc.make(t, h)
			h.broken = tc.broken
			must(t, h.start(t.Context()))
			if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], tc.shown) {
				t.Errorf("degraded: %q, want %q", got, tc.shown)
			}
			if h.ruleset == nil && tc.broken != "firewall: apply" {
				t.Error("one failure kept the firewall from being set up")
			}
			h.soon(t)
			if got := h.errors(t); len(got) != 1 {
				t.Errorf("degraded while it is broken: %q", got)
			}
			h.broken = ""
			h.engine.LinkChanged(t.Context(), "eth7", true, false) // anything may have helped
			h.soon(t)
			if got := h.errors(t); len(got) != 0 {
				t.Errorf("degraded once it works again: %q", got)
			}
			h.consistent(t, "healed")
		})
	}
}

// A network whose deletion failed is shown as that, and goes by itself.
func TestFailedDeletionHeals(t *testing.T) {
	h := newHost(t)
	pristine := h.snapshot()
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.releasePools(t.Context(), n))
	h.broken = "link: remove"
	if err := h.engine.DeleteNetwork(t.Context(), n.ID); err == nil {
		t.Fatal("deleted with its bridge left")
	}
	if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], "link: remove") {
		t.Errorf("degraded: %q", got)
	}
	h.broken = ""
	h.soon(t)
	sameWorld(t, "deleted in the end", pristine, h.snapshot())
}

// A host that forwards before its rules are there lets everybody in.
func TestRulesComeBeforeForwarding(t *testing.T) {
	h := newHost(t)
	h.disarm()
	_, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	if !h.calledInOrder("firewall: apply", "sysctl: set "+forwarding6) {
		t.Errorf("calls %q", h.calls)
	}
}

// A host whose rules cannot be put in place does not forward: nobody would be kept out.
func TestNoForwardingWithoutRules(t *testing.T) {
	h := newHost(t)
	h.disarm()
	_, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	h.sysctls[forwarding6], h.sysctls[forwarding4] = "0", "0" // as after a boot
	h.broken = "firewall: apply"
	h.engine.Resync(t.Context())
	if h.sysctls[forwarding6] != "0" || h.sysctls[forwarding4] != "0" {
		t.Errorf("forwarding is %s and %s with no rules in place", h.sysctls[forwarding6], h.sysctls[forwarding4])
	}
	h.broken = ""
	h.engine.Resync(t.Context())
	if h.sysctls[forwarding6] != "1" || h.sysctls[forwarding4] != "1" {
		t.Errorf("forwarding is %s and %s with rules, want 1", h.sysctls[forwarding6], h.sysctls[forwarding4])
	}
}

func TestMTUFollowsTheParent(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	fixed := dual(2)
	fixed.options = func(o *spec.Options) { o.MTU = 1450 }
	fixed.pools = []spec.PoolRequest{ula6()}
	other, err := h.createNetwork(t.Context(), fixed)
	must(t, err)
	eth0 := h.links["eth0"]
	eth0.MTU = 1400
	h.links["eth0"] = eth0
	h.engine.LinkChanged(t.Context(), "eth0", true, false)
	if got := h.links[n.Bridge()].MTU; got != 1400 {
		t.Errorf("MTU of the bridge is %d, want the parent's", got)
	}
	if got := h.advertised[n.Bridge()].MTU; got != 1400 {
		t.Errorf("advertised MTU is %d, want the parent's", got)
	}
	if got := h.links[other.Bridge()].MTU; got != 1450 {
		t.Errorf("MTU of the other bridge is %d, want the one that the user named", got)
	}
}

// Leases that no container came to use are taken back while the daemon runs.
func TestLooseLeasesAreTakenBack(t *testing.T) {
	h := newHost(t)
	r := dual(1)
	n, err := h.createNetwork(t.Context(), r)
	must(t, err)
	used := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, used))
	loose := next(t, h, pool4)
	var dropped netip.Addr
	for range 3 { // a container that went while its engine died
		a := &attachment{id: epID(2)}
		must(t, h.run(t.Context(), n, a))
		h.moveOut(a.id)
		must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, a.id))
		dropped = a.leases[pool4]
	}
	foreign, err := h.engine.RequestPool(t.Context(), static("2001:db8:fe::/64"))
	must(t, err)
	theirs := next(t, h, foreign.ID)
	h.settle(t)
	for _, tc := range []struct {
		what, pool string
		addr       netip.Addr
		kept       bool
	}{
		{"a container's", pool4, used.leases[pool4], true},
		{"nobody's", pool4, loose, false},
		{"a container's that went", pool4, dropped, false},
		{"another driver's", foreign.ID, theirs, true},
		{"the gateway's", pool4, n.IPv4[0].Gateway, true},
	} {
		if _, kept := h.world.journal["lease "+tc.pool+" "+tc.addr.String()]; kept != tc.kept {
			t.Errorf("%s lease %s is kept: %t", tc.what, tc.addr, kept)
		}
	}
	h.consistent(t, "after the sweep")
}

// An endpoint that is made, or left, and in no container for a minute goes, also after a
// restart, and its addresses after another one: Docker was killed and has forgotten it.
func TestEndpointThatNobodyJoins(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			pass := func(d time.Duration) { h.engine.DoChores(t.Context(), time.Now().Add(d)) }
			runs := &attachment{id: epID(1)}
			must(t, h.run(t.Context(), n, runs))
			before := h.snapshot()
			made := &attachment{id: epID(2)}
			ep, err := h.lease(t.Context(), n, made)
			must(t, err)
			_, err = h.engine.CreateEndpoint(t.Context(), ep)
			must(t, err)
			left := &attachment{id: epID(3)}
			must(t, h.run(t.Context(), n, left))
			must(t, h.engine.Leave(t.Context(), n.ID, left.id))
			h.moveOut(left.id)
			if restart {
				h.restart(t)
			}
			pass(engine.SettleTime / 2)
			for _, a := range []*attachment{runs, made, left} {
				if _, err := h.engine.Endpoint(t.Context(), n.ID, a.id); err != nil {
					t.Errorf("after half a minute %v", err)
				}
			}
			pass(engine.SettleTime + time.Second)
			pass(2*engine.SettleTime + time.Second)
			sameWorld(t, "after a minute, and another one for the addresses", before, h.snapshot())
			must(t, h.stop(t.Context(), *made)) // a call that does come after all
			must(t, h.stop(t.Context(), *runs))
			h.consistent(t, "afterwards")
		})
	}
}

// An address that was taken back rests: the container engine may release it yet,
// and must not hit the next one who has it.
func TestSweptAddressesRest(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	h.moveOut(a.id) // while no daemon runs
	h.restart(t)
	b := &attachment{id: epID(2)}
	ep, err := h.lease(t.Context(), n, b)
	must(t, err)
	_, err = h.engine.CreateEndpoint(t.Context(), ep)
	must(t, err)
	for pool, addr := range a.leases { // the late call
		must(t, gone(h.engine.ReleaseAddress(t.Context(), pool, addr)))
	}
	if _, err := h.engine.Join(t.Context(), n.ID, b.id, "/run/sandbox"); err != nil {
		t.Errorf("a late release hit the next container: %v", err)
	}
	h.moveIn(b.id)
	h.moveOut(b.id) // it ends, too, while no daemon runs
	// Whoever names an address gets it, and an endpoint that had it takes it again.
	c := &attachment{id: epID(3)}
	must(t, h.run(t.Context(), n, c))
	h.moveOut(c.id)
	h.restart(t)
	h.consistent(t, "with resting addresses")
	if _, err := h.engine.RequestAddress(t.Context(), pool4, c.leases[pool4], false); err != nil {
		t.Errorf("a resting address that was asked for by name: %v", err)
	}
	h.engine.DoChores(t.Context(), time.Now().Add(engine.RestTime))
	if got := h.engine.Status(t.Context()).Pools[0].Leases; got != 1 {
		t.Errorf("%d leases of the IPv4 pool, want the gateway's: no endpoint came", got)
	}
}

// A small pool does not run dry because its addresses rest, and after a boot of
// the machine containers have the same addresses again.
func TestRestingAddressesAreNotLost(t *testing.T) {
	small := recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/125")}}
	for _, boot := range []string{"", "another boot"} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), small)
		must(t, err)
		var first []netip.Addr
		for i := range 6 {
			a := &attachment{id: epID(i)}
			must(t, h.run(t.Context(), n, a))
			first = append(first, a.leases[n.IPv6[0].Prefix.String()])
			h.moveOut(a.id)
		}
		if boot != "" {
			h.reboot(boot)
		}
		h.restart(t)
		for i := range first {
			a := &attachment{id: epID(10 + i)}
			must(t, h.run(t.Context(), n, a))
			if got := a.leases[n.IPv6[0].Prefix.String()]; boot != "" && got != first[i] {
				t.Errorf("container %d has %s after a boot, had %s", i, got, first[i])
			}
		}
	}
}
