package engine_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/v6net/v6net/internal/spec"
)

const acceptRABr = "net/ipv6/conf/br0/accept_ra"

func TestSysctls(t *testing.T) {
	type values map[string]string
	for _, tc := range []struct {
		name        string
		before      values // what the host has, other than the kernel's defaults
		recipe      recipe
		with, after values        // while the network is there, and when it is gone
		meanwhile   func(w *host) // what somebody does while it is there
		order, undo []string      // calls of create and of delete, in this order
	}{
		{name: "accept_ra before forwarding, and back in reverse", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}},
			with:  values{acceptRA0: "2", forwarding6: "1", forwarding4: "1", acceptRA1: "2", acceptRABr: "1"},
			after: values{acceptRA0: "1", forwarding6: "0", forwarding4: "0", acceptRA1: "1", acceptRABr: "1"},
			order: []string{"journal: put sysctl " + acceptRA0, "sysctl: set " + acceptRA0 + "=2",
				"journal: put sysctl " + forwarding6, "sysctl: set " + forwarding6 + "=1",
				"journal: put sysctl " + forwarding4, "sysctl: set " + forwarding4 + "=1"},
			undo: []string{"sysctl: set " + forwarding4 + "=0", "journal: delete sysctl " + forwarding4,
				"sysctl: set " + forwarding6 + "=0", "journal: delete sysctl " + forwarding6,
				"sysctl: set " + acceptRA0 + "=1", "journal: delete sysctl " + acceptRA0}},
		{name: "accept_ra=0 is somebody's decision", before: values{acceptRA0: "0"}, recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			with: values{acceptRA0: "0", forwarding6: "1", forwarding4: "0"}, after: values{acceptRA0: "0", forwarding6: "0"}},
		{name: "a router stays one", before: values{forwarding6: "1", forwarding4: "1", acceptRA0: "2"}, recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}},
			with: values{forwarding6: "1", forwarding4: "1", acceptRA0: "2"}, after: values{forwarding6: "1", forwarding4: "1", acceptRA0: "2"}},
		{name: "the parent too, though it does not look like a way out", recipe: recipe{pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.Parent = "br0" }},
			with: values{acceptRA0: "2", acceptRABr: "2"}, after: values{acceptRA0: "1", acceptRABr: "1"}},
		{name: "an internal network needs none", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}, internal: true},
			with: values{acceptRA0: "1", forwarding6: "0", forwarding4: "0"}, after: values{acceptRA0: "1", forwarding6: "0", forwarding4: "0"}},
		{name: "not put back when somebody has changed it", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}},
			with:      values{acceptRA0: "2", forwarding6: "1", forwarding4: "1"},
			meanwhile: func(h *host) { h.set(acceptRA0, "0"); h.set(forwarding4, "0") },
			after:     values{acceptRA0: "0", forwarding6: "0", forwarding4: "0"}},
		{name: "a parent that is gone for good is forgotten", recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			meanwhile: func(h *host) { h.remove("eth0"); h.raLinks = nil },
			after:     values{forwarding6: "0"}},
		{name: "an advertised route that vanishes does not take accept_ra back", recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			meanwhile: func(h *host) {
				h.raLinks, h.defaultParent = nil, ""
				h.engine.RoutesChanged(t.Context())
				if h.sysctls[acceptRA0] != "2" {
					t.Errorf("accept_ra is %s without an advertised route: it could not come back while the host forwards", h.sysctls[acceptRA0])
				}
			},
			after: values{acceptRA0: "1", forwarding6: "0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.addLink("br0", fakeLink{Kind: "bridge", MTU: 1500, Up: true}) // another engine's
			for key, value := range tc.before {
				h.set(key, value)
			}
			h.raLinks, h.defaultParent = []string{"eth0"}, "eth0"
			pristine := h.snapshot()
			check := func(when string, want values) {
				t.Helper()
				got := values{}
				for key := range want {
					got[key] = h.sysctls[key]
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", when, diff)
				}
			}
			tc.recipe.id = netID(1)
			n, err := h.createNetwork(t.Context(), tc.recipe)
			must(t, err)
			if !h.calledInOrder(tc.order...) {
				t.Errorf("calls %q, want in this order %q", h.calls, tc.order)
			}
			check("with the network", tc.with)
			if h.defaultParent == "" {
				t.Error("the host lost its default route")
			}
			h.consistent(t, "with the network")
			if tc.meanwhile != nil {
				tc.meanwhile(h)
			}
			h.disarm()
			must(t, h.deleteNetwork(t.Context(), n))
			if !h.calledInOrder(tc.undo...) {
				t.Errorf("calls %q, want in this order %q", h.calls, tc.undo)
			}
			check("with no network left", tc.after)
			if tc.meanwhile == nil {
				sameWorld(t, "with no network left", pristine, h.snapshot())
			}
			if len(h.journal.(fakeJournal).world.journal) > 0 {
				t.Errorf("journal %v, want it empty", h.world.journal)
			}
		})
	}
}

