package engine_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/spec"
)

// moveDefault moves the host's default route, to nowhere for an empty name.
func (h *host) moveDefault(t testing.TB, link string) {
	t.Helper()
	h.defaultParent = link
	h.routesChanged(t)
}

// routesChanged has the engine take in that routes changed, and a second pass.
func (h *host) routesChanged(t testing.TB) {
	t.Helper()
	h.engine.RoutesChanged(t.Context())
	h.engine.DoChores(t.Context(), time.Now().Add(engine.SeldomWait))
}

// Routers that advertise all the time have routes looked at once a second, however many change;
// the last change is never missed.
func TestRoutesChangeAllTheTime(t *testing.T) {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(t, err)
	before := h.defaultAsked
	asked := func() int { return h.defaultAsked - before }
	h.engine.RoutesChanged(t.Context())
	once := asked()
	for range 100 {
		h.engine.RoutesChanged(t.Context())
		h.engine.AddressesChanged(t.Context())
	}
	h.default4 = "wg0"
	h.engine.RoutesChanged(t.Context())
	if n := asked(); once == 0 || n != once {
		t.Errorf("default routes are asked for %d times in a second, want %d", n, once)
	}
	h.engine.DoChores(t.Context(), time.Now().Add(engine.SeldomWait))
	if n := asked(); n < 2*once || n > 4*once {
		t.Errorf("default routes are asked for %d times in two seconds, want %d and for what follows", n, 2*once)
	}
	if got, want := h.elements("parents"), `"eth0" "wg0"`; got != want {
		t.Errorf("parents %s, want %s", got, want)
	}
}

func (h *host) elements(set string) string {
	var keys []string
	for _, e := range h.ruleset.Set(set).Elements {
		keys = append(keys, e.Key)
	}
	return strings.Join(keys, " ")
}

// A network that is bound to no link follows the default route; containers that
// run keep their links as they are.
func TestDefaultRouteMoves(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")},
		options: func(o *spec.Options) { o.NDProxy = spec.SwitchOn }})
	must(t, err)
	bound, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	must(t, h.run(t.Context(), bound, &attachment{id: epID(2)}))
	veth := h.links[spec.VethName(epID(1))]
	onEth0 := "eth0 2001:db8:1:0:789a::2"
	for _, step := range []struct {
		to      string
		mtu     int
		parents string
		proxied map[string]bool
	}{
		{"eth1", 1400, `"eth0" "eth1"`, map[string]bool{"eth1 2001:db8:ff::2": true, onEth0: true}},
		{"", 1500, `"eth0"`, map[string]bool{onEth0: true}},
		{"eth0", 1500, `"eth0"`, map[string]bool{"eth0 2001:db8:ff::2": true, onEth0: true}},
		{"eth1", 1400, `"eth0" "eth1"`, map[string]bool{"eth1 2001:db8:ff::2": true, onEth0: true}},
	} {
		h.moveDefault(t, step.to)
		if diff := cmp.Diff(step.proxied, h.proxied); diff != "" {
			t.Errorf("default route on %q: proxied (-want +got):\n%s", step.to, diff)
		}
		if got := h.elements("parents"); got != step.parents {
			t.Errorf("default route on %q: parents %s, want %s", step.to, got, step.parents)
		}
		if got := h.links[n.Bridge()].MTU; got != step.mtu {
			t.Errorf("default route on %q: the bridge's MTU is %d, want %d", step.to, got, step.mtu)
		}
		if got := h.links[spec.VethName(epID(1))]; got != veth {
			t.Errorf("default route on %q: a running container's link is %+v, was %+v: what is larger than its MTU would be lost without a word", step.to, got, veth)
		}
		if h.links[bound.Bridge()].MTU != 1500 {
			t.Errorf("default route on %q: network bound to eth0 has MTU %d", step.to, h.links[bound.Bridge()].MTU)
		}
		h.consistent(t, "default route on "+step.to)
	}
}

// A router in a prefix that the network has been renumbered to is seen as one in its first.
func TestRouterInProxiedPrefixOfNow(t *testing.T) {
	h := newHost(t)
	h.lentTo[cloudOnEth0] = []spec.Delegation{onLinkDelegation("2001:db8:a000::/64", 3*time.Hour)}
	_, err := h.createNetwork(t.Context(), recipe{id: netID(1), options: func(o *spec.Options) { o.NDProxy = spec.SwitchPrefix },
		pools: []spec.PoolRequest{{V6: true, Source: spec.SourceCloud, Allocation: spec.Sequential}}})
	must(t, err)
	h.routers["eth0"] = append(h.routers["eth0"], ip("2001:db8:b000::ffff"))
	for _, lent := range []string{"2001:db8:b000::/64", "2001:db8:c000::/64"} {
		h.assign(t, onLinkDelegation(lent, 3*time.Hour))
		now := h.current(t, 1)
		want := lent != "2001:db8:b000::/64"
		e := h.engine.Status(t.Context()).Networks[0].Error
		if h.proxied["eth0 "+now.String()] != want || (e == "") != want {
			t.Errorf("renumbered to %s: answered for %v, error %q; want all of it answered for: %t", now, h.proxied, e, want)
		}
	}
}

