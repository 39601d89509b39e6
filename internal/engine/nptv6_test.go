package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A translated network is known outside by another prefix: there solicitations are
// answered, and nobody else gets it.
func TestTranslatedNetwork(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	translated := func(id int, pool, outside string) spec.Network {
		n := spec.Network{ID: netID(id), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx(pool), Gateway: pfx(pool).Addr().Next()}}}
		n.Options.Masquerade, n.Options.NPTv6 = spec.SwitchNPTv6, pfx(outside)
		return n
	}
	n := translated(1, "fd00:1::/80", "2001:db8:1:0:99::/80") // on eth0's own prefix
	must(t, h.engine.CreateNetwork(ctx, clone(n)))
	must(t, h.engine.CreateNetwork(ctx, clone(n))) // the same again
	ep := spec.Endpoint{ID: epID(1), NetworkID: n.ID, IPv6: pfx("fd00:1::5/80")}
	_, err := h.engine.CreateEndpoint(ctx, ep)
	must(t, err)
	_, err = h.engine.Join(ctx, n.ID, ep.ID, "/run/sandbox")
	must(t, err)
	h.moveIn(ep.ID)
	public, ok := spec.Translation{Inside: pfx("fd00:1::/80"), Outside: pfx("2001:db8:1:0:99::/80")}.Out(ip("fd00:1::5"))
	if !ok {
		t.Fatal("no address outside")
	}
	if got := h.snapshot().Proxied; !got["eth0 "+public.String()] || len(got) != 1 {
		t.Errorf("answered for: %v, want %s", got, public)
	}
	for set, want := range map[string]string{
		"inside6": public.String(), "outside6": "fd00:1::5", "inside_pools6": "fd00:1::/80", "outside_pools6": "2001:db8:1:0:99::/80", "masquerade6": "",
	} {
		if got := h.elements(set); got != want {
			t.Errorf("%s: %s, want %s", set, got, want)
		}
	}
	must(t, h.engine.Publish(ctx, n.ID, ep.ID, []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}))
	if got := h.elements("published6"); got != "fd00:1::5 . tcp . 80" {
		t.Errorf("published: %s", got)
	}
	for what, other := range map[string]spec.Network{
		"the prefix outside of another": translated(2, "fd00:2::/80", "2001:db8:1:0:99::/80"),
		"a pool in it":                  {ID: netID(3), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx("2001:db8:1:0:99::/84")}}},
	} {
		if err := h.engine.CreateNetwork(ctx, other); err == nil || !strings.Contains(err.Error(), "overlap") {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	h.restart(t)
	h.settle(t)
	if got := h.snapshot().Proxied; !got["eth0 "+public.String()] || len(got) != 1 {
		t.Errorf("after a restart, answered for: %v, want %s", got, public)
	}
	must(t, h.engine.DeleteEndpoint(ctx, n.ID, ep.ID))
	must(t, h.engine.DeleteNetwork(ctx, n.ID))
	if got := h.snapshot().Proxied; len(got) != 0 {
		t.Errorf("afterwards answered for: %v", got)
	}
}

// A firewall that cannot do it has the network refused, with its own words.
func TestTranslationIsRefusedWithoutNFTables(t *testing.T) {
	h := newHost(t)
	h.world.untranslated = errors.New("needs nftables")
	n := spec.Network{ID: netID(1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx("fd00:1::/80"), Gateway: ip("fd00:1::1")}}}
	n.Options.Masquerade, n.Options.NPTv6 = spec.SwitchNPTv6, pfx("2001:db8:1:0:99::/80")
	if err := h.engine.CreateNetwork(t.Context(), n); err == nil || !strings.Contains(err.Error(), "option masquerade=nptv6: needs nftables") {
		t.Errorf("%v, want a refusal", err)
	}
}
