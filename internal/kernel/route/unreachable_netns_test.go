//go:build netns

package route_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestUnreachable(t *testing.T) {
	h, self := host(t)
	ctx := context.Background()
	script(t, self, `-6 route add default via fe80::1 dev eth0
		-6 route add unreachable 2001:db8:f::/48
		address add 2001:db8:1::1/64 dev eth1 nodad`)
	t.Cleanup(func() { _ = self.Command(ctx, "ip", "-6", "route", "del", "unreachable", "2001:db8:f::/48").Run() })
	lent := netip.MustParsePrefix("2001:db8:1::/56")
	exact := netip.MustParsePrefix("2001:db8:1::/64")
	for range 2 { // the second time is no change
		for _, p := range []netip.Prefix{lent, exact} {
			if err := h.EnsureUnreachable(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := h.Unreachable(ctx)
	if err != nil || !slices.Equal(got, []netip.Prefix{lent, exact}) {
		t.Errorf("Unreachable = %v, %v, want ours alone: %s and %s", got, err, lent, exact)
	}
	if out, err := self.Command(ctx, "ip", "-6", "route", "get", "2001:db8:1:7::1").CombinedOutput(); err == nil {
		t.Errorf("the unused part of what is lent leads somewhere: %s", out)
	}
	// A network in it, also one that is as large, has its packets.
	if out := self.Run(t, "ip", "-6", "route", "get", "2001:db8:1::2"); !strings.Contains(out, "dev eth1") {
		t.Errorf("a network's address is reached by %s", out)
	}
	taken, err := h.Taken(ctx, netip.MustParsePrefix("::/0"))
	if err != nil || slices.Contains(taken, lent) || !slices.Contains(taken, netip.MustParsePrefix("2001:db8:f::/48")) {
		t.Errorf("Taken = %v, %v, want others' unreachable routes and not ours", taken, err)
	}
	for range 2 {
		for _, p := range []netip.Prefix{lent, exact} {
			if err := h.RemoveUnreachable(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := h.Unreachable(ctx); err != nil || len(got) > 0 {
		t.Errorf("Unreachable = %v, %v, want none", got, err)
	}
	if out := self.Run(t, "ip", "-6", "route"); !strings.Contains(out, "unreachable 2001:db8:f::/48") {
		t.Errorf("another's unreachable route is gone:\n%s", out)
	}
}