// The parent's router advertises another prefix and the former one no more: a network on a
// part of that which somebody has named stays where it is, and status says so for as long as
// it does.
func TestParentHasAnotherPrefix(t *testing.T) {
	h := newHost(t)
	named := spec.PoolRequest{V6: true, Source: spec.SourceStatic, Prefix: pfx("2001:db8:1:0:99::/80"), Allocation: spec.Sequential}
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(), named}})
	must(t, err)
	if s := h.engine.Status(t.Context()).Networks[0].IPv6[0]; !s.OnLink || s.Lent != nil || h.notes(t) != "" {
		t.Fatalf("subnet %+v, notes %q", s, h.notes(t))
	}
	before := h.onLink["eth0"]
	for _, onLink := range []string{"2001:db8:9::/64", ""} {
		h.onLink["eth0"] = nil
		want := n.IPv6[0].Prefix.String() + " is no part of a prefix of eth0 any more, which has none now"
		if onLink != "" {
			h.onLink["eth0"] = []netip.Prefix{pfx(onLink)}
			want = strings.Replace(want, "none", onLink, 1)
		}
		if got := h.notes(t); !strings.Contains(got, want) {
			t.Errorf("on-link %q: notes %q, want %q", onLink, got, want)
		}
	}
	h.onLink["eth0"] = append(before, pfx("2001:db8:9::/64"))
	if got := h.notes(t); got != "" {
		t.Errorf("notes %q, when the prefix is there beside another one", got)
	}
}

// A link that has got another name is the same one: networks on a part of its prefix, whose
// user has not named it, stay behind it. Those whose user has wait for the link of that name.
func TestParentHasAnotherName(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	named := map[string]bool{}
	onEth0 := func(r spec.PoolRequest) []spec.PoolRequest {
		r.Parent = "eth0"
		return []spec.PoolRequest{r}
	}
	for i, r := range []recipe{
		{options: func(o *spec.Options) { o.Parent = "eth0" }, pools: []spec.PoolRequest{ula6()}},
		{pools: onEth0(auto6())},
		{pools: onEth0(static("2001:db8:1:0:77::/80"))},
	} {
		r.id = netID(2 + i)
		_, err := h.createNetwork(t.Context(), r)
		must(t, err)
		named[r.id] = true
	}
	ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
	must(t, err)
	_, err = h.engine.CreateEndpoint(t.Context(), ep)
	must(t, err)
	rename := func(from, to string) {
		h.rename(from, to)
		h.engine.LinkChanged(t.Context(), from, false, true)
		h.engine.LinkChanged(t.Context(), to, true, false)
	}
	for _, name := range []string{"wan0", "lan7", "eth0"} {
		for _, n := range h.engine.Status(t.Context()).Networks {
			rename(n.Parent, name)
			break
		}
		networks := h.engine.Status(t.Context()).Networks
		if networks[0].Parent != name || networks[0].Error != "" || !h.proxied[name+" "+ep.IPv6.Addr().String()] || len(h.proxied) != 1 {
			t.Errorf("renamed to %s: parent %s, error %q, answered for %v", name, networks[0].Parent, networks[0].Error, h.proxied)
		}
		if follows := networks[0].IPv6[0].Lent.Link; follows != name {
			t.Errorf("renamed to %s: the network follows %s", name, follows)
		}
		for _, n := range networks {
			if is := n.Error == ""; named[n.ID] && (is != (name == "eth0") || n.Parent != "eth0") {
				t.Errorf("renamed to %s: of network %s whose parent was named status says parent %s, %q", name, n.ID, n.Parent, n.Error)
			}
		}
		before := h.snapshot()
		h.restart(t)
		sameWorld(t, "restarted while the parent is "+name, before, h.snapshot())
	}
}

// A daemon is killed at any call that it makes when a link is renamed. Networks and pools have
// all gone over to the next name, or none: then the next daemon finds out by the prefix where
// they are on the link's own, and waits for the former name where something is delegated there.
func TestKilledWhileLinkIsRenamed(t *testing.T) {
	for name, pool := range map[string]spec.PoolRequest{"on-link": auto6(), "delegated": pd6(spec.FallbackNone)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := func() *host {
					h := newHost(t)
					if pool.Source == spec.SourcePD {
						h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
					}
					for i := range 2 {
						n, err := h.createNetwork(t.Context(), recipe{id: netID(1 + i), pools: []spec.PoolRequest{auto4(), pool}})
						must(t, err)
						must(t, h.run(t.Context(), n, &attachment{id: epID(1 + i)}))
					}
					h.rename("eth0", "wan0")
					fakeSources{h.world}.LinkRenamed("eth0", "wan0") // who lends is on the link, whatever its name
					return h
				}
				rename := func(h *host) error {
					h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
					h.engine.LinkChanged(t.Context(), "eth0", false, true)
					h.engine.LinkChanged(t.Context(), "wan0", true, false)
					return nil
				}
				done := at()
				done.arm(fault{})
				must(t, rename(done))
				calls := done.calls
				written := slices.Index(calls, "journal: put following")
				done.restart(t)
				after := done.snapshot()
				for k, call := range calls {
					for _, m := range []mode{crashBefore, crashAfter} {
						h := at()
						h.arm(fault{at: k + 1, mode: m})
						if !dies(func() error { return rename(h) }) {
							t.Fatalf("call %d of %q did not happen", k+1, calls)
						}
						h.restart(t)
						what := "call " + call + " " + string(m)
						follow, status := map[string]bool{}, h.engine.Status(t.Context())
						for _, n := range status.Networks {
							follow[n.IPv6[0].Lent.Link] = true
						}
						for _, p := range status.Pools {
							if p.Lent != nil {
								follow[p.Lent.Link] = true
							}
						}
						want := "wan0"
						if pool.Source == spec.SourcePD && (k < written || k == written && m == crashBefore) {
							want = "eth0"
						} else {
							sameWorld(t, what, after, h.snapshot())
						}
						if len(follow) != 1 || !follow[want] {
							t.Errorf("%s: networks and pools follow %v, want %s", what, follow, want)
						}
						h.consistent(t, what)
					}
				}
			})
		})
	}
}