// The order does not come from the links' names.
func TestForwardingGoesBackBeforeAcceptRA(t *testing.T) {
	h := newHost(t)
	h.addLink("a0", fakeLink{Kind: "device", MTU: 1500, Up: true})
	h.raLinks = []string{"a0"}
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	const acceptRA = "net/ipv6/conf/a0/accept_ra"
	if !h.calledInOrder("sysctl: set "+acceptRA+"=2", "sysctl: set "+forwarding6+"=1") {
		t.Errorf("calls %q: forwarding was turned on before accept_ra=2", h.calls)
	}
	h.disarm()
	must(t, h.deleteNetwork(t.Context(), n))
	if !h.calledInOrder("sysctl: set "+forwarding6+"=0", "sysctl: set "+acceptRA+"=1") {
		t.Errorf("calls %q: accept_ra was put back while the host still forwarded", h.calls)
	}
}

// Sysctls go back with the last network that needs them, not before.
func TestSysctlsOfTwoNetworks(t *testing.T) {
	h := newHost(t)
	first, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	second, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	must(t, h.deleteNetwork(t.Context(), first))
	if h.sysctls[forwarding4] != "0" || h.sysctls[forwarding6] != "1" || h.sysctls[acceptRA0] != "2" {
		t.Errorf("sysctls %v: the IPv6 network that is left needs forwarding6 and accept_ra, and nobody forwarding4", h.sysctls)
	}
	must(t, h.deleteNetwork(t.Context(), second))
	if h.sysctls[forwarding6] != "0" || h.sysctls[acceptRA0] != "1" {
		t.Errorf("sysctls %v after the last network", h.sysctls)
	}
}

// expect fails the test where sysctls are not as wanted, given as key, value, key, value.
func (h *host) expect(t testing.TB, when string, pairs ...string) {
	t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		if got := h.sysctls[pair[0]]; got != pair[1] {
			t.Errorf("%s: %s is %q, want %q", when, pair[0], got, pair[1])
		}
	}
}

// comeUp is a link that appears and is brought up.
func (h *host) comeUp(t testing.TB, name string, l fakeLink, sysctls ...string) {
	t.Helper()
	h.world.mu.Lock()
	l.Up = true
	h.addLink(name, l)
	for pair := range slices.Chunk(sysctls, 2) {
		h.sysctls[pair[0]] = pair[1]
	}
	h.world.mu.Unlock()
	h.engine.LinkChanged(t.Context(), name, true, false)
}

func acceptRAOf(link string) string { return "net/ipv6/conf/" + link + "/accept_ra" }

