package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

var pdOnEth0 = spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}

// pd6 asks for a pool of a delegation.
func pd6(fallback spec.Fallback) spec.PoolRequest {
	return spec.PoolRequest{V6: true, Source: spec.SourcePD, Allocation: spec.Sequential, Fallback: fallback}
}

// delegated is a prefix of the test's server, preferred and valid for so long.
func delegated(p string, preferred, valid time.Duration) spec.Delegation {
	now := time.Now().UTC().Truncate(time.Second)
	return spec.Delegation{Source: spec.SourcePD, Parent: "eth0", Prefix: pfx(p), Origin: "the test's server",
		Preferred: now.Add(preferred), Valid: now.Add(valid)}
}

// lend has the server of eth0 lend this from now on, and tells the engine.
func (h *host) lend(t reporter, lent ...spec.Delegation) {
	t.Helper()
	h.lentTo[pdOnEth0] = append([]spec.Delegation{}, lent...)
	h.engine.DelegationsChanged(t.Context(), spec.SourcePD, "eth0", lent)
}

// pass lets time pass, and what is due be done.
func (h *host) pass(t reporter, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	h.engine.DoChores(t.Context(), time.Now())
}

// onDelegation is a network on a part of 2001:db8:a000::/56, dual-stack.
func onDelegation(t reporter, h *host, number int, fallback spec.Fallback) spec.Network {
	t.Helper()
	if h.lentTo[pdOnEth0] == nil {
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
	}
	n, err := h.createNetwork(t.Context(), recipe{id: netID(number), pools: []spec.PoolRequest{auto4(), pd6(fallback)}})
	must(t, err)
	return n
}

var cloudOnEth0 = spec.SourceOnLink{Source: spec.SourceCloud, Link: "eth0"}

// onLinkDelegation is a prefix of the test's cloud, for whose addresses somebody has to answer.
func onLinkDelegation(p string, preferred time.Duration) spec.Delegation {
	d := delegated(p, preferred, 4*time.Hour)
	d.Source, d.OnLink = spec.SourceCloud, true
	return d
}

// assign has the cloud assign this from now on, and tells the engine.
func (h *host) assign(t reporter, lent ...spec.Delegation) {
	t.Helper()
	h.lentTo[cloudOnEth0] = lent
	h.engine.DelegationsChanged(t.Context(), spec.SourceCloud, "eth0", lent)
}

// onCloud is a network on a prefix that the cloud has assigned, dual-stack.
func onCloud(t reporter, h *host, prefix string) spec.Network {
	t.Helper()
	h.lentTo[cloudOnEth0] = []spec.Delegation{onLinkDelegation(prefix, 3*time.Hour)}
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(),
		{V6: true, Source: spec.SourceCloud, Allocation: spec.Sequential}}})
	must(t, err)
	return n
}

// answered reports whether an address of a prefix is answered for.
func (h *host) answered(p string) (yes bool) {
	for on := range h.proxied {
		yes = yes || pfx(p).Contains(ip(strings.Fields(on)[1]))
	}
	return yes
}

// current is the prefix that a network uses; zero: none.
func (h *host) current(t reporter, number int) netip.Prefix {
	t.Helper()
	for _, n := range h.engine.Status(t.Context()).Networks {
		if n.ID == netID(number) {
			now, _ := n.IPv6[0].Lent.Current()
			return now.Prefix
		}
	}
	t.Fatalf("network %d is unknown", number)
	return netip.Prefix{}
}

// inSandbox are the IPv6 addresses of a container's link.
func (h *host) inSandbox(number int) []string { return h.sandboxes[spec.EndpointAlias(epID(number))] }

func wantSame(t reporter, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, equateNetip); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (h *host) notes(t reporter) string {
	var all []string
	for _, n := range h.engine.Status(t.Context()).Networks {
		all = append(all, n.Notes...)
	}
	return strings.Join(all, "\n")
}

func TestRenumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		bridge := spec.BridgeName(n.ID)
		a := &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}
		must(t, h.run(t.Context(), n, a))
		wantSame(t, "in the container", []string{"2001:db8:a000::2/64"}, h.inSandbox(1))
		wantSame(t, "unreachable", map[netip.Prefix]bool{pfx("2001:db8:a000::/56"): true}, h.unreachable)

		until := time.Now().Add(30 * time.Minute).UTC().Truncate(time.Second).Format(time.RFC3339)
		h.lend(t, delegated("2001:db8:a000::/56", 0, 30*time.Minute), delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		wantSame(t, "in the container", []string{"2001:db8:a000::2/64 former until " + until, "2001:db8:b000::2/64"}, h.inSandbox(1))
		wantSame(t, "unreachable", map[netip.Prefix]bool{pfx("2001:db8:a000::/56"): true, pfx("2001:db8:b000::/56"): true}, h.unreachable)
		if got, want := h.links[bridge].Addrs, "["+nextHop+"/64 2001:db8:b000::1/64 172.24.154.1/24 2001:db8:a000::1/64]"; got != want {
			t.Errorf("bridge has %s, want %s", got, want)
		}
		wantSame(t, "addresses of the bridge that the host does not send from", "[2001:db8:a000::1/64]", h.links[bridge].Former)
		for _, element := range []string{"2001:db8:a000::2,", "2001:db8:b000::2,", "2001:db8:a000::2 . tcp . 80", "2001:db8:b000::2 . tcp . 80", "2001:db8:a000::/64", "2001:db8:b000::/64"} {
			if !strings.Contains(h.ruleset.String(), element) {
				t.Errorf("the ruleset lacks %s:\n%s", element, h.ruleset)
			}
		}
		var said []string
		for _, p := range h.advertised[bridge].Prefixes {
			said = append(said, fmt.Sprintf("%s preferred %d valid %d until %s", p.Prefix, p.Preferred, p.Valid, p.ValidUntil.Sub(time.Now().Truncate(time.Second))))
		}
		wantSame(t, "advertised", []string{
			"2001:db8:b000::/64 preferred 2700 valid 5400 until 2h0m0s",
			"2001:db8:a000::/64 preferred 0 valid 5400 until 30m0s"}, said)
		h.consistent(t, "renumbered")

		// What comes now has nothing of the former prefix, whatever the pool is called.
		b := &attachment{id: epID(2)}
		must(t, h.run(t.Context(), n, b))
		wantSame(t, "leased", ip("2001:db8:b000::3"), b.leases["2001:db8:a000::/64"])
		wantSame(t, "in the new container", []string{"2001:db8:b000::3/64"}, h.inSandbox(2))
		if strings.Contains(h.ruleset.String(), "2001:db8:a000::3") {
			t.Error("the new container's former address is live")
		}
		h.consistent(t, "with a new container")

		// The same network again is the same network.
		must(t, h.engine.CreateNetwork(t.Context(), clone(n)))

		h.disarm()
		h.pass(t, 31*time.Minute)
		wantSame(t, "in the container at the end of the former prefix", []string{"2001:db8:b000::2/64"}, h.inSandbox(1))
		wantSame(t, "unreachable", map[netip.Prefix]bool{pfx("2001:db8:a000::/56"): true, pfx("2001:db8:b000::/56"): true}, h.unreachable) // the source lends it, still
		if got, want := h.links[bridge].Addrs, "["+nextHop+"/64 2001:db8:b000::1/64 172.24.154.1/24]"; got != want {
			t.Errorf("bridge has %s, want %s", got, want)
		}
		if strings.Contains(h.ruleset.String(), "2001:db8:a000:") {
			t.Errorf("the ruleset has the former prefix yet:\n%s", h.ruleset)
		}
		if !h.calledInOrder("firewall: apply", "conntrack: forget [2001:db8:a000::2]") {
			t.Errorf("calls %q, want the connections of the former address forgotten after the rules", h.calls)
		}
		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		wantSame(t, "unreachable", map[netip.Prefix]bool{pfx("2001:db8:b000::/56"): true}, h.unreachable)
		h.consistent(t, "at the end of the former prefix")
		for _, more := range [][]spec.Delegation{{delegated("2001:db8:c000::/56", time.Hour, 2*time.Hour)}, nil} { // which nobody uses
			want := map[netip.Prefix]bool{pfx("2001:db8:b000::/56"): true}
			for _, d := range more {
				want[d.Prefix] = true
			}
			h.lend(t, append(more, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))...)
			wantSame(t, "unreachable", want, h.unreachable)
		}

		// All by the old pool's ID.
		must(t, h.stop(t.Context(), *b))
		must(t, h.stop(t.Context(), *a))
		c := &attachment{id: epID(3)}
		must(t, h.run(t.Context(), n, c))
		must(t, h.stop(t.Context(), *c))
		for _, p := range h.engine.Status(t.Context()).Pools {
			if p.Leases != 1 { // the gateway's
				t.Errorf("pool %s has %d leases", p.ID, p.Leases)
			}
		}
		must(t, h.deleteNetwork(t.Context(), n))
		if len(h.unreachable) > 0 || len(h.engine.Status(t.Context()).Pools) > 0 {
			t.Errorf("left: routes %v, pools %v", h.unreachable, h.engine.Status(t.Context()).Pools)
		}
	})
}

