package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// watcher is told what happens, from when it begins to listen.
type watcher struct {
	on   bool
	told []spec.Event
}

func (w *watcher) Wanted(spec.EventType) bool { return w.on }
func (w *watcher) Publish(e spec.Event)       { w.told = append(w.told, e) }

// take is what was told since it was last asked, in words.
func (w *watcher) take() []string {
	var lines []string
	for _, e := range w.told {
		words := []string{string(e.Type), e.What, e.Container, e.NetworkName}
		if e.Address.IsValid() {
			words = append(words, e.Address.String())
		}
		if e.Prefix.IsValid() {
			words = append(words, e.Prefix.String())
		}
		lines = append(lines, strings.Join(strings.Fields(strings.Join(words, " ")), " "))
	}
	w.told = nil
	return lines
}

func (w *watcher) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.take()); diff != "" {
		t.Errorf("%s (-want +told):\n%s", when, diff)
	}
}

func TestWatchedLife(t *testing.T) {
	h := newHost(t)
	h.events.on = true
	_, err := h.engine.MakeNetwork(t.Context(), request(1, "net", ula6()))
	must(t, err)
	const pool, gateway, addr = "fd12:3456:789a::/64", "fd12:3456:789a::1", "fd12:3456:789a::2"
	h.events.want(t, "network made", "pool taken "+pool, "lease taken "+gateway+" "+pool, "network created net")
	r := attach(1, 1, "eth0")
	r.Network = request(1, "net", ula6())
	_, err = h.engine.Attach(t.Context(), r)
	must(t, err)
	h.events.want(t, "attached", "lease taken net "+addr+" "+pool, "endpoint created web net "+addr, "endpoint joined web net "+addr)
	must(t, h.engine.Detach(t.Context(), netID(1), epID(1)))
	h.events.want(t, "detached", "endpoint left web net "+addr, "endpoint deleted web net "+addr, "lease released net "+addr+" "+pool)
	must(t, h.engine.DeleteNetwork(t.Context(), netID(1)))
	h.events.want(t, "network deleted", "pool released "+pool, "network deleted net")
}

func TestWatchedRenumbering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.events.on = true
		n := onDelegation(t, h, 1, spec.FallbackNone)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		only := func(types ...spec.EventType) {
			kept := h.events.told[:0]
			for _, e := range h.events.told {
				for _, want := range types {
					if e.Type == want {
						kept = append(kept, e)
					}
				}
			}
			h.events.told = kept
		}
		changes := func() { only(spec.EventPrefix, spec.EventRenumber) }
		changes()
		h.events.want(t, "begin", "prefix gained 2001:db8:a000::/56")
		h.lend(t, delegated("2001:db8:a000::/56", 2*time.Hour, 3*time.Hour))
		changes()
		h.events.want(t, "renewed", "prefix changed 2001:db8:a000::/56")
		old := delegated("2001:db8:a000::/56", 0, time.Hour)
		h.lend(t, delegated("2001:db8:b000::/56", 3*time.Hour, 4*time.Hour), old)
		changes()
		h.events.want(t, "another prefix", "prefix gained 2001:db8:b000::/56", "prefix deprecated 2001:db8:a000::/56",
			"renumber added 2001:db8:b000::/64", "renumber deprecated 2001:db8:a000::/64")
		h.pass(t, time.Hour+time.Second)
		h.lend(t, delegated("2001:db8:b000::/56", 3*time.Hour, 4*time.Hour))
		changes()
		h.events.want(t, "its end", "renumber removed 2001:db8:a000::/64", "prefix changed 2001:db8:b000::/56", "prefix lost 2001:db8:a000::/56")
	})
}

// Who reports a frame knows addresses and links; whose they are the engine knows.
func TestDescribe(t *testing.T) {
	h := newHost(t)
	n := onDelegation(t, h, 1, spec.FallbackNone)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	r := attach(2, 2, "eth0")
	attached, err := h.engine.Attach(t.Context(), r)
	must(t, err)
	h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour), delegated("2001:db8:a000::/56", 0, time.Hour))
	events := []spec.Event{
		{Type: spec.EventNDP, Address: ip("2001:db8:b000::2")},                      // by the prefix of now
		{Type: spec.EventNDP, Address: ip("2001:db8:a000::2")},                      // and the former one
		{Type: spec.EventFirewall, Source: attached.Endpoint.IPv6.Addr()},           // of Podman's, which has names
		{Type: spec.EventRA, Link: n.Bridge(), Source: ip("fe80::1")},               // a link
		{Type: spec.EventNDP, Address: ip("2001:db8:ffff::1")},                      // nobody's
		{Type: spec.EventLease, Network: netID(2), Address: ip("2001:db8:b000::2")}, // said already
	}
	h.engine.Describe(events)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%.12s %s %.12s %s", e.Network, e.NetworkName, e.Endpoint, e.Container))
	}
	want := []string{
		fmt.Sprintf("%.12s  %.12s ", netID(1), epID(1)), fmt.Sprintf("%.12s  %.12s ", netID(1), epID(1)),
		fmt.Sprintf("%.12s net %.12s web", netID(2), epID(2)), fmt.Sprintf("%.12s   ", netID(1)), "   ", fmt.Sprintf("%.12s net  ", netID(2)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("described (-want +got):\n%s", diff)
	}
}
