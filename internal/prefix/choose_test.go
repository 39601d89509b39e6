package prefix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

// tunnel is a link without neighbor discovery.
const tunnel = "tun0"

// fakeHost is a host with one uplink.
type fakeHost struct {
	mu sync.Mutex

	parent     string // empty: no default route
	onLink     map[string][]string
	lans       map[string][]string // connected beside them
	taken      []string
	neighbours []string // prefixes from which a probe is answered
	probes     [][]netip.Addr

	takenErr, probeErr error

	lent    map[spec.Source][]spec.Delegation
	lentErr error // of those that lend nothing; nil: nobody can lend
}

func (h *fakeHost) DefaultParent(ctx context.Context) (string, error) {
	if h.parent == "" {
		return "", errors.New("this host has no IPv6 default route")
	}
	return h.parent, ctx.Err()
}

func (h *fakeHost) OnLink(_ context.Context, link string) ([]netip.Prefix, error) {
	onLink, ok := h.onLink[link]
	if link == tunnel {
		return nil, fmt.Errorf("link %s (tuntap) has no neighbor discovery: %w", link, errors.ErrUnsupported)
	}
	if !ok {
		return nil, fmt.Errorf("link %s: %w", link, fs.ErrNotExist)
	}
	return prefixes(onLink), nil
}

func (h *fakeHost) Connected(_ context.Context, part netip.Prefix) (map[string][]netip.Prefix, error) {
	connected := map[string][]netip.Prefix{}
	for _, links := range []map[string][]string{h.onLink, h.lans} {
		for link, texts := range links {
			for _, p := range prefixes(texts) {
				if p.Bits() < part.Bits() && p.Overlaps(part) {
					connected[link] = append(connected[link], p)
				}
			}
		}
	}
	return connected, nil
}

func (h *fakeHost) Taken(_ context.Context, where netip.Prefix) ([]netip.Prefix, error) {
	return slices.DeleteFunc(prefixes(h.taken), func(p netip.Prefix) bool { return !p.Overlaps(where) }), h.takenErr
}

func (h *fakeHost) Probe(_ context.Context, _ string, addrs []netip.Addr) ([]netip.Addr, error) {
	h.probes = append(h.probes, addrs)
	var answered []netip.Addr
	for _, p := range prefixes(h.neighbours) {
		for _, a := range addrs {
			if p.Contains(a) {
				answered = append(answered, a)
			}
		}
	}
	return answered, h.probeErr
}

func (h *fakeHost) Now() time.Time { return time.Now() }

func (h *fakeHost) Delegated(_ context.Context, source spec.Source, link string) ([]spec.Delegation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lent := h.lent[source]; len(lent) > 0 {
		return lent, nil
	}
	if h.lentErr != nil {
		return nil, h.lentErr
	}
	return nil, spec.ErrNotAvailable
}

// lending is a server to which prefixes are delegated.
func lending(delegated ...string) *fakeHost {
	h := server()
	h.lent = map[spec.Source][]spec.Delegation{}
	for _, p := range prefixes(delegated) {
		h.lent[spec.SourcePD] = append(h.lent[spec.SourcePD], spec.Delegation{Source: spec.SourcePD, Parent: "eth0", Prefix: p, Origin: "the test's server"})
	}
	return h
}

// server is what most hosts look like: a /64 on the uplink and an address in it.
func server() *fakeHost {
	return &fakeHost{
		parent: "eth0",
		onLink: map[string][]string{"eth0": {"2001:db8:1::/64"}},
		taken:  []string{"2001:db8:1::/64", "2001:db8:1::5/128", "192.0.2.0/24", "192.0.2.5/32"},
	}
}

func (h *fakeHost) with(change func(*fakeHost)) *fakeHost { change(h); return h }

func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var testID = [5]byte{0x12, 0x34, 0x56, 0x78, 0x9a}

const (
	testSeed = 0x7777_0002 // part 2 of 65536
	ulaWhy   = "unique local prefix made by RFC 4193"
	taken    = "free part of 2001:db8:1::/64, the on-link prefix of eth0"
)

func v6(source spec.Source) spec.PoolRequest {
	return spec.PoolRequest{V6: true, Source: source, Allocation: spec.Sequential}
}

func subnet(s string) spec.PoolRequest {
	p := netip.MustParsePrefix(s)
	return spec.PoolRequest{V6: p.Addr().Is6(), Prefix: p, Source: spec.SourceStatic, Allocation: spec.Random}
}