// A link that gets another name while it is down has no prefix at first: it is known by the
// one that networks have when that is there again, though it is a former one of theirs by then.
func TestParentHasAnotherNameAndNoPrefixYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onParentHost(t)
		n, err := h.createNetwork(t.Context(), child(t, 1))
		must(t, err)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		h.readvertise(t, onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour))
		wantSame(t, "the network has", pfx(newPart), h.current(t, 1))
		delete(h.onLink, "eth1") // which has that prefix, too
		follows := func() string { return h.engine.Status(t.Context()).Networks[0].IPv6[0].Lent.Link }
		h.rename("eth0", "wan0")
		h.defaultParent = ""
		delete(h.onLink, "wan0")
		h.engine.LinkChanged(t.Context(), "eth0", false, true)
		h.engine.LinkChanged(t.Context(), "wan0", true, false)
		wantSame(t, "followed without a prefix", "eth0", follows())
		h.onLink["wan0"], h.defaultParent = []netip.Prefix{pfx(oldLink)}, "wan0"
		h.engine.AddressesChanged(t.Context())
		wantSame(t, "followed with a prefix", "wan0", follows())
		network := h.engine.Status(t.Context()).Networks[0]
		if network.Parent != "wan0" || network.Error != "" {
			t.Errorf("parent %s, error %q", network.Parent, network.Error)
		}
		h.consistent(t, "renamed")
	})
}

// Names are no identity: another link has the parent's former one, and the parent's prefix is
// where it was. Networks whose user has not named the parent are behind that, and nobody is
// answered for on the other link; those of others say what is the matter.
func TestAnotherLinkByTheName(t *testing.T) {
	const stranger = "2001:db8:5::/64"
	for _, told := range []bool{true, false} { // of the rename; not: no daemon ran, or events were lost
		h := newHost(t)
		onEth0 := func(r spec.PoolRequest) spec.PoolRequest { r.Parent = "eth0"; return r }
		part, named := static("2001:db8:1:0:77::/80"), static("2001:db8:1:0:88::/80")
		addrs := map[int]string{}
		for i, pool := range []spec.PoolRequest{auto6(), part, onEth0(named)} {
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1 + i), pools: []spec.PoolRequest{pool}})
			must(t, err)
			a := &attachment{id: epID(1 + i)}
			must(t, h.run(t.Context(), n, a))
			for _, addr := range a.leases {
				addrs[i] = addr.String()
			}
		}
		h.rename("eth0", "wan0")
		h.addLink("eth0", fakeLink{Kind: "device", MTU: 1500, Up: true})
		h.onLink["eth0"] = []netip.Prefix{pfx(stranger)}
		if told {
			h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
			h.engine.LinkChanged(t.Context(), "eth0", false, true)
			h.engine.LinkChanged(t.Context(), "wan0", true, false)
			h.engine.LinkChanged(t.Context(), "eth0", true, false)
		} else {
			h.restart(t)
		}
		want := map[string]bool{"wan0 " + addrs[0]: true, "wan0 " + addrs[1]: true}
		check := func(when string) {
			t.Helper()
			if diff := cmp.Diff(want, h.proxied); diff != "" {
				t.Errorf("told %t, %s: answered for (-want +got):\n%s", told, when, diff)
			}
			for i, n := range h.engine.Status(t.Context()).Networks {
				parent, fault, is := "wan0", "", n.IPv6[0].Link()
				if i == 2 {
					parent = "eth0"
					if !want["eth0 "+addrs[2]] {
						fault = "is part of a prefix of link wan0, and not of parent eth0"
					}
				}
				if is != parent || n.Parent != parent || (n.Error == "") != (fault == "") || !strings.Contains(n.Error, fault) || len(n.Notes) > 0 {
					t.Errorf("told %t, %s: network %d is on %s, parent %s, error %q, notes %q; want %s, and %q", told, when, i, is, n.Parent, n.Error, n.Notes, parent, fault)
				}
			}
		}
		check("renamed")
		h.engine.Resync(t.Context())
		check("events lost")
		h.onLink["eth0"] = []netip.Prefix{pfx("2001:db8:1::/64")}
		h.engine.AddressesChanged(t.Context())
		want["eth0 "+addrs[2]] = true
		check("both have the prefix")
	}
}

