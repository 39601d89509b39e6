//go:build netns

package route_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// machine is what the daemon chooses prefixes by.
type machine struct{ *route.Handle }

func (machine) Probe(ctx context.Context, link string, addrs []netip.Addr) ([]netip.Addr, error) {
	return icmp6.Probe(ctx, link, addrs)
}

// Delegated: nobody could lend anything.
func (machine) Delegated(context.Context, spec.Source, string) ([]spec.Delegation, error) {
	return nil, spec.ErrNotAvailable
}

func (machine) Now() time.Time { return time.Now() }

// tunnel makes tun0 the uplink, with a program at its other end as a VPN has.
func tunnel(t *testing.T) *route.Handle {
	t.Helper()
	self := testnet.Self(t)
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true, Queues: 1}
	var err error
	self.Do(t, func() { err = netlink.LinkAdd(tun) })
	if err != nil {
		t.Fatalf("make tun0: %v", err)
	}
	t.Cleanup(func() {
		for _, end := range tun.Fds {
			_ = end.Close() // and the link goes
		}
	})
	script(t, self, `
		link set tun0 up
		addr add 2001:db8:3::5/64 dev tun0
		-6 route add default dev tun0`)
	h, err := route.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// Nobody solicits addresses on a tunnel: its prefix is not shared with
// neighbours, and nobody can be asked who has an address.
func TestUplinkWithoutNeighbourDiscovery(t *testing.T) {
	h := tunnel(t)
	if name, err := h.DefaultParent(t.Context()); err != nil || name != "tun0" {
		t.Fatalf("default parent %q, %v; want tun0", name, err)
	}
	if got, err := h.OnLink(t.Context(), "tun0"); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "tun0") {
		t.Errorf("on-link: %v, %v; want errors.ErrUnsupported", got, err)
	}
	choose := func(r spec.PoolRequest) spec.Pool {
		t.Helper()
		p, err := prefix.Choose(t.Context(), machine{h}, r, nil, [5]byte{1, 2, 3, 4, 5}, 7)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := choose(spec.PoolRequest{V6: true, Source: spec.SourceAuto})
	if p.Source != spec.SourceULA || p.OnLink || !strings.Contains(p.Reason, "tun0 can be shared, since it has no neighbor discovery") {
		t.Errorf("source=auto: %+v, want a unique local prefix, and why", p)
	}
	p = choose(spec.PoolRequest{V6: true, Source: spec.SourceStatic, Prefix: netip.MustParsePrefix("2001:db8:3:0:1::/80")})
	if p.OnLink || p.Parent != "" {
		t.Errorf("--subnet in the tunnel's prefix: %+v, want it not on-link: it would be probed", p)
	}
}

// An Ethernet without address resolution has no neighbours to ask either.
func TestOnLinkOfNoARP(t *testing.T) {
	h, self := host(t)
	script(t, self, `
		addr add 2001:db8:1::5/64 dev eth0
		link set eth0 arp off`)
	if got, err := h.OnLink(t.Context(), "eth0"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, %v; want errors.ErrUnsupported", got, err)
	}
}
