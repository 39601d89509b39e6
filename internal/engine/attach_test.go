package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/spec"
)

// request is a network as a front end without state asks for it.
func request(n int, name string, pools ...spec.PoolRequest) spec.NetworkRequest {
	r := spec.NetworkRequest{ID: netID(n), Name: name, FrontEnd: "netavark", Options: spec.DefaultOptions()}
	for _, p := range pools {
		if p.V6 {
			r.IPv6 = append(r.IPv6, spec.SubnetRequest{Pool: p})
		} else {
			r.IPv4 = append(r.IPv4, spec.SubnetRequest{Pool: p})
		}
	}
	return r
}

func attach(n, id int, link string, ports ...spec.Port) spec.AttachRequest {
	return spec.AttachRequest{Network: request(n, "net", ula6(), auto4()), ID: epID(id), Container: "c0ffee", Name: "web", Interface: link, Sandbox: "/run/netns/web", Ports: ports}
}

// at is the request with addresses of the user's choice.
func at(r spec.AttachRequest, addrs ...string) spec.AttachRequest {
	for _, a := range addrs {
		r.Addresses = append(r.Addresses, ip(a))
	}
	return r
}

var web = spec.Port{Protocol: "tcp", Port: 80, HostPort: 8080}

// A front end's whole life in four calls, each of which may be repeated. It leaves
// nothing.
func TestAttach(t *testing.T) {
	h := newHost(t)
	empty := h.snapshot()
	n, err := h.engine.MakeNetwork(t.Context(), request(1, "net", auto6(), auto4()))
	must(t, err)
	if n.IPv6[0].Source != spec.SourceParent || !n.IPv6[0].Gateway.IsValid() || !n.IPv4[0].Gateway.IsValid() {
		t.Errorf("the network has %+v", n)
	}
	again, err := h.engine.MakeNetwork(t.Context(), request(1, "net", auto6(), auto4()))
	must(t, err)
	if diff := cmp.Diff(n.Subnets()[0].Prefix.String(), again.Subnets()[0].Prefix.String()); diff != "" {
		t.Error(diff)
	}
	other := request(1, "net", static("2001:db8:7::/64"))
	if _, err := h.engine.MakeNetwork(t.Context(), other); err == nil || !strings.Contains(err.Error(), "exists already with other options or subnets") {
		t.Errorf("another network of the same ID: %v", err)
	}
	made := h.snapshot()

	ask := attach(1, 1, "eth0", web)
	ask.Network = request(1, "net", auto6(), auto4())
	first, err := h.engine.Attach(t.Context(), ask)
	must(t, err)
	repeated, err := h.engine.Attach(t.Context(), ask)
	must(t, err)
	if first.Endpoint.IPv6 != repeated.Endpoint.IPv6 || !reflect.DeepEqual(first.Attachment, repeated.Attachment) || !slices.Equal(first.Endpoint.Ports, []spec.Port{web}) {
		t.Errorf("repeated, %+v is %+v", first, repeated)
	}
	if first.Attachment.Gateway6 != spec.LinkLocalGateway(n.ID).Addr() || !slices.Equal(first.Servers, []netip.Addr{n.IPv4[0].Gateway}) {
		t.Errorf("the container gets %+v", first)
	}
	ask.Sandbox = "/run/netns/next" // it was started again, with no word of its end
	ask.Addresses = []netip.Addr{n.IPv6[0].Gateway.Next().Next().Next()}
	replaced, err := h.engine.Attach(t.Context(), ask)
	must(t, err)
	if replaced.Endpoint.IPv6.Addr() != ask.Addresses[0] || replaced.Endpoint.Sandbox != ask.Sandbox {
		t.Errorf("in another sandbox, with a static address, it is %+v", replaced.Endpoint)
	}
	must(t, h.engine.Detach(t.Context(), n.ID, epID(1)))
	if err := h.engine.Detach(t.Context(), n.ID, epID(1)); !errors.Is(err, spec.ErrNotFound) {
		t.Errorf("detached twice: %v, want spec.ErrNotFound", err)
	}
	sameWorld(t, "attached and detached", made, h.snapshot())
	must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
	sameWorld(t, "made and deleted", empty, h.snapshot())
}

