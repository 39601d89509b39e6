package engine_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// onParentLink is what eth0 has, as its source says it: preferred until, and valid for so long.
func onParentLink(p string, preferred bool, valid time.Duration) spec.Delegation {
	d := spec.Delegation{Source: spec.SourceParent, Parent: "eth0", Prefix: pfx(p), OnLink: true, Origin: spec.ParentOrigin}
	if !preferred {
		d.Preferred = time.Now().UTC().Truncate(time.Second)
	}
	if valid > 0 {
		d.Valid = time.Now().Add(valid).UTC().Truncate(time.Second)
	}
	return d
}

var parentOnEth0 = spec.SourceOnLink{Source: spec.SourceParent, Link: "eth0"}

// onParentHost is a host whose containers' addresses are of its link's own prefix.
func onParentHost(t testing.TB) *host {
	h := newHost(t)
	h.lentTo[parentOnEth0] = []spec.Delegation{onParentLink(oldLink, true, 0)}
	return h
}

// readvertise has eth0 have these prefixes from now on, and tells the engine, which has what
// it needs to know of them found out.
func (h *host) readvertise(t reporter, has ...spec.Delegation) {
	t.Helper()
	h.onLink["eth0"], h.lentTo[parentOnEth0] = nil, has
	for _, d := range has {
		h.onLink["eth0"] = append(h.onLink["eth0"], d.Prefix)
	}
	h.engine.DelegationsChanged(t.Context(), spec.SourceParent, "eth0", has)
	h.engine.ProbeParts(t.Context())
}

// probed reports whether an address was asked for on the link.
func (h *host) probed(a string) bool {
	return slices.ContainsFunc(h.probes, func(batch []netip.Addr) bool { return slices.Contains(batch, ip(a)) })
}

const (
	oldLink, newLink = "2001:db8:1::/64", "2001:db8:2::/64"
	oldPart, newPart = onLinkPool, "2001:db8:2:0:789a::/80"
)

func in(part string, n int) string {
	return fmt.Sprintf("%s%d", strings.TrimSuffix(part, "/80"), n)
}

// A router gives its link another prefix: networks on parts of the former one move to the
// same parts of that, in every mode, after nobody has answered for their addresses.
func TestParentIsRenumbered(t *testing.T) {
	for name, mode := range map[string]struct {
		options []string
		proxied bool
		host    string
	}{
		"bridge":         {nil, true, ""},
		"bridge, prefix": {[]string{"ndproxy", "prefix"}, true, ""},
		"ipvlan l3":      {[]string{"mode", "ipvlan", "ipvlan_mode", "l3"}, true, ""},
		"ipvlan l2":      {[]string{"mode", "ipvlan"}, false, ""},
		"macvlan":        {[]string{"mode", "macvlan"}, false, ""},
		"macvlan, host":  {[]string{"mode", "macvlan", "host_access", "on"}, false, "2001:db8:2:0:789a::1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := onParentHost(t)
				n, err := h.createNetwork(t.Context(), child(t, 1, mode.options...))
				must(t, err)
				a := &attachment{id: epID(1)}
				must(t, h.run(t.Context(), n, a))
				was := a.leases[oldPart].String()
				now := spec.Renumbered(ip(was), pfx(newPart)).String()
				wantSame(t, "in the container", []string{was + "/80"}, h.inSandbox(1))

				// The link's prefix is known, to begin with, and lasts longer.
				h.readvertise(t, onParentLink(oldLink, true, 24*time.Hour))
				h.readvertise(t, onParentLink(oldLink, true, 48*time.Hour))
				h.readvertise(t, onParentLink(oldLink, true, 48*time.Hour), onParentLink(newLink, true, 48*time.Hour))
				wantSame(t, "in the container while both are preferred", []string{was + "/80"}, h.inSandbox(1))
				h.consistent(t, "with two prefixes")

				h.probes = nil
				has := []spec.Delegation{onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour)}
				until := has[0].Valid.Format(time.RFC3339)
				h.engine.DelegationsChanged(t.Context(), spec.SourceParent, "eth0", has)
				wantSame(t, "in the container before anybody was asked", []string{was + "/80"}, h.inSandbox(1))
				h.readvertise(t, has...)
				for _, addr := range []string{in(newPart, 1), now} {
					if !h.probed(addr) {
						t.Errorf("nobody was asked whether he has %s: %v", addr, h.probes)
					}
				}
				wantSame(t, "in the container", []string{was + "/80 former until " + until, now + "/80"}, h.inSandbox(1))
				for _, addr := range []string{was, now} {
					if got := h.proxied["eth0 "+addr] || h.proxied["eth0 "+pfx(newPart).String()] && h.proxied["eth0 "+pfx(oldPart).String()]; got != mode.proxied {
						t.Errorf("%s is answered for: %t, want %t: %v", addr, got, mode.proxied, h.proxied)
					}
				}
				if shim := h.links[spec.ShimName(n.ID)]; mode.host != "" && (!strings.Contains(shim.Addrs, mode.host) || !strings.Contains(fmt.Sprint(shim.Routes), now)) {
					t.Errorf("the host's own link is %+v, want %s and a route to %s", shim, mode.host, now)
				}
				if len(h.unreachable) > 0 {
					t.Errorf("unreachable: %v, of what neighbours have", h.unreachable)
				}
				h.consistent(t, "renumbered")

				// Who comes now is given no address that has not been asked for.
				h.probes = nil
				b := &attachment{id: epID(2)}
				must(t, h.run(t.Context(), n, b))
				if got := b.leases[oldPart]; !pfx(newPart).Contains(got) || !h.probed(got.String()) {
					t.Errorf("the new container has %s, asked for were %v", got, h.probes)
				}
				h.restart(t)
				h.readvertise(t, has...)
				wantSame(t, "in the container after a restart", []string{was + "/80 former until " + until, now + "/80"}, h.inSandbox(1))

				h.pass(t, 3*time.Hour)
				h.readvertise(t, onParentLink(newLink, true, 24*time.Hour))
				wantSame(t, "in the container at the end", []string{now + "/80"}, h.inSandbox(1))
				if h.proxied["eth0 "+was] {
					t.Error("the former address is answered for")
				}
				h.consistent(t, "at the end of the former prefix")
				if got := h.notes(t); got != "" {
					t.Errorf("notes %q", got)
				}
			})
		})
	}
}