// A port of the host is translated to one address, while the container has two: to
// the one in use, and while none is to the one that is there yet.
func TestRenumberTranslated(t *testing.T) {
	for _, fallback := range []spec.Fallback{spec.FallbackNone, spec.FallbackULA} {
		t.Run(string(fallback), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
				n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(), pd6(fallback)},
					options: func(o *spec.Options) { o.Masquerade = spec.SwitchOn }})
				must(t, err)
				must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}))
				onlyTo := func(when, want string) {
					t.Helper()
					for _, a := range []string{"2001:db8:a000::2", "2001:db8:b000::2", "fd12:3456:789a::2"} {
						if got := strings.Contains(h.ruleset.String(), "tcp . 8080 : "+a+" . 80"); got != (a == want) {
							t.Errorf("%s: host port is translated to %s: %t\n%s", when, a, got, h.ruleset)
						}
					}
					if got := h.errors(t); len(got) > 0 {
						t.Errorf("%s: degraded: %q", when, got)
					}
					h.consistent(t, when)
				}
				onlyTo("at first", "2001:db8:a000::2")
				h.lend(t, delegated("2001:db8:a000::/56", 0, 90*time.Minute))
				if fallback == spec.FallbackULA {
					onlyTo("lost", "fd12:3456:789a::2")
				} else {
					onlyTo("lost", "2001:db8:a000::2")
				}
				h.lend(t, delegated("2001:db8:a000::/56", 0, 90*time.Minute), delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
				onlyTo("renumbered", "2001:db8:b000::2")
				must(t, h.run(t.Context(), n, &attachment{id: epID(2), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8081}}}))
				onlyTo("with a new container", "2001:db8:b000::2")
			})
		})
	}
}

// What a cloud has taken back of a link's prefix can be another machine's at once; what
// it only lends no longer for new connections is kept, over a restart of the daemon too.
func TestOnLinkPrefixTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onCloud(t, h, "2001:db8:a000::/80")
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		former := n.IPv6[0].Prefix.String()
		if !h.answered(former) {
			t.Fatalf("answered for %v, want addresses of %s", h.proxied, former)
		}
		h.assign(t, onLinkDelegation("2001:db8:a000::/80", 0), onLinkDelegation("2001:db8:b000::/80", 3*time.Hour))
		h.restart(t)
		h.engine.Resync(t.Context())
		if !h.answered(former) || !h.answered("2001:db8:b000::/80") {
			t.Errorf("answered for %v, want addresses of both prefixes while both are lent", h.proxied)
		}
		h.assign(t, onLinkDelegation("2001:db8:b000::/80", 3*time.Hour))
		if h.answered(former) || !h.answered("2001:db8:b000::/80") {
			t.Errorf("answered for %v, want no address of the prefix that was taken back", h.proxied)
		}
		wantSame(t, "unreachable", map[netip.Prefix]bool{}, h.unreachable)
		if got := h.inSandbox(1); len(got) != 1 || strings.HasPrefix(got[0], "2001:db8:a000:") {
			t.Errorf("in the container %q", got)
		}
		h.consistent(t, "taken back")
		h.assign(t)
		if len(h.proxied) > 0 || len(h.inSandbox(1)) > 0 {
			t.Errorf("answered for %v, in the container %q, when all was taken back", h.proxied, h.inSandbox(1))
		}
		h.consistent(t, "all taken back")
	})
}

// No network is renumbered into what another one or another driver's pool has, though
// neither follows a source.
func TestNotRenumberedIntoAnothersPool(t *testing.T) {
	for what, take := range map[string]func(*testing.T, *host){
		"ipvlan l3": func(t *testing.T, h *host) {
			r := child(t, 2, "mode", "ipvlan", "ipvlan_mode", "l3")
			r.pools = []spec.PoolRequest{static("2001:db8:b000::/64")}
			_, err := h.createNetwork(t.Context(), r)
			must(t, err)
		},
		"pool of another driver": func(t *testing.T, h *host) {
			p, err := h.engine.RequestPool(t.Context(), static("2001:db8:b000::/64"))
			must(t, err)
			_, err = h.engine.RequestAddress(t.Context(), p.ID, netip.Addr{}, false)
			must(t, err)
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				n := onDelegation(t, h, 1, spec.FallbackNone)
				must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
				take(t, h)
				h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
				if now := h.current(t, 1); now != pfx("2001:db8:b000:1::/64") {
					t.Errorf("renumbered into %s, want the first part that nobody has", now)
				}
			})
		})
	}
}

// A pool that is chosen while networks are renumbered is none of theirs.
func TestPoolChosenWhileRenumbered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		onDelegation(t, h, 1, spec.FallbackNone)
		next := delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour)
		h.lentTo[pdOnEth0] = []spec.Delegation{next}
		h.onAsked = func() { // the source's news arrive a moment after its answer
			h.onAsked = nil
			h.engine.DelegationsChanged(t.Context(), spec.SourcePD, "eth0", []spec.Delegation{next})
		}
		p, err := h.engine.RequestPool(t.Context(), pd6(""))
		must(t, err)
		if now := h.current(t, 1); p.Prefix.Overlaps(now) || p.Prefix != pfx("2001:db8:b000:1::/64") {
			t.Errorf("the pool %s was given away, and network 1 was renumbered to %s", p.Prefix, now)
		}
	})
}