// A link's names are exchanged with another's: the kernel has done it when the first event comes.
func TestLinksExchangeNames(t *testing.T) {
	for name, pool := range map[string]spec.PoolRequest{"source=parent": auto6(), "named part": static("2001:db8:1:0:77::/80"), "delegated": pd6(spec.FallbackNone)} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{pool}})
			must(t, err)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			names := [][2]string{{"eth0", "tmp0"}, {"eth1", "eth0"}, {"tmp0", "eth1"}}
			for _, r := range names {
				h.rename(r[0], r[1])
			}
			for _, r := range names {
				h.engine.LinkRenamed(t.Context(), r[0], r[1])
				h.engine.LinkChanged(t.Context(), r[0], false, true)
				h.engine.LinkChanged(t.Context(), r[1], true, false)
			}
			s := h.engine.Status(t.Context()).Networks[0]
			if s.IPv6[0].Link() != "eth1" || s.Error != "" || len(s.Notes) > 0 {
				t.Errorf("it is on %s, error %q, notes %q", s.IPv6[0].Link(), s.Error, s.Notes)
			}
			for _, p := range h.engine.Status(t.Context()).Pools {
				if p.Link() != "eth1" {
					t.Errorf("pool %s is on %s", p.ID, p.Link())
				}
			}
		})
	}
}

// A pool that no network is on yet goes with its link, too.
func TestPoolsLinkHasAnotherName(t *testing.T) {
	h := newHost(t)
	p, err := h.engine.RequestPool(t.Context(), auto6())
	must(t, err)
	h.rename("eth0", "wan0")
	h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
	h.restart(t)
	if is := h.engine.Status(t.Context()).Pools[0]; p.Link() != "eth0" || is.Link() != "wan0" || is.Parent != "wan0" {
		t.Errorf("pool on %s is on %s, its parent %s", p.Link(), is.Link(), is.Parent)
	}
}

// A bridge has no more than the running containers' links on it, which keep what they were
// made with: what is larger would be lost there without a word.
func TestBridgeDoesNotOutgrowContainers(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	grow := func(mtu int) {
		l := h.links["eth0"]
		l.MTU = mtu
		h.links["eth0"] = l
		h.engine.LinkChanged(t.Context(), "eth0", true, false)
	}
	is := func(what string, bridge int, containers ...int) {
		t.Helper()
		if got := h.links[n.Bridge()].MTU; got != bridge {
			t.Errorf("%s: the bridge has MTU %d, want %d", what, got, bridge)
		}
		for i, want := range containers {
			if got := h.links[spec.VethName(epID(1+i))].MTU; got != want {
				t.Errorf("%s: container %d has MTU %d, want %d", what, 1+i, got, want)
			}
		}
	}
	grow(9000)
	is("grown", 1500, 1500)
	h.restart(t)
	is("restarted", 1500, 1500)
	must(t, h.run(t.Context(), n, &attachment{id: epID(2)}))
	is("another container", 1500, 1500, 1500)
	grow(1400)
	is("shrunk", 1400, 1500, 1500)
	grow(9000)
	is("grown again", 1500, 1500, 1500)
	must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, epID(1)))
	is("one has gone", 1500)
	must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, epID(2)))
	is("both have gone", 9000)
	must(t, h.run(t.Context(), n, &attachment{id: epID(3)}))
	is("a new one", 9000)
}

// Routes that change and concern no network cost the kernel nothing.
func TestOtherRoutesChange(t *testing.T) {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	h.disarm()
	h.engine.RoutesChanged(t.Context())
	// Whether the parent has its prefix is looked at, and nothing is set.
	if set := slices.DeleteFunc(h.calls, func(call string) bool { return call == "host: prefixes on eth0" }); len(set) > 0 {
		t.Errorf("calls %q", set)
	}
}

func TestBridgeRemovedBySomebody(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}}}))
	before := h.snapshot()
	h.remove(n.Bridge())
	if h.links[spec.VethName(epID(1))].Master != "" {
		t.Fatal("the fake kernel keeps ports of a bridge that is gone")
	}
	h.engine.LinkChanged(t.Context(), n.Bridge(), false, true)
	sameWorld(t, "after the bridge was removed", before, h.snapshot())
}

// A container's link that went with its sandbox is not made again: nothing could
// move it into the next sandbox but the container engine.
func TestSandboxDies(t *testing.T) {
	for _, told := range []bool{true, false} { // by netlink; by the next start
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), dual(1))
		must(t, err)
		a := &attachment{id: epID(1)}
		must(t, h.run(t.Context(), n, a))
		h.remove(spec.VethName(a.id))
		if told {
			h.engine.LinkChanged(t.Context(), spec.VethName(a.id), false, true)
			h.engine.Resync(t.Context())
		} else {
			h.restart(t)
		}
		if _, back := h.links[spec.VethName(a.id)]; back {
			t.Errorf("told %t: the link is there again, with its other end in the host", told)
		}
		if e := h.engine.Status(t.Context()).Networks[0].Error; e != "" {
			t.Errorf("told %t: the network is degraded: %s", told, e)
		}
		must(t, h.stop(t.Context(), *a))
		must(t, h.run(t.Context(), n, a))
		h.consistent(t, "run again")
	}
}