// Neighbours have addresses in the part that a network would get: it gets another one.
// Where they are in each that is tried it goes without for a while.
func TestNeighboursInANewPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onParentHost(t)
		n, err := h.createNetwork(t.Context(), child(t, 1))
		must(t, err)
		a := &attachment{id: epID(1)}
		must(t, h.run(t.Context(), n, a))
		h.foreign[spec.Renumbered(a.leases[oldPart], pfx(newPart))] = true
		has := []spec.Delegation{onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour)}
		h.readvertise(t, has...)
		if got := h.current(t, 1); got != pfx(oldPart) {
			t.Errorf("the network has %s when somebody was found in its part", got)
		}
		h.engine.ProbeParts(t.Context())
		now := h.current(t, 1)
		if now == pfx(newPart) || !pfx(newLink).Overlaps(now) || now.Addr() == pfx(newLink).Addr() {
			t.Errorf("the network has %s, want another part than %s and the first of %s", now, newPart, newLink)
		}

		// And once more, with somebody in every part.
		third := "2001:db8:3::/64"
		h.readvertise(t, onParentLink(newLink, false, 2*time.Hour), onParentLink(third, true, 24*time.Hour))
		if got := h.current(t, 1); !pfx(third).Overlaps(got) {
			t.Errorf("the network has %s, want a part of %s", got, third)
		}
		h.crowded = pfx("2001:db8:4::/64")
		last := []spec.Delegation{onParentLink(third, false, 24*time.Hour), onParentLink("2001:db8:4::/64", true, 24*time.Hour)}
		h.probes = nil
		h.readvertise(t, last...)
		for range 9 {
			h.engine.ProbeParts(t.Context())
		}
		if len(h.probes) != 4 {
			t.Errorf("probed %d times, want 4: %v", len(h.probes), h.probes)
		}
		if got := h.notes(t); !strings.Contains(got, "neighbours on eth0 answered in each of 4 parts of 2001:db8:4::/64") {
			t.Errorf("notes %q", got)
		}
		h.crowded = netip.Prefix{}
		h.pass(t, 11*time.Minute)
		h.engine.ProbeParts(t.Context())
		if got := h.current(t, 1); !pfx("2001:db8:4::/64").Overlaps(got) {
			t.Errorf("the network has %s when the neighbours are gone", got)
		}
	})
}

// moving is a host on whose link there is a network with containers, which is about to move.
func moving(t testing.TB, containers int) (*host, spec.Network) {
	h := onParentHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1))
	must(t, err)
	for i := range containers {
		must(t, h.run(t.Context(), n, &attachment{id: epID(i + 1)}))
	}
	h.probes = nil
	return h, n
}