// A line that comes and goes, with another prefix each time, leaves the youngest former ones.
func TestFormerPrefixesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		for i := range 30 {
			h.pass(t, time.Minute)
			h.lend(t, delegated(fmt.Sprintf("2001:db8:%x00::/56", 0x20+i), time.Hour, 2*time.Hour))
		}
		var prefixes []string
		for _, p := range h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.Prefixes {
			prefixes = append(prefixes, p.Prefix.String())
		}
		var want []string
		for i := range 9 {
			want = append(want, fmt.Sprintf("2001:db8:%x00::/64", 0x20+29-i))
		}
		wantSame(t, "prefixes", want, prefixes)
		wantSame(t, "unreachable routes", 9, len(h.unreachable))
		wantSame(t, "addresses in the container", 9, len(h.inSandbox(1)))
		var said []string
		for _, p := range h.advertised[spec.BridgeName(n.ID)].Prefixes {
			said = append(said, p.Prefix.String())
		}
		for i := range 8 { // withdrawn
			want = append(want, fmt.Sprintf("2001:db8:%x00::/64", 0x20+20-i))
		}
		wantSame(t, "prefixes advertised", want, said)
		h.consistent(t, "after many prefixes")
	})
}

// A part that is free again goes to the network that waits for one, however it became
// free; until then status says that there is none left, though something is lent.
func TestFreedPart(t *testing.T) {
	for what, free := range map[string]func(*testing.T, *host, spec.Network){
		"network deleted": func(t *testing.T, h *host, one spec.Network) { must(t, h.deleteNetwork(t.Context(), one)) },
		"network deleted, then its pool released": func(t *testing.T, h *host, one spec.Network) {
			must(t, h.engine.DeleteNetwork(t.Context(), one.ID))
			h.pass(t, 2*time.Minute)
		},
		"events of routes were lost": func(t *testing.T, h *host, one spec.Network) {
			h.routes = h.routes[:len(h.routes)-1]
			h.engine.Resync(t.Context())
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				one, two := onDelegation(t, h, 1, spec.FallbackNone), onDelegation(t, h, 2, spec.FallbackNone)
				must(t, h.run(t.Context(), two, &attachment{id: epID(2)}))
				d, want := delegated("2001:db8:b000::/64", 0, 0), pfx("2001:db8:b000::/64")
				if what == "events of routes were lost" {
					d.Prefix, want = pfx("2001:db8:b000::/63"), pfx("2001:db8:b000:1::/64")
					h.routes = append(h.routes, want)
				}
				d.Preferred, d.Valid = time.Time{}, time.Time{} // as a cloud's, or a server's that lends without end
				h.lend(t, d)
				for range 4 { // what was before is over
					h.pass(t, time.Hour)
				}
				if now := h.current(t, 2); now.IsValid() {
					t.Fatalf("the second network has %s, of one part for two", now)
				}
				if got := h.notes(t); !strings.Contains(got, "is exhausted: no free /64") || strings.Contains(got, "lends no prefix") {
					t.Errorf("notes %q, want that there is no part left", got)
				}
				free(t, h, one)
				h.pass(t, time.Second)
				if now := h.current(t, 2); now != want {
					t.Errorf("the second network has %s, want the part that is free again: %s", now, h.notes(t))
				}
				if got := h.notes(t); got != "" {
					t.Errorf("notes %q", got)
				}
			})
		})
	}
}

// An unreachable route that somebody else removes is made again; what goes with its
// delegation is not.
func TestUnreachableRouteIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		a, b := pfx("2001:db8:a000::/56"), pfx("2001:db8:b000::/56")
		removed := func(p netip.Prefix) { delete(h.unreachable, p); h.engine.RouteGone(p) }
		for range 3 {
			removed(a)
			h.pass(t, time.Second)
			wantSame(t, "unreachable", map[netip.Prefix]bool{a: true}, h.unreachable)
		}
		h.engine.RouteGone(pfx("2001:db8:ffff::/56")) // not ours
		h.broken = "route: unreachable"
		removed(a)
		h.pass(t, time.Second)
		if got := h.engine.Status(t.Context()).Error; got == "" {
			t.Error("status does not say that the route cannot be made")
		}
		h.broken = ""
		h.pass(t, 2*time.Second)
		wantSame(t, "unreachable", map[netip.Prefix]bool{a: true}, h.unreachable)

		delete(h.unreachable, a) // and that was lost
		h.engine.Resync(t.Context())
		wantSame(t, "unreachable after events were lost", map[netip.Prefix]bool{a: true}, h.unreachable)

		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		h.pass(t, 2*time.Hour+time.Second)
		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		h.engine.RouteGone(a) // our own doing, of which the kernel tells as well
		h.pass(t, 2*time.Second)
		wantSame(t, "unreachable", map[netip.Prefix]bool{b: true}, h.unreachable)
		must(t, h.deleteNetwork(t.Context(), n))
		h.engine.RouteGone(b)
		h.pass(t, 2*time.Second)
		wantSame(t, "unreachable at the end", map[netip.Prefix]bool{}, h.unreachable)
	})
}

// A unique local prefix that is lent gives way to a global one, and never the other
// way round, however long they last.
func TestLentGlobalBeforeLocal(t *testing.T) {
	h := newHost(t)
	local, global := delegated("fd00:b000::/56", 24*time.Hour, 48*time.Hour), delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)
	h.lentTo[pdOnEth0] = []spec.Delegation{local}
	must(t, h.run(t.Context(), onDelegation(t, h, 1, spec.FallbackNone), &attachment{id: epID(1)}))
	inUse := func(number int, want string) {
		t.Helper()
		for _, n := range h.engine.Status(t.Context()).Networks {
			if now, _ := n.IPv6[0].Lent.Current(); n.ID == netID(number) && now.Prefix != pfx(want) {
				t.Errorf("network %d uses %v, want %s", number, now.Prefix, want)
			}
		}
	}
	inUse(1, "fd00:b000::/64")
	h.lend(t, local, global)
	inUse(1, "2001:db8:a000::/64")
	onDelegation(t, h, 2, spec.FallbackNone)
	inUse(2, "2001:db8:a000:1::/64")
	h.lend(t, local)
	inUse(1, "fd00:b000::/64")
	h.lend(t, local, delegated("2001:db8:c000::/64", time.Hour, 2*time.Hour)) // too small for both
	inUse(1, "2001:db8:c000::/64")
	inUse(2, "fd00:b000:0:1::/64")
	h.consistent(t, "at the end")
}