// At boot forwarding is turned on before any router has spoken. Links without
// an advertised route would never get one, nor would links that come later.
func TestNoRouterHasSpokenYet(t *testing.T) {
	h := newHost(t)
	h.raLinks, h.defaultParent = nil, ""
	h.addLink("quiet", fakeLink{Kind: "device", MTU: 1500, Up: true})
	h.set(acceptRAOf("quiet"), "0")
	h.addLink("docker0", fakeLink{Kind: "bridge", MTU: 1500, Up: true})
	pristine := h.snapshot()
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	if !h.calledInOrder("sysctl: set "+acceptRA1+"=2", "sysctl: set "+forwarding6+"=1") {
		t.Errorf("calls %q: forwarding was turned on before accept_ra=2", h.calls)
	}
	h.engine.LinkChanged(t.Context(), n.Bridge(), true, false)
	h.engine.LinkChanged(t.Context(), "quiet", true, false)
	h.expect(t, "with the network", acceptRA0, "2", acceptRA1, "2", acceptRAOf("quiet"), "0", acceptRAOf("docker0"), "1", acceptRAOf(n.Bridge()), "0")

	device := fakeLink{Kind: "device", MTU: 1500}
	h.comeUp(t, "eth2", device)
	h.comeUp(t, "hushed", device, acceptRAOf("hushed"), "0")
	h.comeUp(t, "docker1", fakeLink{Kind: "bridge", MTU: 1500})
	h.expect(t, "links that came later", acceptRAOf("eth2"), "2", acceptRAOf("hushed"), "0", acceptRAOf("docker1"), "1")
	h.consistent(t, "with links that came later")

	must(t, h.deleteNetwork(t.Context(), n))
	h.comeUp(t, "eth3", device)
	h.expect(t, "a link that comes when nothing is forwarded", acceptRAOf("eth3"), "1")
	for _, late := range []string{"eth2", "hushed", "docker1", "eth3"} {
		if late == "eth2" {
			h.expect(t, "put back", acceptRAOf(late), "1")
		}
		h.remove(late)
	}
	sameWorld(t, "with no network left", pristine, h.snapshot())
}

// What the kernel overwrites along with forwarding is put back by hand, and
// exactly, however often that fails on the way.
func TestSideEffectsOfForwarding(t *testing.T) {
	const (
		lan6, lan4 = "net/ipv6/conf/lan/forwarding", "net/ipv4/conf/lan/forwarding"
		redirects  = "net/ipv4/conf/all/accept_redirects"
	)
	for _, broken := range []string{
		"", "sysctl: set " + forwarding4, "sysctl: set " + forwarding6, "sysctl: set " + lan4, "sysctl: set " + lan6,
		"sysctl: set " + redirects, "sysctl: set " + acceptRA0, "journal: delete sysctl", "journal: delete sysctl " + redirects,
	} {
		for _, then := range []string{"again", "restart", "resync", "another network"} {
			t.Run(broken+"/"+then, func(t *testing.T) {
				h := newHost(t)
				pristine := h.snapshot()
				n, err := h.createNetwork(t.Context(), dual(1))
				must(t, err)
				for _, key := range []string{lan6, lan4, redirects} {
					if _, recorded := h.world.journal["sysctl "+key]; !recorded {
						t.Errorf("%s is not recorded: nothing could put it back", key)
					}
				}
				h.broken = broken
				if err := h.deleteNetwork(t.Context(), n); (err != nil) != (broken != "") {
					t.Errorf("delete: %v", err)
				}
				if h.sysctls[forwarding6] == "1" {
					h.expect(t, "while the host still forwards", acceptRA0, "2", acceptRA1, "2")
				}
				switch then {
				case "again":
					h.broken = ""
					must(t, h.deleteNetwork(t.Context(), n))
				case "restart":
					h.restart(t) // which works, and cannot finish yet
					h.broken = ""
					h.restart(t)
				case "resync":
					h.engine.Resync(t.Context())
					h.broken = ""
					h.engine.Resync(t.Context())
				case "another network":
					h.broken = ""
					other, err := h.createNetwork(t.Context(), dual(2))
					must(t, err)
					h.expect(t, "with another network", forwarding6, "1", forwarding4, "1", acceptRA0, "2")
					must(t, gone(h.engine.DeleteNetwork(t.Context(), n.ID)))
					h.expect(t, "with another network alone", forwarding6, "1", forwarding4, "1", acceptRA0, "2")
					must(t, h.deleteNetwork(t.Context(), other))
				}
				sameWorld(t, "with no network left", pristine, h.snapshot())
			})
		}
	}
}