// A link gets another prefix and then its former one again, where a neighbour has come into
// the part that the network had: it gets another part of that.
func TestBackToAPartThatIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := moving(t, 1)
		h.readvertise(t, onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour))
		wantSame(t, "the network has", pfx(newPart), h.current(t, 1))
		h.foreign[ip(in(oldPart, 3))] = true
		h.probes = nil
		h.readvertise(t, onParentLink(oldLink, true, 24*time.Hour), onParentLink(newLink, false, 2*time.Hour))
		for range 20 {
			h.engine.ProbeParts(t.Context())
		}
		if len(h.probes) > 2 {
			t.Errorf("probed %d times, want the former part and another one", len(h.probes))
		}
		if got := h.current(t, 1); !pfx(oldLink).Overlaps(got) || got == pfx(oldPart) {
			t.Errorf("the network has %s, want another part of %s than %s", got, oldLink, oldPart)
		}
	})
}

// An address that is leased, and not an endpoint's yet, is asked for like those of endpoints.
func TestLeaseWithoutEndpointIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := moving(t, 0)
		got, err := h.engine.RequestAddress(t.Context(), oldPart, ip("2001:db8:1:0:789a::77"), false)
		must(t, err)
		h.readvertise(t, onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour))
		if now := spec.Renumbered(got.Addr(), pfx(newPart)).String(); !h.probed(now) {
			t.Errorf("%s is leased, and nobody was asked for it: %v", now, h.probes)
		}
	})
}

// A network moves while an address of it is probed: the address is asked for again, in the
// prefix that it is used in.
func TestNetworkMovesWhileAnAddressIsProbed(t *testing.T) {
	for name, want := range map[string]string{"any address": "", "one that was chosen": "2001:db8:1:0:789a::77"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := moving(t, 0)
				moved := false
				h.probing = func() {
					if !moved {
						moved = true
						h.readvertise(t, onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour))
					}
				}
				chosen := netip.Addr{}
				if want != "" {
					chosen = ip(want)
				}
				got, err := h.engine.RequestAddress(t.Context(), oldPart, chosen, false)
				must(t, err)
				if !moved || !pfx(newPart).Contains(got.Addr()) || !h.probed(got.Addr().String()) {
					t.Errorf("leased %s, moved %t; asked for were %v", got, moved, h.probes)
				}
			})
		})
	}
}

// Containers are started during each probe, and the network moves all the same, with no
// address that has not been asked for.
func TestNetworkOfABusyHostMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, n := moving(t, 6)
		next, busy := 7, false
		h.probing = func() {
			if !busy {
				busy = true
				must(t, h.run(t.Context(), n, &attachment{id: epID(next)}))
				next++
				busy = false
			}
		}
		h.readvertise(t, onParentLink(oldLink, false, time.Minute), onParentLink(newLink, true, 24*time.Hour))
		for range 5 {
			h.engine.ProbeParts(t.Context())
		}
		wantSame(t, "the network has", pfx(newPart), h.current(t, 1))
		for number := 1; number < next; number++ {
			for _, has := range h.inSandbox(number) {
				if p := pfx(strings.Fields(has)[0]); pfx(newPart).Contains(p.Addr()) && !h.probed(p.Addr().String()) {
					t.Errorf("container %d has %s, which nobody was asked for", number, has)
				}
			}
		}
	})
}

// Networks move at once, and somebody is in the first choice of each: they are counted apart.
func TestNeighboursInPartsOfManyNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const networks = 6
		h := onParentHost(t)
		for i := 1; i <= networks; i++ {
			n, err := h.createNetwork(t.Context(), child(t, i))
			must(t, err)
			must(t, h.run(t.Context(), n, &attachment{id: epID(i)}))
			h.foreign[spec.Renumbered(h.current(t, i).Addr(), pfx(newLink)).Next()] = true
		}
		h.readvertise(t, onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour))
		for range 9 {
			h.engine.ProbeParts(t.Context())
		}
		for i := 1; i <= networks; i++ {
			if got := h.current(t, i); !pfx(newLink).Overlaps(got) {
				t.Errorf("network %d has %s, want a part of %s: %s", i, got, newLink, h.notes(t))
			}
		}
	})
}

// Neighbours are in all parts that are tried: a network keeps what it has while that is valid.
func TestPartIsKeptWhileThereIsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := moving(t, 1)
		h.crowded = pfx(newLink)
		h.readvertise(t, onParentLink(oldLink, false, time.Hour), onParentLink(newLink, true, 24*time.Hour))
		for range 9 {
			h.engine.ProbeParts(t.Context())
		}
		wantSame(t, "the network has", pfx(oldPart), h.current(t, 1))
		if got := h.notes(t); !strings.Contains(got, "the network keeps "+oldPart) || !strings.Contains(got, "answered in each of 4 parts") {
			t.Errorf("notes %q", got)
		}
		h.pass(t, time.Hour+time.Second)
		wantSame(t, "the network has when that is over", netip.Prefix{}, h.current(t, 1))
	})
}