// After a boot of the machine there are no connections for which a former prefix would be kept.
func TestFormerPrefixesEndWithABoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		prefixes := func() (list []string) {
			for _, p := range h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.Prefixes {
				list = append(list, p.Prefix.String())
			}
			return list
		}
		h.restart(t)
		wantSame(t, "prefixes after a restart of the daemon", []string{"2001:db8:b000::/64", "2001:db8:a000::/64"}, prefixes())
		h.reboot("second")
		h.restart(t)
		wantSame(t, "prefixes after a boot", []string{"2001:db8:b000::/64"}, prefixes())
		h.restart(t)
		wantSame(t, "prefixes in the journal", []string{"2001:db8:b000::/64"}, prefixes())
		if got := h.links[spec.BridgeName(n.ID)].Addrs; strings.Contains(got, "2001:db8:a000:") {
			t.Errorf("bridge has %s", got)
		}
	})
}

// The first start after a boot is killed at any of its calls: the next one is after a boot, too.
// What this boot's starts have set is put back by the last network all the same.
func TestKilledInTheFirstStartOfABoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func() (*host, spec.Network) {
			h := newHost(t)
			n := onDelegation(t, h, 1, spec.FallbackNone)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
			h.reboot("second")
			h.arm(fault{})
			return h, n
		}
		done, _ := at()
		must(t, done.start(t.Context()))
		calls := done.calls
		done.restart(t)
		want := done.snapshot()
		if last := calls[len(calls)-1]; last != "journal: booted" {
			t.Errorf("the last call is %q", last)
		}
		for k, call := range calls {
			for _, m := range []mode{crashBefore, crashAfter} {
				h, n := at()
				h.arm(fault{at: k + 1, mode: m})
				if !dies(func() error { return h.start(t.Context()) }) {
					t.Fatalf("call %d of %q did not happen", k+1, calls)
				}
				h.restart(t)
				what := "call " + call + " " + string(m)
				sameWorld(t, what, want, h.snapshot())
				must(t, h.deleteNetwork(t.Context(), n))
				h.expect(t, what+", no network left", forwarding6, "0", acceptRA0, "1")
			}
		}
	})
}

// A prefix that only lasts longer is no matter of the kernel's.
func TestRenewalTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		h.pass(t, 30*time.Minute)
		h.lend(t, delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour))
		before := h.snapshot()
		h.disarm()
		time.Sleep(30 * time.Minute)
		h.lend(t, delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour))
		after := h.snapshot()
		before.Journal, after.Journal, before.Advertised, after.Advertised = nil, nil, nil, nil
		sameWorld(t, "after a renewal", before, after)
		for _, call := range h.calls {
			if strings.HasPrefix(call, "sandbox") || strings.HasPrefix(call, "conntrack") {
				t.Errorf("a renewal led to %s", call)
			}
		}
		// Though the daemon hears nothing, the prefix does not outlive its lifetimes.
		h.pass(t, 61*time.Minute)
		if got := h.inSandbox(1); len(got) != 1 || !strings.Contains(got[0], "former") {
			t.Errorf("in the container after the preferred lifetime: %q", got)
		}
		h.pass(t, 60*time.Minute)
		if got := h.inSandbox(1); len(got) != 0 {
			t.Errorf("in the container after the valid lifetime: %q", got)
		}
		h.consistent(t, "after the valid lifetime")
	})
}

func TestLostPrefix(t *testing.T) {
	for _, tc := range []struct {
		fallback    spec.Fallback
		while       string // in the container while all is lost
		masqueraded bool
		note        string
	}{
		{spec.FallbackNone, "[]", false, "no fallback"},
		{spec.FallbackULA, "[fd12:3456:789a::2/64]", true, "until there is one the network has fd12:3456:789a::/64"},
	} {
		t.Run(string(tc.fallback), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				n := onDelegation(t, h, 1, tc.fallback)
				must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}))
				if got := h.notes(t); got != "" {
					t.Errorf("notes: %s", got)
				}
				time.Sleep(2 * time.Hour) // to the end
				h.lend(t)
				if got := fmt.Sprint(h.inSandbox(1)); got != tc.while {
					t.Errorf("in the container %s, want %s", got, tc.while)
				}
				if got := h.notes(t); !strings.Contains(got, tc.note) || !strings.Contains(got, "source pd lends no prefix on eth0") {
					t.Errorf("notes %q, want %q", got, tc.note)
				}
				if got := strings.Contains(h.ruleset.String(), "tcp . 8080 : fd12:3456:789a::2 . 80"); got != tc.masqueraded {
					t.Errorf("host port is translated to the container's IPv6 address: %t\n%s", got, h.ruleset)
				}
				h.consistent(t, "lost")
				must(t, h.run(t.Context(), n, &attachment{id: epID(2)})) // containers start all the same

				h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
				if got := h.inSandbox(1); !slices.Contains(got, "2001:db8:b000::2/64") {
					t.Errorf("in the container %q when there is a prefix again", got)
				}
				if got := h.inSandbox(2); !slices.Contains(got, "2001:db8:b000::3/64") {
					t.Errorf("in the container that came meanwhile %q when there is a prefix again", got)
				}
				if got := h.notes(t); got != "" {
					t.Errorf("notes: %s", got)
				}
				h.pass(t, 50*time.Minute)
				h.lend(t, delegated("2001:db8:b000::/56", 2*time.Hour, 3*time.Hour))
				h.pass(t, 75*time.Minute)
				wantSame(t, "in the container in the end", []string{"2001:db8:b000::2/64"}, h.inSandbox(1))
				h.engine.Resync(t.Context()) // forgets what was withdrawn long ago
				h.consistent(t, "healed")
			})
		})
	}
}

// sendersAllowed sees to it that at no moment a container has an address that it may not
// send from, and answers what it may send from.
func (h *host) sendersAllowed(t reporter) (sources func(number int) string) {
	h.watch = func() {
		for alias, has := range h.sandboxes {
			for _, text := range has {
				element := fmt.Sprintf("%q . %s", spec.VethName(strings.TrimPrefix(alias, spec.EndpointAlias(""))), pfx(strings.Fields(text)[0]).Addr())
				for _, set := range []string{"sources6", "claimed6"} {
					if h.ruleset == nil || !slices.ContainsFunc(h.ruleset.Set(set).Elements, func(e firewall.Element) bool { return e.Key == element || strings.HasPrefix(e.Key, element+" . ") }) {
						t.Errorf("after %s: the container has an address, and %s has no %s", h.calls[len(h.calls)-1], set, element)
					}
				}
			}
		}
	}
	return func(number int) string {
		port := fmt.Sprintf("%q . ", spec.VethName(epID(number)))
		var addrs []string
		for _, e := range h.ruleset.Set("sources6").Elements {
			if a, its := strings.CutPrefix(e.Key, port); its && !strings.HasPrefix(a, "fe80:") {
				address, _, _ := strings.Cut(a, " . ")
				addrs = append(addrs, address)
			}
		}
		return strings.Join(addrs, " ")
	}
}

// has is what status says that a container has.
func (h *host) has(t reporter, number int) string {
	for _, n := range h.engine.Status(t.Context()).Networks {
		for _, ep := range n.Endpoints {
			if ep.ID == epID(number) {
				return fmt.Sprint(n.HasOf(ep))
			}
		}
	}
	return "nothing"
}

