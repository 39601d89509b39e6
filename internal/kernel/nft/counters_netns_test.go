//go:build netns

package nft

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// What is let in, out, and denied is counted for each network, what is forged for
// each container; a change of elements keeps the counts.
func TestCounters(t *testing.T) { eachBackend(t, testCounters) }

func testCounters(t *testing.T, b backend) {
	s := b.site(t)
	bridgeNetfilter(t, s.host, "0")
	f := s.open(t)
	apply(t, f, s.config)
	counted := func() map[string]spec.FirewallCounters {
		all, err := f.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]spec.FirewallCounters{}
		for _, n := range s.config.Networks {
			by[n.Bridge] = all.Of(n)
		}
		return by
	}
	before := counted()
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", true)
	s.wantReached(t, s.outside, "tcp", host4+":8080", true)
	for range 3 {
		send(t, s.outside, "", "[2001:db8:1::2]:9999")
	}
	send(t, s.outside, "", "[2001:db8:1::77]:80") // nobody's
	s.wantReached(t, s.c["web2"], "tcp", "["+outside6+"]:80", true)
	send(t, s.c["ula2"], "", "[2001:db8:1::2]:81")     // isolated
	send(t, s.c["internal2"], "", "["+outside6+"]:80") // internal
	s.wantReached(t, s.outside, "tcp", "[2001:db8:4::2]:81", true)

	ip(t, s.c["web3"], "addr add 2001:db8:1::66/64 nodad dev eth0")
	send(t, s.c["web3"], "[2001:db8:1::66]:0", "["+outside6+"]:53")

	want := maps.Clone(before)
	web := want["web"]
	web.LetIn += 2
	web.LetOut++
	web.DeniedIn += 4
	want["web"] = web
	for bridge, change := range map[string]func(*spec.FirewallCounters){
		"ula":      func(c *spec.FirewallCounters) { c.DeniedOut++ },
		"internal": func(c *spec.FirewallCounters) { c.DeniedOut++ },
		"open":     func(c *spec.FirewallCounters) { c.LetIn++ },
	} {
		c := want[bridge]
		change(&c)
		want[bridge] = c
	}
	var got map[string]spec.FirewallCounters
	eventually(func() bool {
		got = counted()
		// How often the forger asks for its neighbour, and its kernel says who it is, is the kernel's affair.
		web := got["web"]
		if b.frames && (len(web.Forged) != 1 || web.Forged[""] == 0) || !b.frames && web.DeniedOut == 0 {
			return false
		}
		web.Forged = nil
		if !b.frames {
			web.DeniedOut = 0 // by whom is not known then
		}
		got["web"] = web
		return cmp.Equal(want, got)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	s.config.Networks[0].Published = s.config.Networks[0].Published[1:]
	apply(t, f, s.config)
	if now := counted(); now["web"].DeniedIn != got["web"].DeniedIn {
		t.Errorf("after a change of elements %d are denied, were %d", now["web"].DeniedIn, got["web"].DeniedIn)
	}
}