// A creation that fails at any call leaves every link as it was; so does one
// that is cut off and taken back by the next start.
func TestSideEffectsOfFailedCreation(t *testing.T) {
	for _, m := range []mode{failBefore, failAfter, crashBefore, crashAfter} {
		for at := 1; ; at++ {
			h := newHost(t)
			pristine := h.snapshot()
			h.arm(fault{at: at, mode: m})
			var n spec.Network
			died := dies(func() error { return h.create(t.Context(), dual(1), &n) })
			if len(h.calls) < at {
				break
			}
			what := "call " + h.calls[at-1] + " " + string(m)
			h.disarm()
			if died {
				h.restart(t)
				h.settle(t)
			}
			must(t, h.deleteNetwork(t.Context(), n)) // as the container engine does
			sameWorld(t, what, pristine, h.snapshot())
		}
	}
}

// Containers of another engine that came while the host forwarded for us keep
// their way out. It ends at the first opportunity after they have gone.
func TestAnotherEngineNeedsForwarding(t *testing.T) {
	for name, opportunity := range map[string]func(*testing.T, *host){
		"resync":  func(t *testing.T, h *host) { h.engine.Resync(t.Context()) },
		"restart": func(t *testing.T, h *host) { h.restart(t) },
		"routes":  func(t *testing.T, h *host) { h.moveDefault(t, "eth1"); h.moveDefault(t, "eth0") },
		"network": func(t *testing.T, h *host) {
			n, err := h.createNetwork(t.Context(), dual(3))
			must(t, err)
			must(t, h.deleteNetwork(t.Context(), n))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			pristine := h.snapshot()
			n, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			h.othersForward = map[bool]bool{true: true}
			must(t, h.deleteNetwork(t.Context(), n))
			h.expect(t, "with another's IPv6 bridge", forwarding6, "1", acceptRA0, "2", acceptRA1, "2", forwarding4, "0")
			h.consistent(t, "with another's IPv6 bridge")
			h.comeUp(t, "eth2", fakeLink{Kind: "device", MTU: 1500})
			h.expect(t, "a link that came while the host forwards on", acceptRAOf("eth2"), "2")
			h.remove("eth2")
			h.restart(t)
			h.expect(t, "after a restart", forwarding6, "1", acceptRA0, "2", forwarding4, "0")
			h.othersForward = nil
			opportunity(t, h)
			sameWorld(t, "when the other's bridge is gone", pristine, h.snapshot())
		})
	}
}

// A host that was a router before has no need of us to stay one.
func TestAnotherEnginesForwardingIsNotOurs(t *testing.T) {
	h := newHost(t)
	h.set(forwarding4, "1")
	h.set(forwarding6, "1")
	h.raLinks, h.defaultParent = []string{"eth0"}, "eth0"
	h.othersForward = map[bool]bool{true: true, false: true}
	pristine := h.snapshot()
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.deleteNetwork(t.Context(), n))
	sameWorld(t, "with no network left", pristine, h.snapshot())
}

// The records are of one boot. At the next one the administrator has made the
// host a router: it stays one when the last network goes.
func TestAnotherBootForgetsRecords(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	h.restart(t)
	h.expect(t, "after a restart", forwarding4, "1")
	if got := h.world.journal["sysctl "+forwarding4]; got != `"0"` {
		t.Errorf("after a restart of the daemon alone: record %s, want the value of before", got)
	}
	h.reboot("second")
	h.set(forwarding4, "1")
	h.set("net/ipv4/conf/lan/forwarding", "0")
	h.set("net/ipv4/conf/all/accept_redirects", "1")
	h.set(acceptRA1, "2")
	before := h.snapshot()
	h.restart(t)
	h.expect(t, "after the boot", forwarding6, "1", acceptRA0, "2")
	var records []string
	for key := range maps.Keys(h.world.journal) {
		if key, ok := strings.CutPrefix(key, "sysctl "); ok {
			records = append(records, key)
		}
	}
	slices.Sort(records)
	if want := []string{forwarding6, acceptRA0, "net/ipv6/conf/lan/forwarding"}; !slices.Equal(records, sorted(want)) {
		t.Errorf("records %q, want %q: what this boot has had already is not v6net's to put back", records, sorted(want))
	}
	h.consistent(t, "after the boot")
	must(t, h.deleteNetwork(t.Context(), n))
	after := h.snapshot()
	before.Journal, after.Journal = nil, nil
	sameWorld(t, "with no network left", before, after)
	if len(h.world.journal) > 0 {
		t.Errorf("journal %v, want it empty", h.world.journal)
	}
}