// What a container has it may send from: what comes is allowed before, and what goes is
// forbidden afterwards.
func TestSendersOfARenumberedContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		sources := h.sendersAllowed(t)
		want := func(when, may string) {
			t.Helper()
			if got := sources(1); got != may {
				t.Errorf("%s it may send from %q, want %q", when, got, may)
			}
			h.consistent(t, when)
		}
		want("at first", "2001:db8:a000::2")
		h.lend(t, delegated("2001:db8:a000::/56", 0, 30*time.Minute), delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		want("renumbered", "2001:db8:a000::2 2001:db8:b000::2")
		h.pass(t, 31*time.Minute)
		want("when the former prefix has ended", "2001:db8:b000::2")

		// The rules fail, and are put right later.
		h.broken = "firewall: update"
		h.pass(t, 2*time.Hour)
		if got := h.errors(t); len(got) != 1 {
			t.Errorf("degraded: %q, want the rules that are not in step", got)
		}
		h.broken = ""
		h.pass(t, 2*time.Second)
		want("lost", "")
		if got := h.errors(t); len(got) > 0 {
			t.Errorf("degraded: %q", got)
		}
		if got := h.has(t, 1); strings.Contains(got, "2001:") {
			t.Errorf("it is said to have %s", got)
		}
		h.disarm()
		h.engine.Resync(t.Context())
		if h.calledInOrder("sandbox") {
			t.Errorf("a container that has what it is to have is entered: %q", h.calls)
		}
	})
}

// One that cannot be entered keeps what it has, which is shown, and allowed until
// somebody else has it.
func TestWhatAContainerKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		sources := h.sendersAllowed(t)
		h.lend(t, delegated("2001:db8:b000::/56", 6*time.Hour, 8*time.Hour))
		h.pass(t, 2*time.Hour+time.Second)
		h.sandboxErr = syscall.EPERM
		both := []spec.Delegation{delegated("2001:db8:b000::/56", 0, 30*time.Minute), delegated("2001:db8:c000::/56", 6*time.Hour, 8*time.Hour)}
		for range 2 {
			h.lend(t, both...)
			if got, want := h.has(t, 1), "[2001:db8:b000::2 172.24.154.2]"; got != want {
				t.Errorf("it is said to have %s, want %s", got, want)
			}
			h.restart(t)
		}
		h.lend(t, both...)
		h.pass(t, 31*time.Minute)
		if got, want := sources(1), "2001:db8:b000::2 2001:db8:c000::2"; got != want {
			t.Errorf("it may send from %q, want %q", got, want)
		}
		if got, want := h.has(t, 1), "[172.24.154.2]"; got != want {
			t.Errorf("it is said to have %s, want %s", got, want)
		}

		h.watch = nil
		_, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{static("2001:db8:b000::/64")}})
		must(t, err)
		if got, want := sources(1), "2001:db8:c000::2"; got != want {
			t.Errorf("with the prefix in another network it may send from %q, want %q", got, want)
		}
		h.consistent(t, "with the prefix in another network")

		h.sandboxErr = nil
		h.engine.Resync(t.Context())
		wantSame(t, "in the container", []string{"2001:db8:c000::2/64"}, h.inSandbox(1))
	})
}

// What a container has lost it may not send from any more, beside a network of which the
// rules cannot say all, too.
func TestRulesFollowWhatAContainerHas(t *testing.T) {
	for _, beside := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			if beside {
				odd := recipe{id: netID(2), pools: []spec.PoolRequest{static("fd00:7::/64")}, options: func(o *spec.Options) { o.BridgeName = "br+" }}
				_, err := h.createNetwork(t.Context(), odd)
				must(t, err)
			}
			n := onDelegation(t, h, 1, spec.FallbackNone)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			sources := h.sendersAllowed(t)
			for _, want := range []string{"2001:db8:a000::2 2001:db8:b000::2", "2001:db8:b000::2"} {
				h.lend(t, delegated("2001:db8:b000::/56", 6*time.Hour, 8*time.Hour))
				if got := sources(1); got != want {
					t.Errorf("beside a fault %t: it may send from %q, want %q", beside, got, want)
				}
				h.disarm()
				h.pass(t, 2*time.Hour+time.Second)
			}
		})
	}
}

// sleeper is the clock of a machine that has slept, whose wall clock has been set.
type sleeper struct{ slept, ahead time.Duration }

func (s *sleeper) Now() time.Time       { return time.Now().Add(s.slept).Round(0) }
func (s *sleeper) Ahead() time.Duration { return s.ahead }

// A prefix ends with its time, also when that went by while the machine slept. That the
// wall clock was set changes only what people are shown.
func TestClockChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		clock := &sleeper{}
		h.clock = clock
		h.restart(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		valid := func() time.Time {
			return h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.Prefixes[0].Valid
		}
		before := valid()
		for _, ahead := range []time.Duration{-56 * 365 * 24 * time.Hour, 56 * 365 * 24 * time.Hour} {
			clock.ahead = ahead
			h.engine.ClockChanged(t.Context())
			h.restart(t)
			wantSame(t, "in the container after the clock was set", []string{"2001:db8:a000::2/64"}, h.inSandbox(1))
			if got := valid(); !got.Equal(before.Add(ahead)) {
				t.Errorf("valid until %s, want %s by the wall clock", got, before.Add(ahead))
			}
		}
		clock.ahead = 0
		if got := valid(); !got.Equal(before) {
			t.Errorf("valid until %s, was %s: what status says was put into the records", got, before)
		}

		clock.slept = 61 * time.Minute
		h.engine.ClockChanged(t.Context())
		if got := h.inSandbox(1); len(got) != 1 || !strings.Contains(got[0], "former") {
			t.Errorf("in the container after an hour's sleep: %q, want a former address", got)
		}
		h.pass(t, time.Hour) // the rest is awake, and counted from then on
		if got := h.inSandbox(1); len(got) > 0 {
			t.Errorf("in the container at the end: %q", got)
		}
		h.consistent(t, "at the end")
	})
}

// A prefix that nobody says to be on the link or not turns out to be one or the other:
// answers for its addresses and the unreachable route follow, and no container notices.
func TestDeliveryIsFoundOut(t *testing.T) {
	h := newHost(t)
	at := spec.SourceOnLink{Source: spec.SourceCloud, Link: "eth0"}
	lend := func(onLink bool) {
		d := spec.Delegation{Source: spec.SourceCloud, Parent: "eth0", Prefix: pfx("2001:db8:a000::/64"), OnLink: onLink, Origin: "the test's metadata"}
		h.lentTo[at] = []spec.Delegation{d}
		h.engine.DelegationsChanged(t.Context(), at.Source, at.Link, h.lentTo[at])
	}
	lend(true)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(),
		{V6: true, Source: spec.SourceCloud, Allocation: spec.Sequential}}})
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	addr := a.leases[n.IPv6[0].Prefix.String()]
	for _, onLink := range []bool{true, false, true, false} {
		lend(onLink)
		h.restart(t)
		if got := h.proxied["eth0 "+addr.String()]; got != onLink {
			t.Errorf("on-link %t: answered for %v", onLink, h.proxied)
		}
		if got := h.unreachable[pfx("2001:db8:a000::/64")]; got == onLink {
			t.Errorf("on-link %t: unreachable %v", onLink, h.unreachable)
		}
		if got := h.inSandbox(1); len(got) != 1 || !strings.HasPrefix(got[0], addr.String()) || strings.Contains(got[0], "former") {
			t.Errorf("on-link %t: in the container %q", onLink, got)
		}
		h.consistent(t, "found out")
	}
}