// Nobody can be asked: status says so, the prefix in use is kept while it is valid, and then
// the network is on its fallback, until it is known who has what.
func TestProbesThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onParentHost(t)
		n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(), {V6: true, Source: spec.SourceParent, Allocation: spec.Sequential, Fallback: spec.FallbackULA}}})
		must(t, err)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		h.broken = "host: probe"
		h.readvertise(t, onParentLink(oldLink, false, 5*time.Minute), onParentLink(newLink, true, 24*time.Hour))
		for range 4 {
			wantSame(t, "the network has", pfx(oldPart), h.current(t, 1))
			if got := h.notes(t); !strings.Contains(got, "could not be found out yet") {
				t.Errorf("notes %q", got)
			}
			h.pass(t, time.Minute)
			h.engine.ProbeParts(t.Context())
		}
		h.pass(t, 2*time.Minute)
		if got := h.current(t, 1); !spec.IsULA(got) {
			t.Errorf("the network has %s after the end of %s, notes %q", got, oldPart, h.notes(t))
		}
		h.broken = ""
		h.pass(t, 2*time.Minute)
		h.engine.ProbeParts(t.Context())
		wantSame(t, "the network has when probes work", pfx(newPart), h.current(t, 1))
		wantSame(t, "notes", "", h.notes(t))
	})
}

// Nobody answers while the link is down, and that says nothing of who is there.
func TestPartOfALinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := moving(t, 1)
		h.foreign[ip(in(newPart, 1))] = true
		setUp := func(up bool) {
			eth0 := h.links["eth0"]
			eth0.Up = up
			h.links["eth0"] = eth0
			h.engine.LinkChanged(t.Context(), "eth0", up, false)
		}
		setUp(false)
		h.readvertise(t, onParentLink(oldLink, false, time.Hour), onParentLink(newLink, true, 24*time.Hour))
		wantSame(t, "the network has while the link is down", pfx(oldPart), h.current(t, 1))
		setUp(true)
		h.engine.ProbeParts(t.Context())
		h.engine.ProbeParts(t.Context())
		if got := h.current(t, 1); !pfx(newLink).Overlaps(got) || got == pfx(newPart) {
			t.Errorf("the network has %s, want a part of %s in which nobody is", got, newLink)
		}
	})
}

// A link's prefix that is as long as a network's part is no part, and one that is longer neither.
func TestParentPrefixTooLong(t *testing.T) {
	for _, long := range []string{"2001:db8:2:0:789a::/80", "2001:db8:2::/96"} {
		h := onParentHost(t)
		_, err := h.createNetwork(t.Context(), child(t, 1))
		must(t, err)
		h.readvertise(t, onParentLink(oldLink, false, 2*time.Hour), onParentLink(long, true, 24*time.Hour))
		if got := h.notes(t); !strings.Contains(got, "a /80 is not a part of "+long) {
			t.Errorf("%s: notes %q", long, got)
		}
	}
}

// Networks that were made when they did not follow their parent do so from the next start on,
// whatever the parent has by then.
func TestJournalOfBefore(t *testing.T) {
	for name, has := range map[string]string{"the same prefix": oldLink, "none yet": "", "another one": newLink} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := onParentHost(t)
				n, err := h.createNetwork(t.Context(), child(t, 1))
				must(t, err)
				a := &attachment{id: epID(1)}
				must(t, h.run(t.Context(), n, a))
				h.forgetLent(t)
				if h.onLink["eth0"] = nil; has != "" {
					h.onLink["eth0"] = []netip.Prefix{pfx(has)}
				}
				h.restart(t)
				was := a.leases[oldPart].String()
				wantSame(t, "in the container after the start", []string{was + "/80"}, h.inSandbox(1))
				h.consistent(t, "adopted")
				must(t, h.run(t.Context(), n, &attachment{id: epID(2)}))

				h.readvertise(t, onParentLink(newLink, true, 24*time.Hour))
				if got := h.current(t, 1); got != pfx(newPart) {
					t.Errorf("the network has %s, want %s", got, newPart)
				}
				until := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
				wantSame(t, "in the container", []string{was + "/80 former until " + until, spec.Renumbered(ip(was), pfx(newPart)).String() + "/80"}, h.inSandbox(1))
				h.consistent(t, "renumbered")
			})
		})
	}
}