func sorted(texts []string) []string { return slices.Sorted(slices.Values(texts)) }

// What one network's rules lack keeps forwarding from nobody: it is closed, and the others
// are not. A network that no rule can be about would be open.
func TestForwardsBesideAFault(t *testing.T) {
	for _, tc := range []struct {
		name, unnamed, want string
	}{
		{"closed", "", "1"},
		{"no rule can be about it", "br+", "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.unnamed = tc.unnamed
			odd := dual(1)
			odd.options = func(o *spec.Options) { o.BridgeName = "br+" }
			for _, r := range []recipe{odd, dual(2)} {
				_, err := h.createNetwork(t.Context(), r)
				must(t, err)
			}
			check := func(when string) {
				t.Helper()
				h.expect(t, when, forwarding4, tc.want, forwarding6, tc.want)
				status := h.engine.Status(t.Context())
				if !strings.Contains(status.Networks[0].Error, "iptables cannot say") || strings.Contains(status.Networks[0].Error, "forwards anyway") != (tc.unnamed != "") || status.Networks[1].Error != "" {
					t.Errorf("%s: networks say %q and %q", when, status.Networks[0].Error, status.Networks[1].Error)
				}
			}
			check("when they are made")
			h.reboot("another boot")
			h.restart(t)
			check("after a boot")
			must(t, h.engine.DeleteNetwork(t.Context(), netID(1)))
			h.expect(t, "when it has gone", forwarding4, "1", forwarding6, "1")
		})
	}
}

// What was set of a link goes with it when it gets another name, and is put back there. Another
// link that has the former name is its owner's.
func TestSettingsGoWithTheirLink(t *testing.T) {
	for name, happens := range map[string]func(h *host, another func()){
		"told": func(h *host, another func()) {
			h.rename("eth0", "wan0")
			another()
			h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
			h.engine.LinkChanged(t.Context(), "eth0", false, true)
			h.engine.LinkChanged(t.Context(), "wan0", true, false)
		},
		"while no daemon ran": func(h *host, another func()) {
			h.rename("eth0", "wan0")
			another()
			h.restart(t)
		},
		"deleted": func(h *host, another func()) {
			h.rename("eth0", "wan0") // which has it yet, for the networks' sake
			h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
			h.remove("wan0")
			h.engine.LinkChanged(t.Context(), "wan0", false, true)
			h.addLink("wan0", fakeLink{Kind: "device", MTU: 1500, Up: true})
			h.set("net/ipv6/conf/wan0/accept_ra", "2")
			h.onLink["wan0"] = []netip.Prefix{pfx("2001:db8:1::/64")}
			h.raLinks = []string{"wan0"}
			h.engine.LinkChanged(t.Context(), "wan0", true, false)
			another()
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(), auto6()}})
			must(t, err)
			h.expect(t, "made", acceptRA0, "2")
			happens(h, func() {
				h.addLink("eth0", fakeLink{Kind: "device", MTU: 1500, Up: true})
				h.set(acceptRA0, "2") // its owner has
			})
			must(t, h.deleteNetwork(t.Context(), n))
			want := "1"
			if name == "deleted" {
				want = "2"
			}
			h.expect(t, "no network left", "net/ipv6/conf/wan0/accept_ra", want, acceptRA0, "2")
			if len(h.world.journal) > 0 {
				t.Errorf("journal %v, want it empty", h.world.journal)
			}
		})
	}
}

// A parent that is no network's by name has its settings as well.
func TestSettingsGoWithALinkOfNoNetwork(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	h.rename("eth0", "wan0")
	h.engine.LinkRenamed(t.Context(), "eth0", "wan0")
	h.engine.LinkChanged(t.Context(), "eth0", false, true)
	h.restart(t)
	must(t, h.deleteNetwork(t.Context(), n))
	h.expect(t, "no network left", "net/ipv6/conf/wan0/accept_ra", "1")
}