// locked is a host whose container, on a part of 2001:db8:a000::/56, cannot be entered.
func locked(t *testing.T) (*host, spec.Network, *attachment) {
	t.Helper()
	h := newHost(t)
	n := onDelegation(t, h, 1, spec.FallbackNone)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	h.sandboxErr = syscall.EPERM
	return h, n, a
}

// Without the right to enter, running containers keep what they have, and say so.
func TestSandboxesThatCannotBeEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, n, a := locked(t)
		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		if got := h.notes(t); !strings.Contains(got, spec.ShortID(a.id)) || !strings.Contains(got, "started again") {
			t.Errorf("notes %q, want the container that has to be started again", got)
		}
		if got := h.errors(t); len(got) > 0 {
			t.Errorf("degraded: %q", got)
		}
		if !strings.Contains(h.ruleset.String(), "2001:db8:a000::2,") {
			t.Error("the address that the container has is not live any more")
		}
		must(t, h.stop(t.Context(), *a))
		must(t, h.run(t.Context(), n, a))
		wantSame(t, "in the container", []string{"2001:db8:b000::3/64"}, h.inSandbox(1))
		if got := h.notes(t); got != "" {
			t.Errorf("notes after its restart: %q", got)
		}
		// Another failure is one that may pass.
		h.sandboxErr = errors.New("no memory")
		h.lend(t, delegated("2001:db8:c000::/56", time.Hour, 2*time.Hour))
		if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], "no memory") {
			t.Errorf("degraded: %q", got)
		}
		h.sandboxErr = nil
		h.pass(t, 2*time.Second)
		if got := h.errors(t); len(got) > 0 || !slices.Contains(h.inSandbox(1), "2001:db8:c000::3/64") {
			t.Errorf("degraded: %q, in the container %q", got, h.inSandbox(1))
		}
	})
}

// What fails of a container's link in the course of a renumbering is said, and done again,
// though its addresses could be given; its former address is not answered for meanwhile.
func TestLinkFailsWhileRenumbered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onCloud(t, h, "2001:db8:a000::/80")
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		h.broken = "link: veth"
		h.assign(t, onLinkDelegation("2001:db8:b000::/80", 3*time.Hour))
		if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], "injected") {
			t.Errorf("degraded: %q, want the failed link", got)
		}
		if h.answered("2001:db8:a000::/80") {
			t.Errorf("answered for %v, want nothing of what was taken back", h.proxied)
		}
		h.broken = ""
		h.pass(t, 2*time.Second)
		if got := h.errors(t); len(got) > 0 || !h.answered("2001:db8:b000::/80") {
			t.Errorf("degraded when the link can be made again: %q; answered for %v", got, h.proxied)
		}
		h.consistent(t, "healed")
	})
}

// Wherever it ends or fails, a renumbering comes to the same.
func TestRenumberingIsRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)
		scene := func() *host {
			h := newHost(t)
			h.lentTo[pdOnEth0] = []spec.Delegation{first}
			for i := range 3 {
				n := onDelegation(t, h, i+1, spec.FallbackNone)
				must(t, h.run(t.Context(), n, &attachment{id: epID(i + 1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: uint16(8080 + i)}}}))
			}
			h.disarm()
			return h
		}
		lent := []spec.Delegation{delegated("2001:db8:a000::/56", 0, 30*time.Minute), delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour)}
		undisturbed := scene()
		undisturbed.lend(t, lent...)
		want, calls := undisturbed.snapshot(), len(undisturbed.calls)
		if calls < 15 {
			t.Fatalf("only %d calls: %q", calls, undisturbed.calls)
		}
		for at := 1; at <= calls; at++ {
			for _, m := range []mode{failBefore, failAfter, crashBefore, crashAfter} {
				h := scene()
				h.arm(fault{at: at, mode: m})
				func() {
					defer func() {
						if r := recover(); r != nil && r != (killed{}) {
							panic(r)
						}
					}()
					h.lend(t, lent...)
				}()
				call := h.calls[at-1]
				if m == crashBefore || m == crashAfter {
					h.world.mu.TryLock() // the crash may have left it locked
					h.world.mu.Unlock()
					h.restart(t)
					h.lend(t, lent...) // the source says it again
				} else {
					h.disarm()
					h.pass(t, time.Second+time.Millisecond)
				}
				sameWorld(t, fmt.Sprintf("call %d, %s, %s", at, call, m), want, h.snapshot())
				if got := h.errors(t); len(got) > 0 {
					t.Errorf("call %d, %s, %s: degraded: %q", at, call, m, got)
				}
				if t.Failed() {
					return
				}
			}
		}
	})
}

// However sources lend and take, containers come and go and the daemon is killed:
// what is running has its address in the prefix that is in use, networks never share
// one, and journal, memory and kernel agree.
func TestRenumberingHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &host{world: newWorld()}
		h.journal = fakeJournal{h.world}
		h.restart(rt)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
		networks, containers := map[int]spec.Network{}, map[int]*attachment{}
		next := 1
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				masquerade := rapid.SampledFrom([]spec.Switch{spec.SwitchAuto, spec.SwitchOn}).Draw(rt, "masquerade")
				r := recipe{id: netID(next), pools: []spec.PoolRequest{auto4(), pd6(rapid.SampledFrom([]spec.Fallback{"", spec.FallbackULA}).Draw(rt, "fallback"))},
					options: func(o *spec.Options) { o.Masquerade = masquerade }}
				if n, err := h.createNetwork(rt.Context(), r); err == nil {
					networks[next] = n
				} else if slices.ContainsFunc(h.lentTo[pdOnEth0], func(d spec.Delegation) bool { return d.Preferred.After(time.Now()) }) {
					rt.Fatal(err)
				}
				next++
			case 1, 2:
				for _, number := range sortedKeys(networks) {
					a := &attachment{id: epID(next), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: uint16(8000 + next)}}}
					must(rt, h.run(rt.Context(), networks[number], a))
					containers[next] = a
					next++
				}
			case 3:
				for _, number := range sortedKeys(containers) {
					must(rt, h.stop(rt.Context(), *containers[number]))
					delete(containers, number)
					break
				}
			case 4:
				h.restart(rt)
			default:
				var lent []spec.Delegation
				for _, base := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(rt, "lent") {
					preferred := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "preferred")
					lent = append(lent, delegated("2001:db8:"+base+"000::/56", preferred, 2*time.Hour))
				}
				h.lend(rt, lent...)
			}
			prefixes := map[netip.Prefix]string{}
			for _, n := range h.engine.Status(rt.Context()).Networks {
				for _, s := range n.Present() {
					if other, twice := prefixes[s.Prefix]; twice {
						rt.Fatalf("networks %s and %s have %s", other, n.ID, s.Prefix)
					}
					prefixes[s.Prefix] = n.ID
				}
				for _, ep := range n.Endpoints {
					now, inUse := n.IPv6[0].Lent.Current()
					has := h.sandboxes[spec.EndpointAlias(ep.ID)]
					current := slices.DeleteFunc(slices.Clone(has), func(text string) bool { return strings.Contains(text, "former") })
					if inUse != (len(current) == 1) || len(current) > 1 || inUse && !now.Prefix.Contains(pfx(current[0]).Addr()) {
						rt.Fatalf("network uses %v, its container has %q", now, has)
					}
				}
			}
			if got := h.errors(rt); len(got) > 0 {
				rt.Fatalf("degraded: %q", got)
			}
			h.consistent(rt, "after a step")
		}
	})
}