// forgetLent makes the journal that of a version before networks followed their parent.
func (h *host) forgetLent(t testing.TB) {
	t.Helper()
	for key, text := range h.world.journal {
		var record map[string]any
		if json.Unmarshal([]byte(text), &record) != nil {
			continue
		}
		delete(record, "lent")
		for _, family := range []string{"ipv6", "IPv6"} {
			subnets, _ := record[family].([]any)
			for _, s := range subnets {
				delete(s.(map[string]any), "lent")
			}
		}
		without, err := json.Marshal(record)
		must(t, err)
		h.world.journal[key] = string(without)
	}
	for _, text := range h.world.journal {
		if strings.Contains(text, `"lent"`) {
			t.Fatalf("the journal has it yet: %s", text)
		}
	}
}

// The parent's prefix ends and there is no other: networks are on their fallback, if they
// have one, until there is.
func TestParentLosesItsPrefix(t *testing.T) {
	for _, fallback := range []spec.Fallback{spec.FallbackNone, spec.FallbackULA} {
		t.Run(string(fallback), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := onParentHost(t)
				n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(), {V6: true, Source: spec.SourceParent, Allocation: spec.Sequential, Fallback: fallback}}})
				must(t, err)
				a := &attachment{id: epID(1)}
				must(t, h.run(t.Context(), n, a))
				h.readvertise(t, onParentLink(oldLink, true, time.Hour))
				h.pass(t, time.Hour+time.Second)
				h.readvertise(t)
				switch now := h.current(t, 1); {
				case fallback == spec.FallbackNone && now.IsValid(), fallback == spec.FallbackULA && !spec.IsULA(now):
					t.Errorf("it has %s", now)
				}
				if got := h.notes(t); !strings.Contains(got, "source parent lends no prefix on eth0 now") {
					t.Errorf("notes %q", got)
				}
				h.consistent(t, "lost")
				h.readvertise(t, onParentLink(oldLink, true, time.Hour))
				if now := h.current(t, 1); now != pfx(oldPart) || h.notes(t) != "" {
					t.Errorf("it has %s again, notes %q", now, h.notes(t))
				}
				h.consistent(t, "healed")
			})
		})
	}
}

// A hundred networks on parts of the link's prefix move at once, after one probe for all of
// them. The daemon is killed at their records, their links and their containers, and the next
// one in its start: in the end all is as if it had not been.
func TestAHundredNetworksOnTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const networks = 100
		before := onParentHost(t)
		for i := range networks {
			n, err := before.createNetwork(t.Context(), child(t, i+1))
			must(t, err)
			must(t, before.run(t.Context(), n, &attachment{id: epID(i + 1)}))
		}
		has := []spec.Delegation{onParentLink(oldLink, false, 2*time.Hour), onParentLink(newLink, true, 24*time.Hour)}
		// another is a host on which all that has happened yet.
		another := func() *host {
			w := before.clone()
			h := &host{world: w, journal: fakeJournal{w}}
			h.restart(t)
			return h
		}
		h := another()
		h.disarm()
		h.readvertise(t, has...)
		moves := len(h.calls)
		if len(h.probes) != 1 {
			t.Errorf("probed %d times, want once for all", len(h.probes))
		}
		for _, n := range h.engine.Status(t.Context()).Networks {
			if got, inUse := n.IPv6[0].Lent.Current(); !inUse || !pfx(newLink).Overlaps(got.Prefix) {
				t.Fatalf("network %s has %+v, want a part of %s", n.ID, got, newLink)
			}
		}
		for i := range networks {
			if got := h.inSandbox(i + 1); len(got) != 2 || !strings.Contains(got[0], " former until ") {
				t.Fatalf("container %d has %q, want a former address and another one", i+1, got)
			}
		}
		if got := h.notes(t); got != "" {
			t.Errorf("notes %q", got)
		}
		h.restart(t)
		h.readvertise(t, has...)
		h.settle(t)
		want := h.snapshot()

		for _, at := range []int{3, moves / 4, moves / 2, moves - 2} {
			h := another()
			h.arm(fault{at: at, mode: crashAfter})
			if !dies(func() error { h.readvertise(t, has...); return nil }) {
				t.Fatalf("call %d of %d did not happen", at, moves)
			}
			what := "killed after " + h.calls[at-1]
			h.arm(fault{at: at / 2, mode: crashBefore})
			if !dies(func() error { return h.start(t.Context()) }) {
				t.Fatalf("%s: call %d of the start did not happen", what, at/2)
			}
			h.restart(t)
			h.readvertise(t, has...)
			h.settle(t)
			sameWorld(t, what+", and in the start after it", want, h.snapshot())
		}
	})
}