// A container that is started again at once has a link by the name of its former one, of whose
// end the kernel may tell by then: the container is answered for.
func TestFormerLinkEnds(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	must(t, h.stop(t.Context(), *a))
	must(t, h.run(t.Context(), n, a))
	before := h.snapshot()
	h.engine.LinkChanged(t.Context(), spec.VethName(a.id), false, true)
	sameWorld(t, "after it was told of the former link's end", before, h.snapshot())
	h.consistent(t, "after that")
}

// The parent goes and comes back: the network is degraded alone, and recovers
// with accept_ra, which a new link does not have.
func TestParentGoesAndComesBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), dual(1))
		must(t, err)
		other, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.Parent = "eth1" }})
		must(t, err)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		must(t, h.run(t.Context(), other, &attachment{id: epID(2)}))
		before := h.snapshot()
		eth0 := h.links["eth0"]

		h.remove("eth0")
		h.raLinks = nil
		h.engine.LinkChanged(t.Context(), "eth0", false, true)
		h.moveDefault(t, "")
		if restart {
			h.restart(t)
		}
		status := h.engine.Status(t.Context())
		if !strings.Contains(status.Networks[0].Error, "eth0") || status.Networks[1].Error != "" {
			t.Errorf("restart %t: networks say %q and %q, want the first alone degraded, by eth0", restart, status.Networks[0].Error, status.Networks[1].Error)
		}

		h.world.mu.Lock()
		h.addLink("eth0", eth0)
		h.world.mu.Unlock()
		h.engine.LinkChanged(t.Context(), "eth0", true, false)
		if h.sysctls[acceptRA0] != "2" {
			t.Errorf("restart %t: accept_ra is %s on the link that came back: it will never have a default route", restart, h.sysctls[acceptRA0])
		}
		h.raLinks = []string{"eth0"}
		h.moveDefault(t, "eth0")
		if e := h.engine.Status(t.Context()).Networks[0].Error; e != "" {
			t.Errorf("restart %t: still degraded: %s", restart, e)
		}
		sameWorld(t, "after the parent came back", before, h.snapshot())
	}
}

// The same for a network that only follows the default route.
func TestUplinkComesBackWithAcceptRA(t *testing.T) {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	eth0 := h.links["eth0"]
	h.remove("eth0")
	h.raLinks = nil
	h.engine.LinkChanged(t.Context(), "eth0", false, true)
	h.moveDefault(t, "")
	h.world.mu.Lock()
	h.addLink("eth0", eth0)
	h.world.mu.Unlock()
	h.engine.LinkChanged(t.Context(), "eth0", true, false)
	if h.sysctls[acceptRA0] != "2" {
		t.Errorf("accept_ra is %s: the link takes no advertisements while the host forwards, and stays without a default route", h.sysctls[acceptRA0])
	}
}

func TestAnnounce(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	n, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(t, err)
	must(t, h.run(ctx, n, &attachment{id: epID(2)}))
	waiting, err := h.lease(ctx, n, &attachment{id: epID(3)}) // not in its sandbox yet
	must(t, err)
	_, err = h.engine.CreateEndpoint(ctx, waiting)
	must(t, err)
	a := &attachment{id: epID(1)}
	ep, err := h.lease(ctx, n, a)
	must(t, err)
	_, err = h.engine.CreateEndpoint(ctx, ep)
	must(t, err)
	link := spec.VethName(a.id)
	want := []string{ep.IPv6.Addr().String() + " → [" + spec.VethName(epID(2)) + "]"}
	expect := func(when string, want []string) {
		t.Helper()
		if got := h.heard(t); !slices.Equal(want, got) {
			t.Errorf("%s: announced %q, want %q", when, got, want)
		}
	}
	h.heard(t)
	h.engine.LinkChanged(ctx, link, true, false)
	expect("up before Join", nil)
	h.engine.LinkChanged(ctx, link, false, false)
	h.restart(t)
	_, err = h.engine.Join(ctx, n.ID, a.id, "/run/sandbox")
	must(t, err)
	h.moveIn(a.id)
	h.neighbours[ep.IPv6.Addr()] = "the last owner's"
	h.engine.LinkChanged(ctx, link, true, false)
	expect("up after Join", want)
	if got, believed := h.neighbours[ep.IPv6.Addr()]; believed {
		t.Errorf("the host still believes %s to be at %s", ep.IPv6, got)
	}
	h.engine.LinkChanged(ctx, link, true, false)
	expect("still up", nil)
	h.engine.LinkChanged(ctx, link, false, false)
	h.engine.LinkChanged(ctx, link, true, false)
	expect("up again", want)
	h.restart(t)
	h.engine.LinkChanged(ctx, link, true, false)
	expect("up since before a restart", nil)
	must(t, h.engine.Leave(ctx, n.ID, a.id))
	h.engine.LinkChanged(ctx, link, true, false)
	expect("after Leave", nil)
}

// Containers of a network without icc hear nothing of each other.
func TestNoAnnouncementWithoutICC(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.ICC = false }})
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	must(t, h.run(t.Context(), n, &attachment{id: epID(2)}))
	if got := h.heard(t); len(got) > 0 || !h.calledInOrder("link: neighbour") {
		t.Errorf("announced %q, want the host alone to ask again", got)
	}
}