// A hundred networks of one delegation cost one change of what they share.
func TestAHundredNetworksAtOnce(t *testing.T) {
	h := newHost(t)
	for i := range 100 {
		n := onDelegation(t, h, i+1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(i + 1)}))
	}
	h.disarm()
	h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
	counts := map[string]int{}
	for _, call := range h.calls {
		counts[strings.Fields(call)[0]]++
		if call == "journal: put all" || call == "firewall: apply" {
			counts[call]++
		}
	}
	if counts["journal: put all"] != 3 || counts["firewall: apply"] != 1 || counts["sandbox"] != 100 {
		t.Errorf("calls: %v, want 3 writes of the journal, 1 ruleset and 100 sandboxes", counts)
	}
	for i := range 100 {
		got := h.inSandbox(i + 1)
		want := fmt.Sprintf("2001:db8:b000:%x::2/64", i)
		if i == 0 {
			want = "2001:db8:b000::2/64"
		}
		if !slices.Contains(got, want) {
			t.Fatalf("container %d has %q, want %s", i, got, want)
		}
	}
}

// That a delegation lasts longer costs two writes of the journal for all networks, and
// nothing of the kernel; advertisements say it, and so does the journal.
func TestRenewalOfManyNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		for i := range 5 {
			n := onDelegation(t, h, i+1, spec.FallbackNone)
			must(t, h.run(t.Context(), n, &attachment{id: epID(i + 1)}))
		}
		h.disarm()
		renewed := delegated("2001:db8:a000::/56", 2*time.Hour, 3*time.Hour)
		h.lend(t, renewed)
		if len(h.calls) != 2 || h.calls[0] != "journal: put all" || !strings.HasPrefix(h.calls[1], "journal: put advertised") {
			t.Errorf("calls %q, want all networks and all advertisements put into the journal, and no more", h.calls)
		}
		for link, a := range h.advertised {
			if !strings.HasPrefix(link, "v6n") {
				continue
			}
			if p := a.Prefixes[0]; !p.ValidUntil.Equal(renewed.Valid) || !p.PreferredUntil.Equal(renewed.Preferred) {
				t.Fatalf("%s is told of %s until %s, want %s", link, p.Prefix, p.ValidUntil, renewed.Valid)
			}
		}
		h.restart(t)
		for _, n := range h.engine.Status(t.Context()).Networks {
			if now, _ := n.IPv6[0].Lent.Current(); !now.Valid.Equal(renewed.Valid) {
				t.Fatalf("network %s lasts until %s in the journal, want %s", n.ID, now.Valid, renewed.Valid)
			}
		}
	})
}

// What a source says while the daemon starts is newer than what it was asked for then.
func TestNewsWhileSourcesAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		h.restart(t)
		asked := 0
		h.onAsked = func() {
			if asked++; asked == 1 {
				h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.engine.Run(ctx) }()
		synctest.Wait()
		cancel()
		must(t, <-done)
		if asked != 1 {
			t.Fatalf("asked %d times, want once", asked)
		}
		if now, _ := h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.Current(); now.Prefix != pfx("2001:db8:b000::/64") {
			t.Errorf("the network uses %v, want what was said last", now.Prefix)
		}
	})
}

// Auto waits for a silent source once, and again when its link comes up.
func TestAutoAsksASilentSourceOnce(t *testing.T) {
	h := newHost(t)
	h.lentTo[pdOnEth0] = []spec.Delegation{} // asked, it says nothing
	asked := func() int {
		defer func() { h.asked = nil }()
		return len(slices.DeleteFunc(h.asked, func(a string) bool { return a != "pd eth0" }))
	}
	for i := range 3 {
		p, err := h.engine.RequestPool(t.Context(), auto6())
		must(t, err)
		if !strings.Contains(p.Reason, "source=pd: no answer on eth0") || p.Source != spec.SourceParent {
			t.Errorf("pool %s from %s: %s", p.Prefix, p.Source, p.Reason)
		}
		if got, want := asked(), max(1-i, 0); got != want {
			t.Errorf("pool %d: the source was asked %d times, want %d", i+1, got, want)
		}
	}
	for _, change := range []struct {
		up   bool
		want int
	}{{true, 0}, {false, 0}, {true, 1}} {
		h.engine.LinkChanged(t.Context(), "eth0", change.up, false)
		_, err := h.engine.RequestPool(t.Context(), auto6())
		must(t, err)
		if got := asked(); got != change.want {
			t.Errorf("after a change of the link, up %t, the source was asked %d times, want %d", change.up, got, change.want)
		}
	}
	asked()
	h.engine.Resync(t.Context()) // the link's events may be among the lost
	_, err := h.engine.RequestPool(t.Context(), auto6())
	must(t, err)
	if got := asked(); got != 1 {
		t.Errorf("after events were lost the source was asked %d times, want once", got)
	}
	if _, err := h.engine.RequestPool(t.Context(), pd6("")); err == nil || !strings.Contains(err.Error(), "no answer on eth0") || asked() != 1 {
		t.Errorf("asked for by name: %v, want that it did not answer", err)
	}
}