// What goes wrong in a call leaves nothing behind, and goes well when it is repeated.
func TestAttachFaults(t *testing.T) {
	calls := []struct {
		name string
		do   func(ctx context.Context, h *host) error
	}{
		{"MakeNetwork", func(ctx context.Context, h *host) error {
			_, err := h.engine.MakeNetwork(ctx, request(1, "net", static("2001:db8:7::/64"), static("10.7.0.0/24")))
			return err
		}},
		{"MakeNetwork, the second", func(ctx context.Context, h *host) error {
			_, err := h.engine.MakeNetwork(ctx, request(2, "other", static("2001:db8:8::/64"), static("10.8.0.0/24")))
			return err
		}},
		{"Attach", func(ctx context.Context, h *host) error {
			_, err := h.engine.Attach(ctx, at(attach(1, 1, "eth0", web), "2001:db8:7::9", "10.7.0.9"))
			return err
		}},
		{"Attach to the second", func(ctx context.Context, h *host) error {
			_, err := h.engine.Attach(ctx, at(attach(2, 2, "eth1", web), "2001:db8:8::9", "10.8.0.9"))
			return err
		}},
	}
	for i, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			half := func() *host {
				h := newHost(t)
				for _, before := range calls[:i] {
					must(t, before.do(t.Context(), h))
				}
				h.disarm()
				return h
			}
			done := half()
			must(t, c.do(t.Context(), done))
			n, after := len(done.calls), done.snapshot()
			for k := range n {
				for _, m := range []mode{failBefore, failAfter, callerGone} {
					h := half()
					before := h.snapshot()
					ctx, cancel := context.WithCancel(t.Context())
					h.arm(fault{at: k + 1, mode: m, cancel: cancel})
					err := c.do(ctx, h)
					cancel()
					what := "call " + h.calls[k] + " " + string(m)
					h.disarm()
					if err != nil {
						sameWorld(t, what+": something was left behind", before, h.snapshot())
						if err := c.do(t.Context(), h); err != nil {
							t.Errorf("%s: the second try: %v", what, err)
						}
					}
					sameWorld(t, what+": in the end", after, h.snapshot())
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

// A front end that keeps no state asks again at once when the daemon was killed in the
// middle of its call, and has what it would have had: its prefix is not held by a pool that
// nobody releases, nor a lease by nobody.
func TestKilledInACall(t *testing.T) {
	makeNetwork := func(h *host) error {
		_, err := h.engine.MakeNetwork(t.Context(), request(1, "net", static("2001:db8:7::/64"), static("10.7.0.0/24")))
		return err
	}
	attachFound := func(h *host) error {
		_, err := h.engine.Attach(t.Context(), attach(1, 1, "eth0", web))
		return err
	}
	for name, life := range map[string][]func(*host) error{"MakeNetwork": {makeNetwork}, "Attach": {makeNetwork, attachFound}} {
		t.Run(name, func(t *testing.T) {
			before, last := life[:len(life)-1], life[len(life)-1]
			half := func() *host {
				h := newHost(t)
				for _, call := range before {
					must(t, call(h))
				}
				h.disarm()
				return h
			}
			done := half()
			must(t, last(done))
			n, after := len(done.calls), done.snapshot()
			for k := range n {
				for _, m := range []mode{crashBefore, crashAfter} {
					h := half()
					h.arm(fault{at: k + 1, mode: m})
					if !dies(func() error { return last(h) }) {
						t.Fatalf("call %d of %d: not killed", k+1, n)
					}
					what := "killed " + string(m) + " call " + h.calls[k]
					h.disarm()
					h.restart(t)
					if err := last(h); err != nil {
						t.Errorf("%s: the second try: %v", what, err)
					}
					sameWorld(t, what, after, h.snapshot())
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

func TestAttachToAForgottenNetwork(t *testing.T) {
	h := newHost(t)
	ask := attach(1, 1, "eth0")
	ask.Network = request(1, "net", static("2001:db8:7::/64"))
	a, err := h.engine.Attach(t.Context(), ask)
	must(t, err)
	if !pfx("2001:db8:7::/64").Contains(a.Endpoint.IPv6.Addr()) || a.Endpoint.IPv4.IsValid() {
		t.Errorf("the endpoint is %+v", a.Endpoint)
	}
}

// The addresses of a container that Podman has given up to take away half-way are free as soon as it
// is gone: nobody will release them.
func TestGivenUpDetach(t *testing.T) {
	h := newHost(t)
	r := request(1, "net", ula6(), auto4())
	_, err := h.engine.MakeNetwork(t.Context(), r)
	must(t, err)
	before := h.snapshot()
	first, err := h.engine.Attach(t.Context(), attach(1, 1, "eth0"))
	must(t, err)
	h.broken = "link: remove"
	if err := h.engine.Detach(t.Context(), netID(1), epID(1)); err == nil {
		t.Fatal("Detach does not fail")
	}
	h.broken = ""
	h.soon(t)
	h.engine.DoChores(t.Context(), time.Now().Add(2*engine.AbsentTime))
	sameWorld(t, "healed", before, h.snapshot())
	again := attach(1, 2, "eth0")
	again.Addresses = first.Endpoint.Addresses()
	_, err = h.engine.Attach(t.Context(), again)
	must(t, err)
}

// A link that nobody takes into its container takes the endpoint along, also after a restart: Podman's
// plugin has been killed after its call. One that is taken, or attached once more, stays.
func TestLinkIsNeverTaken(t *testing.T) {
	for name, options := range map[string][]string{"bridge": nil, "macvlan": {"mode", "macvlan"}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := request(1, "net", auto6(), auto4())
			given(t, options...)(&r.Options)
			attached := attaching(t, h, r)
			pass := func(d time.Duration) { h.engine.DoChores(t.Context(), time.Now().Add(d)) }
			attached(1)
			h.moveIn(epID(1))
			before := h.snapshot()
			for _, restart := range []bool{false, true} {
				attached(2)
				if restart {
					h.restart(t)
				}
				pass(engine.TakenTime / 2)
				if _, err := h.engine.Endpoint(t.Context(), netID(1), epID(2)); err != nil {
					t.Errorf("it is gone while the plugin may be about to take it: %v", err)
				}
				pass(2 * engine.TakenTime)
				sameWorld(t, fmt.Sprintf("never taken, restart %t", restart), before, h.snapshot())
			}
			attached(2)
			h.moveIn(epID(2))
			pass(2 * engine.TakenTime)
			if _, err := h.engine.Endpoint(t.Context(), netID(1), epID(2)); err != nil {
				t.Errorf("one that was taken: %v", err)
			}
		})
	}
}

// What Podman makes again of a container that it has just taken away: with the
// addresses that it had, in every mode.
func TestReload(t *testing.T) {
	for name, options := range map[string][]string{
		"bridge": nil, "macvlan": {"mode", "macvlan"}, "ipvlan": {"mode", "ipvlan"}, "ipvlan l3": {"mode", "ipvlan", "ipvlan_mode", "l3"},
		"passthru": {"mode", "macvlan", "macvlan_mode", "passthru"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := request(1, "net", auto6(), auto4())
			given(t, options...)(&r.Options)
			_, err := h.engine.MakeNetwork(t.Context(), r)
			must(t, err)
			ask := spec.AttachRequest{Network: r, ID: epID(1), Container: "c0ffee", Name: "web", Interface: "eth0", Sandbox: "/run/netns/web"}
			first, err := h.engine.Attach(t.Context(), ask)
			must(t, err)
			before := h.snapshot()
			must(t, h.engine.Detach(t.Context(), netID(1), epID(1)))
			ask.Addresses = first.Endpoint.Addresses()
			if ask.MAC = first.Endpoint.MAC; ask.MAC == "" {
				ask.MAC = "02:00:00:00:00:e0" // the parent's, which the link has
			}
			for _, call := range []string{"reloaded", "repeated"} {
				again, err := h.engine.Attach(t.Context(), ask)
				must(t, err)
				if again.Endpoint.IPv6 != first.Endpoint.IPv6 || again.Endpoint.IPv4 != first.Endpoint.IPv4 || again.Endpoint.MAC != first.Endpoint.MAC {
					t.Errorf("%s it is %+v, was %+v", call, again.Endpoint, first.Endpoint)
				}
				sameWorld(t, call, before, h.snapshot())
			}
		})
	}
}

// A network that is made again as its front end remembers it is what it was, and
// makes its first container wait for one probe at the most.
func TestMadeAgain(t *testing.T) {
	for name, options := range map[string][]string{"bridge": nil, "macvlan": {"mode", "macvlan"}, "macvlan, host access": {"mode", "macvlan", "host_access", "on"}} {
		t.Run(name, func(t *testing.T) {
			remember := func(n spec.Network, r spec.NetworkRequest) spec.NetworkRequest {
				r.IPv6, r.IPv4 = nil, nil
				for _, s := range n.Subnets() {
					remembered := spec.SubnetRequest{Pool: static(s.Prefix.String()), Gateway: s.Gateway, NoGateway: n.Options.OnParent()}
					if s.Prefix.Addr().Is6() {
						r.IPv6 = append(r.IPv6, remembered)
					} else {
						r.IPv4 = append(r.IPv4, remembered)
					}
				}
				r.Options.Parent = n.Options.Parent
				return r
			}
			r := request(1, "net", auto6(), auto4())
			given(t, options...)(&r.Options)
			if r.Options.OnParent() {
				r.IPv6[0].NoGateway, r.IPv4[0].NoGateway = true, true
			}
			h := newHost(t)
			h.routers = map[string][]netip.Addr{"eth0": {ip("fe80::99")}}
			n, err := h.engine.MakeNetwork(t.Context(), r)
			must(t, err)
			first, err := h.engine.Attach(t.Context(), spec.AttachRequest{Network: r, ID: epID(1), Container: "c0ffee", Interface: "eth0"})
			must(t, err)

			h = newHost(t) // the journal has been lost
			h.routers = map[string][]netip.Addr{"eth0": {ip("fe80::99")}}
			again, err := h.engine.Attach(t.Context(), spec.AttachRequest{Network: remember(n, r), ID: epID(1), Container: "c0ffee", Interface: "eth0"})
			must(t, err)
			if len(h.probes) > 1 {
				t.Errorf("%d probes, one after the other", len(h.probes))
			}
			if diff := cmp.Diff(first.Attachment, again.Attachment, equateNetip); diff != "" {
				t.Errorf("the container is attached otherwise (-before +made again):\n%s", diff)
			}
			if r.Options.Mode == spec.ModeBridge && h.links[n.Bridge()].Addrs == "" {
				t.Error("the bridge has no address")
			}
		})
	}
}

// attaching makes a network. What it returns attaches a container to that.
func attaching(t *testing.T, h *host, r spec.NetworkRequest) (attached func(id int)) {
	t.Helper()
	_, err := h.engine.MakeNetwork(t.Context(), r)
	must(t, err)
	return func(id int) {
		t.Helper()
		_, err := h.engine.Attach(t.Context(), spec.AttachRequest{Network: r, ID: epID(id), Container: fmt.Sprint(id), Interface: "eth0", Sandbox: "/run/netns/web"})
		must(t, err)
	}
}

// What a network's containers ask its name server is vouched for, where there is one:
// also on a network of a daemon that was not told so.
func TestNamesAreAsked(t *testing.T) {
	h := newHost(t)
	with, without := request(1, "with", static("fd00:1::/64")), request(2, "without", static("fd00:2::/64"))
	with.Names = true
	n, err := h.engine.MakeNetwork(t.Context(), with)
	must(t, err)
	_, err = h.engine.MakeNetwork(t.Context(), without)
	must(t, err)
	if want := [2][]string{{spec.BridgeName(netID(2))}, {n.Bridge()}}; !reflect.DeepEqual(h.zones, want) {
		t.Errorf("firewalld is told of %q, want %q", h.zones, want)
	}
	want := fmt.Sprintf("%q . fd00:1::1", n.Bridge())
	if got := h.elements("asking6"); got != want {
		t.Errorf("asking: %s, want %s", got, want)
	}
	key := journalKey("network", n.ID)
	h.world.journal[key] = strings.Replace(h.world.journal[key], `,"names":true`, "", 1)
	h.restart(t)
	if got := h.elements("asking6"); got != "" {
		t.Fatalf("asking: %s, and the journal says nothing of it", got)
	}
	r := attach(1, 1, "eth0")
	r.Network = with
	_, err = h.engine.Attach(t.Context(), r)
	must(t, err)
	h.moveIn(epID(1))
	if got := h.elements("asking6"); got != want {
		t.Errorf("asking: %s when a container comes, want %s", got, want)
	}
	h.consistent(t, "asking")
	must(t, h.engine.DeleteNetwork(t.Context(), netID(2)))
	if want := [2][]string{nil, {n.Bridge()}}; !reflect.DeepEqual(h.zones, want) {
		t.Errorf("firewalld is told of %q with a network gone, want %q", h.zones, want)
	}
	must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
	if want := [2][]string{}; !reflect.DeepEqual(h.zones, want) {
		t.Errorf("firewalld is told of %q with all networks gone", h.zones)
	}
}