// What cannot be brought back degrades its own network, at the start too.
func TestDegradedAlone(t *testing.T) {
	h := newHost(t)
	n1, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	n2, err := h.createNetwork(t.Context(), dual(2))
	must(t, err)
	must(t, h.run(t.Context(), n1, &attachment{id: epID(1)}))
	must(t, h.run(t.Context(), n2, &attachment{id: epID(2)}))
	before := h.snapshot()
	h.world.mu.Lock()
	h.dropLink(n1.Bridge())
	h.addLink(n1.Bridge(), fakeLink{Kind: "bridge"}) // somebody's
	h.world.mu.Unlock()
	h.restart(t)
	status := h.engine.Status(t.Context())
	if !strings.Contains(status.Networks[0].Error, n1.Bridge()) || status.Networks[1].Error != "" {
		t.Errorf("networks say %q and %q, want the first alone degraded", status.Networks[0].Error, status.Networks[1].Error)
	}
	if got := h.links[spec.VethName(epID(2))]; got != before.Links[spec.VethName(epID(2))] {
		t.Errorf("the other network's container has %+v", got)
	}
	h.remove(n1.Bridge())
	h.engine.LinkChanged(t.Context(), n1.Bridge(), false, true)
	sameWorld(t, "when somebody's link is gone", before, h.snapshot())
	h.consistent(t, "recovered")
}

// Links that carry our mark and are nobody's go at the start; others stay.
func TestStartSweepsLinks(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	before := h.snapshot()
	h.addLink("v6nfoo", fakeLink{Kind: "bridge", Alias: spec.NetworkAlias(netID(7))})
	h.addLink("v6nvbar", fakeLink{Kind: "veth", Alias: spec.EndpointAlias(epID(7)), Peer: "v6nxbar"})
	h.addLink("v6nxbar", fakeLink{Kind: "veth", Alias: spec.EndpointAlias(epID(7)), Peer: "v6nvbar"})
	h.addLink("v6nmine", fakeLink{Kind: "bridge", Alias: "mine"})
	h.restart(t)
	after := h.snapshot()
	if _, kept := after.Links["v6nmine"]; !kept {
		t.Error("a link of somebody else's was removed")
	}
	h.remove("v6nmine")
	sameWorld(t, "after the start", before, h.snapshot())
}

// Events were lost: containers came up, and went, unseen.
func TestResync(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	n, err := h.createNetwork(ctx, dual(1))
	must(t, err)
	stays, goes, comes := &attachment{id: epID(1)}, &attachment{id: epID(2)}, &attachment{id: epID(3)}
	must(t, h.run(ctx, n, stays))
	must(t, h.run(ctx, n, goes))
	h.restart(t) // whoever had the next container's addresses is not known any more
	ep, err := h.lease(ctx, n, comes)
	must(t, err)
	_, err = h.engine.CreateEndpoint(ctx, ep)
	must(t, err)
	_, err = h.engine.Join(ctx, n.ID, comes.id, "/run/sandbox")
	must(t, err)

	h.moveIn(comes.id)
	h.remove(spec.VethName(goes.id))
	h.remove(n.Bridge())
	h.addLink("v6nfoo", fakeLink{Kind: "bridge", Alias: spec.NetworkAlias(netID(7))})
	h.heard(t)
	h.dialed = nil
	h.engine.Resync(ctx)
	// Its MAC may have changed, among what was lost.
	for _, want := range []string{"proxy eth0", "advertiser " + n.Bridge()} {
		if !slices.Contains(h.dialed, want) {
			t.Errorf("%s is not told of a change, only %q are", want, h.dialed)
		}
	}
	if _, back := h.links[spec.VethName(goes.id)]; back {
		t.Error("the link of a container that went is there again, with its other end in the host")
	}
	if _, there := h.links["v6nfoo"]; there {
		t.Error("a leftover link is still there")
	}
	if bridge, there := h.links[n.Bridge()]; !there || h.links[spec.VethName(stays.id)].Master != n.Bridge() {
		t.Errorf("bridge %+v, and the container's link %+v is not on it", bridge, h.links[spec.VethName(stays.id)])
	}
	proxied := map[string]bool{"eth0 " + stays.leases[onLinkPool].String(): true, "eth0 " + comes.leases[onLinkPool].String(): true}
	if diff := cmp.Diff(proxied, h.proxied); diff != "" {
		t.Errorf("proxied (-want +got):\n%s", diff)
	}
	var want []string // to those that are there
	for _, addr := range ep.Addresses() {
		want = append(want, addr.String()+" → ["+spec.VethName(stays.id)+"]")
	}
	if got := h.heard(t); !slices.Equal(got, want) {
		t.Errorf("announced %q, want %q: its link came up, and the others had been told", got, want)
	}
	h.engine.Resync(ctx)
	h.engine.LinkChanged(ctx, spec.VethName(comes.id), true, false)
	if got := h.heard(t); len(got) > 0 {
		t.Errorf("announced %q a second time", got)
	}
	if e := h.engine.Status(ctx).Networks[0].Error; e != "" {
		t.Errorf("the network is degraded: %s", e)
	}
	must(t, h.stop(ctx, *goes))
	h.consistent(t, "after Resync")
	must(t, h.run(ctx, n, goes))
	h.consistent(t, "run again")
}