// Who asks for a source by name is told why it lends nothing, if the source knows.
func TestWhyASourceIsSilent(t *testing.T) {
	h := newHost(t)
	h.lentTo[pdOnEth0] = []spec.Delegation{} // no answer
	for _, why := range []string{"", "link eth0 has no link-local address that may be used yet"} {
		h.sources = []spec.DelegationStatus{
			{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth1"}, Error: "another's"},
			{SourceOnLink: pdOnEth0, State: "soliciting", Error: why},
		}
		want := "source=pd: no answer on eth0 within 15s"
		if why != "" {
			want += ": " + why
		}
		if _, err := h.engine.RequestPool(t.Context(), pd6("")); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Links of containers come and go, and nothing is left of them; one that a silent
// source is on may come back as that of another network.
func TestLinksThatAreGone(t *testing.T) {
	h := newHost(t)
	h.lentTo[pdOnEth0] = []spec.Delegation{} // asked, it says nothing
	_, err := h.engine.RequestPool(t.Context(), auto6())
	must(t, err)
	for i := range 100 {
		veth := fmt.Sprint("veth", i)
		h.engine.LinkChanged(t.Context(), veth, false, false)
		h.engine.LinkChanged(t.Context(), veth, true, false)
		h.engine.LinkChanged(t.Context(), veth, false, false)
		h.engine.LinkChanged(t.Context(), veth, false, true)
	}
	if got := h.engine.LinksDown(); got != 0 {
		t.Errorf("%d links that are gone are remembered", got)
	}
	h.engine.LinkChanged(t.Context(), "eth0", false, true)
	h.asked = nil
	h.engine.LinkChanged(t.Context(), "eth0", true, false)
	_, err = h.engine.RequestPool(t.Context(), auto6())
	must(t, err)
	if !slices.Contains(h.asked, "pd eth0") {
		t.Errorf("asked %q when the link came back, want pd on it, too", h.asked)
	}
}

// Auto waits for a server that refuses the length that it is asked for first: two
// rounds of a Solicit each (RFC 8415 §18.2.1), of 1.1 s at most (§15).
func TestAutoWaitsForASecondRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/60", time.Hour, 2*time.Hour)}
		h.onAsked = func() { time.Sleep(2 * 1100 * time.Millisecond) }
		p, err := h.engine.RequestPool(t.Context(), auto6())
		must(t, err)
		if p.Source != spec.SourcePD {
			t.Errorf("pool %s from %s: %s", p.Prefix, p.Source, p.Reason)
		}
	})
}

// That whoever asked went away says nothing of the source.
func TestSourceOfACancelledCallIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
		ctx, cancel := context.WithCancel(t.Context())
		h.onAsked = cancel
		if p, err := h.engine.RequestPool(ctx, auto6()); err == nil {
			t.Fatalf("pool %s of a call that was cancelled", p.Prefix)
		}
		h.onAsked = nil
		p, err := h.engine.RequestPool(t.Context(), auto6())
		must(t, err)
		if p.Source != spec.SourcePD {
			t.Errorf("pool %s from %s: %s", p.Prefix, p.Source, p.Reason)
		}
	})
}

// Podman's way in: one call, addresses in the prefix that is in use.
func TestAttachAfterRenumbering(t *testing.T) {
	h := newHost(t)
	h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
	r := spec.NetworkRequest{ID: netID(1), Name: "web", FrontEnd: "podman", Options: spec.DefaultOptions(),
		IPv6: []spec.SubnetRequest{{Pool: pd6(spec.FallbackNone)}}, IPv4: []spec.SubnetRequest{{Pool: auto4()}}}
	n, err := h.engine.MakeNetwork(t.Context(), r)
	must(t, err)
	h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
	for i, asked := range []string{"", "2001:db8:a000::50", "2001:db8:b000::51"} {
		request := spec.AttachRequest{Network: r, ID: epID(i + 1), Container: "c", Name: fmt.Sprint("c", i), Interface: "eth0", Sandbox: "/run/netns/c"}
		want := ip("2001:db8:b000::2")
		if asked != "" {
			request.Addresses = []netip.Addr{ip(asked)}
			want = spec.Renumbered(ip(asked), pfx("2001:db8:b000::/64"))
		}
		got, err := h.engine.Attach(t.Context(), request)
		must(t, err)
		if got.Endpoint.IPv6.Addr() != want {
			t.Errorf("asked for %q, got %s, want %s", asked, got.Endpoint.IPv6, want)
		}
		if len(got.Servers) != 1 || !got.Servers[0].Is4() {
			t.Errorf("name servers %v, want the one that stays", got.Servers)
		}
		must(t, h.engine.Detach(t.Context(), n.ID, request.ID))
	}
	for _, p := range h.engine.Status(t.Context()).Pools {
		if p.Leases != 1 {
			t.Errorf("pool %s has %d leases left", p.ID, p.Leases)
		}
	}
}

func sortedKeys[T any](m map[int]T) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// A container of ipvlan's mode l3 is renumbered like one on a bridge; one that is
// about to get its link has it in the end, too. No lent prefix is for a link on which
// another router is, nor to be translated.
func TestRenumberOnAParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
		for _, mode := range []string{"macvlan", "ipvlan"} {
			r := child(t, 9, "mode", mode)
			r.pools = []spec.PoolRequest{pd6("")}
			_, err := h.createNetwork(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), "is lent to this host") || !strings.Contains(err.Error(), "ipvlan_mode=l3") {
				t.Errorf("mode=%s on a lent prefix: %v", mode, err)
			} else if before, _, named := strings.Cut(err.Error(), "--ipam-opt source=parent"); !named || strings.Contains(before, "mode=bridge") {
				t.Errorf("mode=%s on a lent prefix: %v: want source=parent named first", mode, err)
			}
		}
		r := recipe{id: netID(9), pools: []spec.PoolRequest{pd6("")}, options: func(o *spec.Options) {
			o.Masquerade, o.NPTv6 = spec.SwitchNPTv6, pfx("2001:db8:c000::/64")
		}}
		if _, err := h.createNetwork(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is lent on eth0") {
			t.Errorf("masquerade=nptv6 on a lent prefix: %v", err)
		}
		r = child(t, 1, "mode", "ipvlan", "ipvlan_mode", "l3", "ndproxy", "on")
		r.pools = []spec.PoolRequest{pd6("")}
		n, err := h.createNetwork(t.Context(), r)
		must(t, err)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		wantSame(t, "answered for", map[string]bool{"eth0 2001:db8:a000::2": true}, h.proxied)

		// One that has its address, and not yet its link.
		late := &attachment{id: epID(2)}
		ep, err := h.lease(t.Context(), n, late)
		must(t, err)
		_, err = h.engine.CreateEndpoint(t.Context(), ep)
		must(t, err)
		_, err = h.engine.Join(t.Context(), n.ID, late.id, "/run/late")
		must(t, err)
		h.sandboxErr = fs.ErrNotExist
		h.lend(t, delegated("2001:db8:a000::/56", 0, time.Hour), delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
		h.sandboxErr = nil
		h.moveIn(late.id)
		h.sandboxes[spec.EndpointAlias(late.id)] = []string{ep.IPv6.String()}
		h.engine.LinkChanged(t.Context(), spec.SandboxName(late.id), false, true)
		h.pass(t, 2*time.Second)
		if got := h.inSandbox(2); !slices.Contains(got, "2001:db8:b000::3/64") || len(got) != 2 {
			t.Errorf("the container whose link came late has %q", got)
		}
		if got := h.notes(t); strings.Contains(got, spec.ShortID(late.id)) {
			t.Errorf("notes: %s", got)
		}
		h.engine.Resync(t.Context())
		if got := h.inSandbox(1); !slices.Contains(got, "2001:db8:b000::2/64") {
			t.Errorf("the container that runs has %q", got)
		}
		wantSame(t, "answered for", map[string]bool{
			"eth0 2001:db8:a000::2": true, "eth0 2001:db8:b000::2": true, "eth0 2001:db8:a000::3": true, "eth0 2001:db8:b000::3": true}, h.proxied)
		h.consistent(t, "renumbered")
	})
}