func bits(r spec.PoolRequest, n int) spec.PoolRequest     { r.Bits = n; return r }
func on(r spec.PoolRequest, link string) spec.PoolRequest { r.Parent = link; return r }

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name   string
		host   *fakeHost
		req    spec.PoolRequest
		inUse  []string
		want   string // prefix
		source spec.Source
		onLink string // parent
		reason string
	}{
		// auto
		{name: "auto: part of the parent's prefix", host: server(), req: v6(spec.SourceAuto),
			want: "2001:db8:1:0:2::/80", source: spec.SourceParent, onLink: "eth0", reason: taken},
		{name: "auto: no default route", host: &fakeHost{}, req: v6(spec.SourceAuto),
			want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: "no IPv6 default route and no parent named: " + ulaWhy},
		{name: "auto: no prefix on the parent", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = nil }), req: v6(spec.SourceAuto),
			want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: "no global prefix on eth0: " + ulaWhy},
		{name: "auto: only a ULA on the parent", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"fd00:1::/64"} }), req: v6(spec.SourceAuto),
			want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: "no global prefix on eth0: " + ulaWhy},
		{name: "auto: on-link prefix too long to share", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"2001:db8:1::50/124"} }), req: v6(spec.SourceAuto),
			want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: "no global on-link prefix on eth0 that is a /120 or shorter: " + ulaWhy},
		{name: "auto: an uplink without neighbor discovery", host: server().with(func(h *fakeHost) { h.parent = tunnel }), req: v6(spec.SourceAuto),
			want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: "no prefix of tun0 can be shared, since it has no neighbor discovery: " + ulaWhy},
		{name: "auto: a /64 asked for, a /64 on-link", host: server(), req: bits(v6(spec.SourceAuto), 64),
			want: "fd12:3456:789a::/64", source: spec.SourceULA,
			reason: "prefix_length 64 is not a part of 2001:db8:1::/64, the on-link prefix of eth0 (allowed: 65 to 126): " + ulaWhy},
		{name: "auto: neighbours everywhere", host: server().with(func(h *fakeHost) { h.neighbours = []string{"2001:db8:1::/64"} }), req: v6(spec.SourceAuto),
			want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: "neighbours on eth0 answered in each of 4 parts of its prefixes: " + ulaWhy},

		{name: "auto: a delegation first", host: lending("2001:db8:f000::/56"), req: v6(spec.SourceAuto),
			want: "2001:db8:f000::/64", source: spec.SourcePD, reason: "part of 2001:db8:f000::/56, which is lent on eth0 by the test's server"},
		{name: "auto: nobody lends", host: server().with(func(h *fakeHost) { h.lentErr = errors.New("silence") }), req: v6(spec.SourceAuto),
			want: "2001:db8:1:0:2::/80", source: spec.SourceParent, onLink: "eth0", reason: "source=pd: silence: source=cloud: silence: " + taken},

		// pd and cloud
		{name: "pd: the next part", host: lending("2001:db8:f000::/56"), req: v6(spec.SourcePD), inUse: []string{"2001:db8:f000::/64", "2001:db8:f000:2::/80"},
			want: "2001:db8:f000:1::/64", source: spec.SourcePD, reason: "part of 2001:db8:f000::/56, which is lent on eth0 by the test's server"},
		{name: "pd: past what the host uses", host: lending("2001:db8:f000::/60").with(func(h *fakeHost) {
			h.taken = append(h.taken, "2001:db8:f000::/60", "2001:db8:f000::/64", "2001:db8:f000:1::1/128")
		}), req: v6(spec.SourcePD),
			want: "2001:db8:f000:2::/64", source: spec.SourcePD, reason: "part of 2001:db8:f000::/60, which is lent on eth0 by the test's server"},
		{name: "pd: a second delegation", host: lending("2001:db8:f000::/64", "2001:db8:f001::/64"), req: v6(spec.SourcePD), inUse: []string{"2001:db8:f000::/64"},
			want: "2001:db8:f001::/64", source: spec.SourcePD, reason: "part of 2001:db8:f001::/64, which is lent on eth0 by the test's server"},
		{name: "pd: prefix_length", host: lending("2001:db8:f000::/64"), req: bits(v6(spec.SourcePD), 80), inUse: []string{"2001:db8:f000::/80"},
			want: "2001:db8:f000:0:1::/80", source: spec.SourcePD, reason: "part of 2001:db8:f000::/64, which is lent on eth0 by the test's server"},
		{name: "pd: a /64 in which the host has an address", host: lending("2001:db8:1::/64"), req: v6(spec.SourcePD),
			want: "2001:db8:1:0:1::/80", source: spec.SourcePD, reason: "part of 2001:db8:1::/64, which is lent on eth0 by the test's server"},
		{name: "pd: an AWS interface's /80", host: lending("2001:db8:f000::/80"), req: v6(spec.SourcePD),
			want: "2001:db8:f000::/96", source: spec.SourcePD, reason: "part of 2001:db8:f000::/80, which is lent on eth0 by the test's server"},
		{name: "pd: sixteen addresses", host: lending("2001:db8:f000::10/124"), req: v6(spec.SourcePD),
			want: "2001:db8:f000::10/124", source: spec.SourcePD, reason: "part of 2001:db8:f000::10/124, which is lent on eth0 by the test's server"},
		{name: "pd: not one that is deprecated", host: lending("2001:db8:f000::/56", "2001:db8:f100::/56").with(func(h *fakeHost) {
			h.lent[spec.SourcePD][0].Preferred = time.Now().Add(-time.Second)
		}), req: v6(spec.SourcePD),
			want: "2001:db8:f100::/64", source: spec.SourcePD, reason: "part of 2001:db8:f100::/56, which is lent on eth0 by the test's server"},

		// parent
		{name: "parent named", host: server().with(func(h *fakeHost) { h.onLink["eth1"] = []string{"2001:db8:2::/64"} }), req: on(v6(spec.SourceParent), "eth1"),
			want: "2001:db8:2:0:2::/80", source: spec.SourceParent, onLink: "eth1", reason: "free part of 2001:db8:2::/64, the on-link prefix of eth1"},
		{name: "parent: prefix_length", host: server(), req: bits(v6(spec.SourceParent), 96),
			want: "2001:db8:1:0:7777:2::/96", source: spec.SourceParent, onLink: "eth0", reason: taken},
		{name: "parent: on-link /48", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"2001:db8:1::/48"} }), req: v6(spec.SourceParent),
			want: "2001:db8:1:7777:2::/80", source: spec.SourceParent, onLink: "eth0", reason: "free part of 2001:db8:1::/48, the on-link prefix of eth0"},
		{name: "parent: on-link /96", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"2001:db8:1::/96"} }), req: v6(spec.SourceParent),
			want: "2001:db8:1::2:0/112", source: spec.SourceParent, onLink: "eth0", reason: "free part of 2001:db8:1::/96, the on-link prefix of eth0"},
		{name: "parent: on-link /120", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"2001:db8:1::/120"} }), req: v6(spec.SourceParent),
			want: "2001:db8:1::8/126", source: spec.SourceParent, onLink: "eth0", reason: "free part of 2001:db8:1::/120, the on-link prefix of eth0"},
		{name: "parent: another's ULA when asked for", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"fd00:1::/64"} }), req: v6(spec.SourceParent),
			want: "fd00:1:0:0:2::/80", source: spec.SourceParent, onLink: "eth0", reason: "free part of fd00:1::/64, the on-link prefix of eth0"},
		{name: "parent: global before ULA", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"fd00:1::/64", "2001:db8:1::/64"} }), req: v6(spec.SourceParent),
			want: "2001:db8:1:0:2::/80", source: spec.SourceParent, onLink: "eth0", reason: taken},
		{name: "parent: the next prefix if the first is full", host: server().with(func(h *fakeHost) {
			h.onLink["eth0"] = []string{"2001:db8:1::/120", "2001:db8:2::/64"}
			h.taken = []string{"2001:db8:1::/121", "2001:db8:1::80/121"}
		}), req: v6(spec.SourceParent),
			want: "2001:db8:2:0:2::/80", source: spec.SourceParent, onLink: "eth0", reason: "free part of 2001:db8:2::/64, the on-link prefix of eth0"},
		{name: "parent: past the host's address, a route and a pool", host: server().with(func(h *fakeHost) {
			h.taken = append(h.taken, "2001:db8:1:0:2:ff:fe00:1/128", "2001:db8:1:0:3::/81", "2001:db8::/32")
		}), req: v6(spec.SourceParent), inUse: []string{"2001:db8:1:0:4::/80", "2001:db8:1:0:5::/96"},
			want: "2001:db8:1:0:6::/80", source: spec.SourceParent, onLink: "eth0", reason: taken},
		{name: "parent: past neighbours", host: server().with(func(h *fakeHost) { h.neighbours = []string{"2001:db8:1:0:2::1/128", "2001:db8:1:0:3::4/128"} }), req: v6(spec.SourceParent),
			want: "2001:db8:1:0:4::/80", source: spec.SourceParent, onLink: "eth0", reason: taken},

		// ula
		{name: "ula", host: server(), req: v6(spec.SourceULA), want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: ulaWhy},
		{name: "ula: prefix_length", host: server(), req: bits(v6(spec.SourceULA), 80), want: "fd12:3456:789a::/80", source: spec.SourceULA, reason: ulaWhy},
		{name: "ula: past pools and routes", host: server().with(func(h *fakeHost) { h.taken = []string{"fd12:3456:789a:1::9/128", "fd12:3456:789a:2::/63"} }),
			req: v6(spec.SourceULA), inUse: []string{"fd12:3456:789a::/80"}, want: "fd12:3456:789a:4::/64", source: spec.SourceULA, reason: ulaWhy},
		{name: "ula: a border's route for all of them", host: server().with(func(h *fakeHost) { h.taken = []string{"fc00::/7", "fd00::/8", "fd12:3456:789a::/48"} }),
			req: v6(spec.SourceULA), want: "fd12:3456:789a::/64", source: spec.SourceULA, reason: ulaWhy},

		// static
		{name: "static: routed elsewhere", host: server(), req: subnet("2001:db8:ff::/64"), want: "2001:db8:ff::/64", source: spec.SourceStatic, reason: "named by --subnet"},
		{name: "static: inside shorter routes", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "2001:db8:f0::/44", "2001:db8:ff::/64") }),
			req: subnet("2001:db8:ff:0:1::/80"), want: "2001:db8:ff:0:1::/80", source: spec.SourceStatic, reason: "named by --subnet"},
		{name: "static: part of the on-link prefix", host: server(), req: subnet("2001:db8:1:0:8000::/65"), want: "2001:db8:1:0:8000::/65", source: spec.SourceStatic,
			onLink: "eth0", reason: "named by --subnet, part of 2001:db8:1::/64, the on-link prefix of eth0"},
		{name: "static: part of the named parent's prefix", host: server().with(func(h *fakeHost) { h.onLink["eth1"] = []string{"2001:db8:2::/64"} }), req: on(subnet("2001:db8:2:0:1::/80"), "eth1"),
			want: "2001:db8:2:0:1::/80", source: spec.SourceStatic, onLink: "eth1", reason: "named by --subnet, part of 2001:db8:2::/64, the on-link prefix of eth1"},
		{name: "static: first part, with the kernel's anycast route", host: server().with(func(h *fakeHost) { h.taken = []string{"2001:db8:1::/64", "2001:db8:1::/128"} }),
			req: subnet("2001:db8:1::/80"), want: "2001:db8:1::/80", source: spec.SourceStatic, onLink: "eth0",
			reason: "named by --subnet, part of 2001:db8:1::/64, the on-link prefix of eth0"},
		{name: "static: part of a tunnel's prefix", host: server().with(func(h *fakeHost) { h.parent = tunnel; h.lans = map[string][]string{tunnel: {"2001:db8:3::/64"}} }),
			req: subnet("2001:db8:3:0:1::/80"), want: "2001:db8:3:0:1::/80", source: spec.SourceStatic, reason: "named by --subnet"},
		{name: "static: no default route", host: &fakeHost{}, req: subnet("2001:db8:1::/80"), want: "2001:db8:1::/80", source: spec.SourceStatic, reason: "named by --subnet"},
		{name: "static IPv4", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "10.0.0.0/8") }), req: subnet("10.9.0.0/16"),
			want: "10.9.0.0/16", source: spec.SourceStatic, reason: "named by --subnet"},

		// private
		{name: "private", host: server(), req: spec.PoolRequest{Source: spec.SourcePrivate, Allocation: spec.Sequential},
			want: "172.16.2.0/24", source: spec.SourcePrivate, reason: "free part of 172.16.0.0/12, private addresses of RFC 1918"},
		{name: "private: past pools, routes and addresses", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "172.16.1.0/25", "172.16.2.9/32", "172.16.4.0/22") }),
			req: spec.PoolRequest{Source: spec.SourcePrivate}, inUse: []string{"172.16.0.0/24", "172.16.3.0/24"},
			want: "172.16.8.0/24", source: spec.SourcePrivate, reason: "free part of 172.16.0.0/12, private addresses of RFC 1918"},
		{name: "private: second range", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "172.16.0.0/12", "10.0.0.0/16") }), req: spec.PoolRequest{},
			want: "10.1.0.0/24", source: spec.SourcePrivate, reason: "free part of 10.0.0.0/8, private addresses of RFC 1918"},
		{name: "private: third range", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "172.0.0.0/8", "10.0.0.0/8") }), req: spec.PoolRequest{},
			want: "192.168.2.0/24", source: spec.SourcePrivate, reason: "free part of 192.168.0.0/16, private addresses of RFC 1918"},
		{name: "private: a VPN's halves of the default route", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "0.0.0.0/1", "128.0.0.0/1") }), req: spec.PoolRequest{},
			want: "172.16.2.0/24", source: spec.SourcePrivate, reason: "free part of 172.16.0.0/12, private addresses of RFC 1918"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Choose(t.Context(), tt.host, tt.req, prefixes(tt.inUse), testID, testSeed)
			if err != nil {
				t.Fatal(err)
			}
			want := spec.Pool{ID: tt.want, Prefix: netip.MustParsePrefix(tt.want), Allocation: tt.req.Allocation, Source: tt.source,
				Reason: tt.reason, Parent: tt.onLink, OnLink: tt.onLink != "", ParentNamed: tt.req.Parent != ""}
			if tt.source == spec.SourcePD || tt.source == spec.SourceParent {
				if got.Lent == nil {
					t.Fatalf("pool %s does not follow its source", got.Prefix)
				}
				link := tt.onLink
				if link == "" {
					link = "eth0"
				}
				now, inUse := got.Lent.Current()
				part, _ := ipam.Part(now.Of, got.Prefix.Bits(), got.Lent.Index)
				if !inUse || now.Prefix != got.Prefix || part != got.Prefix || got.Lent.SourceOnLink != (spec.SourceOnLink{Source: tt.source, Link: link}) {
					t.Errorf("pool %s follows %+v", got.Prefix, *got.Lent)
				}
				want.Lent = got.Lent
			}
			if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
				t.Errorf("pool (-want +got):\n%s", d)
			}
		})
	}
}

func TestChooseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		host  *fakeHost
		req   spec.PoolRequest
		inUse []string
		is    error
		want  string
	}{
		{name: "static in a pool", host: server(), req: subnet("2001:db8:ff::/80"), inUse: []string{"2001:db8:ff::/64"},
			want: "subnet 2001:db8:ff::/80 overlaps pool 2001:db8:ff::/64, which is in use (v6net status says by whom; v6net forget releases one that nothing uses)"},
		{name: "static around a pool", host: server(), req: subnet("2001:db8:ff::/64"), inUse: []string{"2001:db8:ff::/80"},
			want: "subnet 2001:db8:ff::/64 overlaps pool 2001:db8:ff::/80, which is in use (v6net status says by whom; v6net forget releases one that nothing uses)"},
		{name: "static on a parent that is not there", host: server(), req: on(subnet("2001:db8:ff::/64"), "eth9"), want: "subnet 2001:db8:ff::/64: link eth9: file does not exist"},
		{name: "static IPv4 in a pool", host: server(), req: subnet("10.0.0.0/28"), inUse: []string{"10.0.0.0/24"}, want: "subnet 10.0.0.0/28 overlaps pool 10.0.0.0/24, which is in use (v6net status says by whom; v6net forget releases one that nothing uses)"},
		{name: "static without a prefix", host: server(), req: v6(spec.SourceStatic), want: "source=static needs a --subnet"},

		{name: "parent without a default route", host: &fakeHost{}, req: v6(spec.SourceParent), want: "no IPv6 default route and no parent named"},
		{name: "parent that is not there", host: server(), req: on(v6(spec.SourceAuto), "eth9"), want: "parent eth9 does not exist"},
		{name: "parent that is yet to be made", host: server(), req: on(v6(spec.SourceParent), "eth0.50"), want: "parent eth0.50 does not exist: it is made with the network, which then has to be told the VLAN's prefix (--subnet, with --gateway)"},
		{name: "parent without a global prefix", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"fe80::/64", "192.0.2.0/24"} }), req: v6(spec.SourceParent),
			want: "no global prefix on eth0"},
		{name: "parent without neighbor discovery", host: server(), req: on(v6(spec.SourceParent), tunnel),
			want: "no prefix of tun0 can be shared, since it has no neighbor discovery"},
		{name: "parent: prefix_length of the on-link prefix", host: server(), req: bits(v6(spec.SourceParent), 64),
			want: "prefix_length 64 is not a part of 2001:db8:1::/64, the on-link prefix of eth0 (allowed: 65 to 126)"},
		{name: "parent: full", host: server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"2001:db8:1::/120"} }), req: bits(v6(spec.SourceParent), 121),
			inUse: []string{"2001:db8:1::80/126"}, is: ipam.ErrExhausted, want: "2001:db8:1::/120 is exhausted: no free /121 in it (on-link prefix of eth0)"},
		{name: "parent: probe fails", host: server().with(func(h *fakeHost) { h.probeErr = errors.New("network is down") }), req: v6(spec.SourceAuto),
			want: "probe 2001:db8:1:0:2::/80 on eth0: network is down"},
		{name: "auto: every source full", host: &fakeHost{}, req: v6(spec.SourceAuto), inUse: []string{"fd12:3456:789a::/48"}, is: ipam.ErrExhausted,
			want: "no IPv6 default route and no parent named: unique local prefix fd12:3456:789a::/48 is exhausted: no free /64 in it"},
		{name: "the host's routes cannot be read", host: server().with(func(h *fakeHost) { h.takenErr = errors.New("list routes: interrupted") }), req: v6(spec.SourceAuto),
			want: "choose a prefix: list routes: interrupted"},

		{name: "private: none left", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16") }), req: spec.PoolRequest{},
			is: ipam.ErrExhausted, want: "private IPv4 addresses are exhausted: pools, routes and addresses of this host leave no /24 in [172.16.0.0/12 10.0.0.0/8 192.168.0.0/16]"},
		{name: "pd: nobody lends", host: server().with(func(h *fakeHost) { h.lentErr = errors.New("no server answered on eth0") }), req: v6(spec.SourcePD), want: "source=pd: no server answered on eth0"},
		{name: "pd: no default route", host: &fakeHost{}, req: v6(spec.SourcePD), want: "source=pd: no IPv6 default route and no parent named"},
		{name: "pd: too small", host: lending("2001:db8:f000::/64"), req: bits(v6(spec.SourcePD), 64), inUse: []string{"2001:db8:f000::/64"}, is: ipam.ErrExhausted, want: "2001:db8:f000::/64 is exhausted: no free /64 in it (lent on eth0; networks that are to share it need a larger --ipam-opt prefix_length)"},
		{name: "pd: no part of that length", host: lending("2001:db8:f000::/80"), req: bits(v6(spec.SourcePD), 64), want: "prefix_length 64 is not a part of 2001:db8:f000::/80, which is lent on eth0 (allowed: 80 to 126)"},
		{name: "unknown source", host: server(), req: v6("magic"), want: `unknown prefix source "magic"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Choose(t.Context(), tt.host, tt.req, prefixes(tt.inUse), testID, testSeed)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, error\n%v, want\n%v", got.Prefix, err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v does not wrap %v", err, tt.is)
			}
		})
	}
}

// What the host itself has is in the way of a bridge, and not of containers on
// the parent's own link: the pool says so, and the network decides.
func TestConflicts(t *testing.T) {
	for _, tt := range []struct {
		name string
		host *fakeHost
		req  spec.PoolRequest
		want string
	}{
		{name: "static is a route", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "2001:db8:ff::/80") }), req: subnet("2001:db8:ff::/80"),
			want: "subnet 2001:db8:ff::/80 overlaps 2001:db8:ff::/80, a route or an address of this host"},
		{name: "static around a route", host: server().with(func(h *fakeHost) { h.taken = append(h.taken, "2001:db8:ff::/80") }), req: subnet("2001:db8:ff::/64"),
			want: "subnet 2001:db8:ff::/64 overlaps 2001:db8:ff::/80, a route or an address of this host"},
		{name: "static around the host's address", host: server(), req: subnet("2001:db8:1::/80"),
			want: "subnet 2001:db8:1::/80 overlaps 2001:db8:1::5/128, a route or an address of this host"},
		{name: "static is the on-link prefix", host: server(), req: subnet("2001:db8:1::/64"),
			want: "subnet 2001:db8:1::/64 is the whole on-link prefix of eth0: use a part of it, or leave --subnet out to have one found"},
		{name: "static IPv4 is the uplink's", host: server(), req: subnet("192.0.2.0/24"), want: "subnet 192.0.2.0/24 overlaps 192.0.2.0/24, a route or an address of this host"},
		{name: "static IPv4 in the uplink's network", host: server().with(func(h *fakeHost) { h.lans = map[string][]string{"eth0": {"192.0.2.0/24"}} }), req: subnet("192.0.2.128/25"),
			want: "subnet 192.0.2.128/25 is a part of 192.0.2.0/24, the network on eth0, whose hosts would look for its addresses there"},
		{name: "static in another link's prefix", host: server().with(func(h *fakeHost) { h.onLink["eth1"] = []string{"2001:db8:2::/64"} }), req: subnet("2001:db8:2:0:1::/80"),
			want: "subnet 2001:db8:2:0:1::/80 is a part of 2001:db8:2::/64, the on-link prefix of eth1, which is not the parent (--ipam-opt parent=eth1 makes it so)"},
		{name: "static in the uplink's prefix, with another parent", host: server().with(func(h *fakeHost) { h.onLink["eth1"] = nil }), req: on(subnet("2001:db8:1:0:1::/80"), "eth1"),
			want: "subnet 2001:db8:1:0:1::/80 is a part of 2001:db8:1::/64, the on-link prefix of eth0, which is not the parent (--ipam-opt parent=eth0 makes it so)"},
		{name: "static in a link's prefix, without a default route", host: &fakeHost{lans: map[string][]string{"eth0": {"2001:db8:1::/64"}}}, req: subnet("2001:db8:1:0:1::/80"),
			want: "subnet 2001:db8:1:0:1::/80 is a part of 2001:db8:1::/64, the on-link prefix of eth0, which is not the parent (--ipam-opt parent=eth0 makes it so)"},
		{name: "static elsewhere", host: server(), req: subnet("2001:db8:ff::/64")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Choose(t.Context(), tt.host, tt.req, nil, testID, testSeed)
			if err != nil || got.Conflict != tt.want {
				t.Errorf("%v, conflict\n%q, want\n%q", err, got.Conflict, tt.want)
			}
		})
	}
}

// Containers of two hosts on one link have other IPv4 addresses, too.
func TestHostsChooseOtherPrivatePrefixes(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for seed := range uint64(8) {
		p, err := Choose(t.Context(), server(), spec.PoolRequest{Source: spec.SourcePrivate}, nil, testID, testSeed+seed)
		if err != nil || seen[p.Prefix] {
			t.Errorf("host %d has %s (%v), another one's", seed, p.Prefix, err)
		}
		seen[p.Prefix] = true
	}
}

func TestChooseNeedsAGlobalID(t *testing.T) {
	if got, err := Choose(t.Context(), &fakeHost{}, v6(spec.SourceAuto), nil, [5]byte{}, 0); err == nil {
		t.Errorf("without a global ID: %s, which is everybody's (RFC 4193 §3.2 wants it random)", got.Prefix)
	}
}

func TestChooseStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := Choose(ctx, server(), v6(spec.SourceAuto), nil, testID, testSeed); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v, want no unique local prefix because the context ended", got.Prefix, err)
	}
}

func TestParentProbesTheFirstAddresses(t *testing.T) {
	h := server()
	if _, err := Choose(t.Context(), h, v6(spec.SourceParent), nil, testID, testSeed); err != nil {
		t.Fatal(err)
	}
	want := "[[2001:db8:1:0:2::1 2001:db8:1:0:2::2 2001:db8:1:0:2::3 2001:db8:1:0:2::4]]"
	if got := fmt.Sprint(h.probes); got != want {
		t.Errorf("probed %s, want the gateway and those after it, %s", got, want)
	}
}

func TestParentBoundsItsProbes(t *testing.T) {
	h := server().with(func(h *fakeHost) {
		h.onLink["eth0"] = []string{"2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:3::/64"}
		h.neighbours = []string{"2001:db8::/32"}
	})
	_, err := Choose(t.Context(), h, v6(spec.SourceParent), nil, testID, testSeed)
	if err == nil || !strings.Contains(err.Error(), "neighbours on eth0 answered") {
		t.Errorf("error %v, want one that says neighbours answered", err)
	}
	if len(h.probes) != ProbeTries {
		t.Errorf("%d probes of about a second each, want %d at most", len(h.probes), ProbeTries)
	}
}

// The engine asks again until it likes a pool (libnetwork's overlap loop): every
// answer must be new, and there must be an end.
func TestChooseAgainAndAgain(t *testing.T) {
	lastTwo := []string{} // all of the ULA /48 but its first two subnets
	for b := 49; b < 64; b++ {
		upper := netip.MustParsePrefix("fd12:3456:789a::/48").Addr().As16()
		upper[(b-1)/8] |= 0x80 >> ((b - 1) % 8)
		lastTwo = append(lastTwo, netip.PrefixFrom(netip.AddrFrom16(upper), b).String())
	}
	small := server().with(func(h *fakeHost) { h.onLink["eth0"] = []string{"2001:db8:1::/120"} })
	for _, tt := range []struct {
		name  string
		host  *fakeHost
		req   spec.PoolRequest
		inUse []string
		want  int
	}{
		{"parent", small, v6(spec.SourceParent), nil, 64 - 2}, // not the first part, nor the host's
		{"ula", server(), v6(spec.SourceULA), lastTwo, 2},
		{"auto", small, v6(spec.SourceAuto), lastTwo, 64 - 2 + 2},
		{"private", server().with(func(h *fakeHost) { h.taken = []string{"172.16.0.0/12", "10.0.0.0/8"} }), spec.PoolRequest{}, nil, 256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inUse := prefixes(tt.inUse)
			for n := 0; ; n++ {
				p, err := Choose(t.Context(), tt.host, tt.req, inUse, testID, testSeed)
				if err != nil {
					if n != tt.want {
						t.Errorf("%d pools and then %q, want %d pools", n, err, tt.want)
					}
					return
				}
				if i := slices.IndexFunc(inUse, p.Prefix.Overlaps); i >= 0 {
					t.Fatalf("answer %d, %s, overlaps %s, which is in use", n, p.Prefix, inUse[i])
				}
				inUse = append(inUse, p.Prefix)
			}
		})
	}
}

// Whatever the host looks like, a pool that was found can be used.
func TestChosenPoolIsFree(t *testing.T) { rapid.Check(t, chosenPoolIsFree) }

func FuzzChoose(f *testing.F) { f.Fuzz(rapid.MakeFuzz(chosenPoolIsFree)) }

func chosenPoolIsFree(t *rapid.T) {
	near := rapid.Custom(func(t *rapid.T) string { // close to the prefixes that Choose works with
		base := rapid.SampledFrom([]string{"2001:db8:1::", "fd12:3456:789a::", "172.16.0.0", "10.0.0.0", "::"}).Draw(t, "base")
		a := netip.MustParseAddr(base)
		raw := a.AsSlice()
		for i, b := range rapid.SliceOfN(rapid.Byte(), 0, len(raw)/2).Draw(t, "low bytes") {
			raw[len(raw)-1-i] = b
		}
		a, _ = netip.AddrFromSlice(raw)
		return netip.PrefixFrom(a, rapid.IntRange(1, a.BitLen()).Draw(t, "bits")).String()
	})
	h := &fakeHost{
		parent:     rapid.SampledFrom([]string{"", "eth0"}).Draw(t, "parent"),
		onLink:     map[string][]string{"eth0": rapid.SliceOfN(near, 0, 3).Draw(t, "on-link")},
		taken:      rapid.SliceOfN(near, 0, 8).Draw(t, "taken"),
		neighbours: rapid.SliceOfN(near, 0, 2).Draw(t, "neighbours"),
	}
	inUse := prefixes(rapid.SliceOfN(near, 0, 8).Draw(t, "in use"))
	req := spec.PoolRequest{
		V6:     rapid.Bool().Draw(t, "IPv6"),
		Source: rapid.SampledFrom([]spec.Source{spec.SourceAuto, spec.SourceParent, spec.SourceULA}).Draw(t, "source"),
		Bits:   rapid.SampledFrom([]int{0, 64, 65, 80, 100, 126}).Draw(t, "prefix_length"),
	}
	p, err := Choose(t.Context(), h, req, inUse, testID, rapid.Uint64().Draw(t, "seed"))
	if err != nil {
		return
	}
	if i := slices.IndexFunc(inUse, p.Prefix.Overlaps); i >= 0 {
		t.Fatalf("%s overlaps %s, which is in use", p.Prefix, inUse[i])
	}
	for _, route := range prefixes(h.taken) {
		if route.Bits() >= p.Prefix.Bits() && route.Overlaps(p.Prefix) {
			t.Fatalf("%s overlaps %s, a route or address", p.Prefix, route)
		}
	}
	if req.V6 && req.Bits != 0 && p.Prefix.Bits() != req.Bits {
		t.Fatalf("%s is not a /%d", p.Prefix, req.Bits)
	}
	if p.OnLink != (p.Source == spec.SourceParent) || p.OnLink != (p.Parent != "") {
		t.Fatalf("%+v: on-link without its parent, or the other way round", p)
	}
	if _, err := ipam.NewPool(p.Prefix, p.Range, spec.Sequential); err != nil {
		t.Fatalf("unusable: %v", err)
	}
}

func TestNewGlobalID(t *testing.T) {
	a, errA := NewGlobalID()
	b, errB := NewGlobalID()
	if errA != nil || errB != nil || a == b {
		t.Errorf("%x (%v), %x (%v): want two that differ", a, errA, b, errB)
	}
	if p := site(a); p.Bits() != 48 || !netip.MustParsePrefix("fd00::/8").Contains(p.Addr()) { // L=1
		t.Errorf("site prefix %s, want a /48 of fd00::/8", p)
	}
}