// Nobody must be told that an address is here whose container has gone.
func TestGoneContainerIsNotProxied(t *testing.T) {
	for name, learns := range map[string]func(h *host){
		"by its event": func(h *host) { h.engine.LinkChanged(t.Context(), spec.VethName(epID(1)), false, true) },
		"by a resync":  func(h *host) { h.engine.Resync(t.Context()) },
		"by a start":   func(h *host) { h.restart(t) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			a := &attachment{id: epID(1)}
			must(t, h.run(t.Context(), n, a))
			h.remove(spec.VethName(a.id))
			learns(h)
			if len(h.proxied) > 0 {
				t.Errorf("proxied %v", h.proxied)
			}
			h.moveDefault(t, "eth1") // what makes the others' again does not make this one's
			h.moveDefault(t, "eth0")
			h.engine.Resync(t.Context())
			if len(h.proxied) > 0 {
				t.Errorf("proxied again: %v", h.proxied)
			}
			must(t, h.stop(t.Context(), *a))
			must(t, h.run(t.Context(), n, a))
			if !h.proxied["eth0 "+a.leases[onLinkPool].String()] {
				t.Errorf("proxied %v, want the container that runs again", h.proxied)
			}
		})
	}
}

// IPv4 may leave by another link than IPv6. What comes from that link comes
// from outside, as it does from the parent.
func TestDefaultLinkOfIPv4(t *testing.T) {
	h := newHost(t)
	h.default4 = "eth1"
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	expect := func(when, want string) {
		t.Helper()
		if got := h.elements("parents"); got != want {
			t.Errorf("%s: parents %s, want %s", when, got, want)
		}
		h.consistent(t, when)
	}
	expect("IPv4 by eth1", `"eth0" "eth1"`)
	h.default4 = "wg0"
	h.routesChanged(t)
	expect("IPv4 moved to wg0", `"eth0" "wg0"`)
	h.default4 = "eth0"
	h.routesChanged(t)
	expect("both by eth0", `"eth0"`)
	h.default4 = ""
	h.routesChanged(t)
	expect("no IPv4", `"eth0"`)
	h.default4 = "eth1"
	h.restart(t)
	expect("after a restart", `"eth0" "eth1"`)

	must(t, h.deleteNetwork(t.Context(), n))
	_, err = h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{ula6()}, internal: true})
	must(t, err)
	expect("internal networks alone", "")
}

// A router that comes into a prefix which is answered for as a whole is not to be
// answered for: the prefix is left, and taken again when it has gone.
func TestRouterInProxiedPrefix(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	n, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}, options: func(o *spec.Options) { o.NDProxy = spec.SwitchPrefix }})
	must(t, err)
	whole := "eth0 " + n.IPv6[0].Prefix.String()
	check := func(when string, proxied bool) {
		t.Helper()
		if e := h.engine.Status(ctx).Networks[0].Error; h.proxied[whole] != proxied || (e == "") != proxied {
			t.Errorf("%s: proxied %v, error %q, want proxied %v", when, h.proxied, e, proxied)
		}
	}
	check("at first", true)
	before := h.routers["eth0"]
	h.routers["eth0"] = append(slices.Clone(before), n.IPv6[0].Prefix.Addr().Next().Next())
	h.engine.RoutesChanged(ctx)
	check("with a router in it", false)
	h.routers["eth0"] = before
	h.engine.RoutesChanged(ctx)
	h.engine.Resync(ctx)
	check("without", true)
}

// A bridge gets a network card, and loses it: packets leave by it, and the rules know.
func TestBridgeBecomesAWayOut(t *testing.T) {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	wants := func(want string) {
		t.Helper()
		if got := h.elements("parents"); got != want {
			t.Errorf("ways out %s, want %s", got, want)
		}
		h.consistent(t, want)
	}
	changes := func() {
		h.engine.LinkChanged(t.Context(), "eth1", true, false)
		h.engine.DoChores(t.Context(), time.Now().Add(time.Second))
	}
	wants(`"eth0"`)
	h.uplinks = []string{"br1"}
	changes()
	wants(`"br1" "eth0"`)
	h.uplinks = nil
	changes()
	wants(`"eth0"`)
}

// explain asks about a call of port 80.
func (h *host) explain(t *testing.T, from, to string) spec.Judgement {
	t.Helper()
	call, err := spec.ParseCall(from, to, "80")
	must(t, err)
	j, err := h.engine.Explain(t.Context(), call)
	must(t, err)
	return j
}

// A call from nobody is refused before the kernel is asked the way to it, who has no words for that.
func TestExplainNobody(t *testing.T) {
	h := newHost(t)
	if _, err := h.engine.Explain(t.Context(), spec.Call{}); err == nil || !strings.Contains(err.Error(), "needs two addresses") {
		t.Errorf("error %v", err)
	}
}

// A network whose prefix cannot be translated here is cut off, and explained as that.
func TestExplainWithoutTranslation(t *testing.T) {
	h := newHost(t)
	options := func(o *spec.Options) { o.Masquerade, o.NPTv6 = spec.SwitchNPTv6, pfx("2001:db8:77::/64") }
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("fd00:1::/64")}, options: options})
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	for _, untranslated := range []error{nil, errors.New("needs nftables")} {
		h.untranslated = untranslated
		j := h.explain(t, "fd00:1::2", "2001:db8::9")
		if cut := j.Verdict == spec.Dropped && strings.Contains(j.Why, "needs nftables"); cut != (untranslated != nil) {
			t.Errorf("translation: %v, explained as %s: %s", untranslated, j.Verdict, j.Why)
		}
		h.restart(t) // the backend is chosen at a start
		h.settle(t)
		if got := h.engine.Status(t.Context()).Networks[0].Error; strings.Contains(got, "cut off from outside: needs nftables") != (untranslated != nil) {
			t.Errorf("translation: %v, its status has the error %q", untranslated, got)
		}
	}
}

