package engine_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/spec"
)

// registry is what a front end has, by name of network.
type registry struct {
	ids map[string]string
	err error
}

func (r *registry) Knows(n spec.Network) (bool, error) { return r.ids[n.Name] == n.ID, r.err }

// A network goes with its front end's record, if there are no containers on it, and
// if the record does not come back at once. Others never do.
func TestAbandonedNetworks(t *testing.T) {
	h := newHost(t)
	known := &registry{ids: map[string]string{}}
	h.registry = known
	h.restart(t)
	docker, err := h.createNetwork(t.Context(), dual(9))
	must(t, err)
	make := func() {
		t.Helper()
		_, err := h.engine.MakeNetwork(t.Context(), request(1, "net", ula6()))
		must(t, err)
	}
	there := func() bool {
		return slices.ContainsFunc(h.engine.Status(t.Context()).Networks, func(n spec.NetworkStatus) bool { return n.ID == netID(1) })
	}
	pass := func(d time.Duration) { h.engine.DoChores(t.Context(), time.Now().Add(d)) }
	for _, tc := range []struct {
		name string
		do   func()
		want bool
	}{
		{"not written down yet", func() { h.engine.RegistryChanged(); pass(2 * engine.AbsentTime) }, true},
		{"written down", func() { known.ids["net"] = netID(1); h.engine.RegistryChanged(); pass(2 * engine.AbsentTime) }, true},
		{"away for a moment", func() {
			delete(known.ids, "net")
			h.engine.RegistryChanged()
			pass(0)
			known.ids["net"] = netID(1)
			pass(2 * engine.AbsentTime)
		}, true},
		{"cannot be known", func() {
			known.err = errors.New("no such folder")
			h.engine.RegistryChanged()
			pass(2 * engine.AbsentTime)
			known.err = nil
		}, true},
		{"away, with a container", func() {
			_, err := h.engine.Attach(t.Context(), attach(1, 1, "eth0"))
			must(t, err)
			delete(known.ids, "net")
			h.engine.RegistryChanged()
			pass(2 * engine.AbsentTime)
		}, true},
		{"away, the container gone", func() { must(t, h.engine.Detach(t.Context(), netID(1), epID(1))); pass(2 * engine.AbsentTime) }, false},
		{"away at a start", func() { make(); h.restart(t); pass(2 * engine.AbsentTime) }, false},
		{"never written down", func() { make(); pass(engine.SettleTime / 2); pass(2 * engine.SettleTime) }, true}, // pass does not make it older
		{"its name in new hands", func() {
			known.ids["net"] = netID(2)
			_, err := h.engine.MakeNetwork(t.Context(), request(2, "net", ula6()))
			must(t, err)
		}, false},
	} {
		if !there() {
			make()
		}
		tc.do()
		if there() != tc.want {
			t.Errorf("%s: the network is there: %t, want %t", tc.name, there(), tc.want)
		}
	}
	if !slices.ContainsFunc(h.engine.Status(t.Context()).Networks, func(n spec.NetworkStatus) bool { return n.ID == docker.ID }) {
		t.Error("a network of Docker's is gone")
	}
}

// A container's link that vanishes takes the endpoint along: netavark says nothing
// for a sandbox that is gone.
func TestDepartedContainer(t *testing.T) {
	h := newHost(t)
	_, err := h.engine.MakeNetwork(t.Context(), request(1, "net", ula6(), auto4()))
	must(t, err)
	before := h.snapshot()
	_, err = h.engine.Attach(t.Context(), attach(1, 1, "eth0", web))
	must(t, err)
	h.moveIn(epID(1))
	h.dropLink(spec.VethName(epID(1)))
	h.engine.LinkChanged(t.Context(), spec.VethName(epID(1)), false, true)
	if eps := h.engine.Status(t.Context()).Networks[0].Endpoints; len(eps) != 1 {
		t.Errorf("the endpoint is gone at once: its front end may be about to say so")
	}
	h.engine.DoChores(t.Context(), time.Now().Add(engine.DepartTime))
	sameWorld(t, "departed", before, h.snapshot())
}

// netavark says nothing of a container whose namespace has gone. The link that was
// in it is noticed to be gone, in every mode, and what it had is free again.
func TestDepartedContainerOnParent(t *testing.T) {
	for name, options := range map[string][]string{"macvlan": {"mode", "macvlan"}, "ipvlan l3": {"mode", "ipvlan", "ipvlan_mode", "l3"}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := request(1, "net", auto6(), auto4())
			given(t, options...)(&r.Options)
			attached := attaching(t, h, r)
			attached(1)
			h.moveIn(epID(1))
			h.engine.LinkChanged(t.Context(), spec.SandboxName(epID(1)), false, true)
			before := h.snapshot()
			attached(2)
			h.moveIn(epID(2))
			h.engine.LinkChanged(t.Context(), spec.SandboxName(epID(2)), false, true)
			delete(h.elsewhere, spec.EndpointAlias(epID(2)))
			h.engine.NamespaceGone()
			pass := func(d time.Duration) { h.engine.DoChores(t.Context(), time.Now().Add(d)) }
			pass(engine.AbsentTime)
			if eps := h.engine.Status(t.Context()).Networks[0].Endpoints; len(eps) != 2 {
				t.Errorf("%d endpoints, want 2: the front end may be about to say that one is gone", len(eps))
			}
			pass(engine.AbsentTime + engine.DepartTime)
			sameWorld(t, "departed", before, h.snapshot())
		})
	}
}

// A link that was only on its way is not taken for gone.
func TestNotDeparted(t *testing.T) {
	h := newHost(t)
	r := request(1, "net", auto6())
	given(t, "mode", "macvlan")(&r.Options)
	_, err := h.engine.MakeNetwork(t.Context(), r)
	must(t, err)
	_, err = h.engine.Attach(t.Context(), spec.AttachRequest{Network: r, ID: epID(1), Container: "c0ffee", Interface: "eth0", Sandbox: "/run/netns/web"})
	must(t, err)
	h.moveIn(epID(1))
	alias := spec.EndpointAlias(epID(1))
	link := h.elsewhere[alias]
	delete(h.elsewhere, alias)
	h.engine.NamespaceGone()
	h.engine.DoChores(t.Context(), time.Now().Add(engine.AbsentTime))
	h.elsewhere[alias] = link
	h.engine.DoChores(t.Context(), time.Now().Add(engine.AbsentTime+engine.DepartTime))
	if eps := h.engine.Status(t.Context()).Networks[0].Endpoints; len(eps) != 1 || !eps[0].Joined {
		t.Errorf("the network has %+v, want its container, as it was", eps)
	}
}