// Who judges a caller without an address of its own depends on what keeps the rules.
func TestExplainForgedByBackend(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("fd00:1::/64")}})
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	const call6, call4 = "net/bridge/bridge-nf-call-ip6tables", "net/bridge/bridge-nf-call-iptables"
	for _, tc := range []struct {
		unjudged bool
		shown    map[string]string // settings of br_netfilter
		to       string
		verdict  spec.Verdict
		says     string
	}{
		{false, nil, "fd00:1::2", spec.Dropped, "at the container's port"},
		{false, nil, "2001:db8::9", spec.Dropped, "at the container's port"},
		{true, nil, "fd00:1::2", spec.Unjudged, "nor does br_netfilter"},
		{true, map[string]string{call6: "0", call4: "1"}, "fd00:1::2", spec.Unjudged, "nor does br_netfilter"},
		{true, map[string]string{call6: "1", call4: "0"}, "fd00:1::2", spec.Dropped, "br_netfilter shows"},
		{true, nil, "2001:db8::9", spec.Dropped, "where it comes to the host"},
	} {
		h.backend = map[bool]string{true: "iptables-nft", false: "nftables"}[tc.unjudged]
		h.unjudgedPorts = tc.unjudged
		delete(h.sysctls, call6)
		delete(h.sysctls, call4)
		maps.Copy(h.sysctls, tc.shown)
		j := h.explain(t, "fd00:1::99", tc.to)
		if j.Verdict != tc.verdict || !strings.Contains(j.Why, tc.says) {
			t.Errorf("ports unjudged: %v, to %s: %s: %s, want %s: %s", tc.unjudged, tc.to, j.Verdict, j.Why, tc.verdict, tc.says)
		}
	}
}

// What is explained holds only where the rules are in place, which comes first.
func TestExplainWithoutRules(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("fd00:1::/64")}})
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	warning := func() string {
		t.Helper()
		j := h.explain(t, "2001:db8::9", "fd00:1::2")
		if j.Verdict != spec.Dropped {
			t.Errorf("verdict %s", j.Verdict)
		}
		return j.Warning
	}
	if got := warning(); got != "" {
		t.Errorf("warned of %q", got)
	}
	h.rulesGone = errors.New("the table is gone")
	if got := warning(); !strings.Contains(got, "not in place") || !strings.Contains(got, "the table is gone") {
		t.Errorf("the table is gone, and warned of is %q", got)
	}
	h.rulesGone = nil
	h.broken = "firewall: apply"
	h.engine.Resync(t.Context())
	if got := warning(); !strings.Contains(got, "not in place") {
		t.Errorf("the rules could not be put in place, and warned of is %q", got)
	}
	h.broken = ""
	h.soon(t)
	if got := warning(); got != "" {
		t.Errorf("all is well, and warned of is %q", got)
	}
	h.obstacles = []spec.Obstacle{{Table: "inet filter", Chain: "forward", Why: "policy drop", Fix: "a rule"}}
	if got := h.engine.Status(t.Context()).Obstacles; !slices.Equal(got, h.obstacles) {
		t.Errorf("obstacles %v", got)
	}
}

// A link that lends a prefix gets another name: it is the same one, whatever has become of its
// addresses, and networks go on with what is lent there, but those whose user has named it.
func TestLinkThatLendsIsRenamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		request := pd6(spec.FallbackNone)
		request.Parent = "eth0"
		_, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{request}})
		must(t, err)
		had := h.inSandbox(1)
		h.links["wan0"], h.defaultParent = h.links["eth0"], ""
		delete(h.links, "eth0")
		delete(h.onLink, "eth0")
		h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
		h.engine.LinkChanged(t.Context(), "eth0", false, true)
		h.engine.LinkChanged(t.Context(), "wan0", true, false)
		h.defaultParent = "wan0"
		h.engine.RoutesChanged(t.Context())
		networks := h.engine.Status(t.Context()).Networks
		if got := networks[0]; got.IPv6[0].Lent.Link != "wan0" || got.Parent != "wan0" || got.Error != "" || len(got.Notes) > 0 {
			t.Errorf("follows %+v behind %s: error %q, notes %q", got.IPv6[0].Lent, got.Parent, got.Error, got.Notes)
		}
		if got := networks[1]; got.IPv6[0].Lent.Link != "eth0" {
			t.Errorf("the network whose parent was named follows %+v", got.IPv6[0].Lent)
		}
		wantSame(t, "in the container", had, h.inSandbox(1))
		h.consistent(t, "renamed")

		next := []spec.Delegation{delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour)}
		h.engine.DelegationsChanged(t.Context(), spec.SourcePD, "wan0", next)
		if got := h.inSandbox(1); !slices.Contains(got, "2001:db8:b000::2/64") {
			t.Errorf("when wan0 lends another prefix the container has %q", got)
		}
	})
}
