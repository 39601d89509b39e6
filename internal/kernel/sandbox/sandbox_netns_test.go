//go:build netns

package sandbox_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/sandbox"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

const (
	id  = "abcdefabcdefabcdef"
	mac = "02:00:5e:10:00:01"
)

// attached makes an endpoint's veth pair on a bridge, and says what is wanted of it
// in a container.
func attached(t *testing.T) sandbox.Link {
	t.Helper()
	h, err := link.New()
	if err != nil {
		t.Fatal(err)
	}
	bridge := spec.Bridge{Name: "br0", Alias: spec.NetworkAlias(id), Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fe80::1:1/64"), netip.MustParsePrefix("10.0.0.1/24")}}
	if err := h.EnsureBridge(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	if err := h.EnsureVeth(t.Context(), spec.Veth{Name: spec.VethName(id), Peer: spec.SandboxName(id), Alias: spec.EndpointAlias(id), Bridge: "br0", MAC: mac, MTU: 1400}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer h.Close()
		ctx := context.Background() // the test's has ended
		for name, alias := range map[string]string{spec.VethName(id): spec.EndpointAlias(id), "br0": spec.NetworkAlias(id)} {
			if err := h.Remove(ctx, name, alias); err != nil {
				t.Error(err)
			}
		}
	})
	return sandbox.Link{
		Name: spec.SandboxName(id), Alias: spec.EndpointAlias(id), Rename: "eth7",
		Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("10.0.0.2/24")},
		OnLink:    []netip.Prefix{netip.MustParsePrefix("2001:db8:5::5/128"), netip.MustParsePrefix("10.5.0.5/32")},
		Routes: []sandbox.Route{
			{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::1:1"), Metric: 107},
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1"), Metric: 107},
			{Destination: netip.MustParsePrefix("2001:db8:9::/48"), Gateway: netip.MustParseAddr("2001:db8::9")},
		},
	}
}

// A container's first process may bind its addresses and send by its routes, the
// machine's defaults notwithstanding; a repeated call changes nothing.
func TestFurnish(t *testing.T) {
	container := testnet.New(t, "container")
	for _, key := range []string{"default/disable_ipv6", "default/accept_dad"} {
		container.Sysctl(t, "net/ipv6/conf/"+key, "1")
	}
	want := attached(t)
	var before string
	for _, call := range []string{"first", "repeated"} {
		got, err := sandbox.Furnish(t.Context(), container.Path(), want)
		if err != nil || got.String() != mac {
			t.Fatalf("%s: Furnish = %v, %v, want %s", call, got, err, mac)
		}
		container.Do(t, func() {
			for _, a := range []string{"[2001:db8::2]:80", "10.0.0.2:80"} {
				l, err := net.Listen("tcp", a)
				if err != nil {
					t.Errorf("%s: %v", call, err)
					continue
				}
				_ = l.Close()
			}
		})
		state := container.Run(t, "sh", "-c", "ip -oneline link show eth7; ip -oneline address show eth7 scope global; ip -4 route; ip -6 route show dev eth7 | sort")
		for _, want := range []string{
			"mtu 1400", mac, "UP", "2001:db8::2/64 scope global nodad", "10.0.0.2/24",
			"default via fe80::1:1 metric 107", "default via 10.0.0.1 dev eth7 metric 107", "2001:db8:9::/48 via 2001:db8::9", "2001:db8:5::5", "10.5.0.5 dev eth7 scope link",
		} {
			if !strings.Contains(strings.ReplaceAll(state, "dev eth7 metric 107 onlink", "dev eth7 metric 107"), want) {
				t.Errorf("%s: the container does not have %q:\n%s", call, want, state)
			}
		}
		if strings.Contains(state, "tentative") {
			t.Errorf("%s: an address is still tentative:\n%s", call, state)
		}
		if before != "" && normal(state) != normal(before) {
			t.Errorf("a repeated call changes\n%s\nto\n%s", before, state)
		}
		before = state
	}
	container.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8::1")
	container.Run(t, "ping", "-c", "1", "-W", "2", "10.0.0.1")
}

// Default routes without a next hop, as of ipvlan's l3, stand beside those of other
// networks, and go with their link alone.
func TestFurnishDefaultRoutesWithoutNextHop(t *testing.T) {
	container := testnet.New(t, "container")
	want := attached(t)
	everywhere := []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0")}
	for _, p := range everywhere {
		want.Routes = append(want.Routes, sandbox.Route{Destination: p, Metric: 108})
	}
	for range 2 { // repeated, it is no change
		if _, err := sandbox.Furnish(t.Context(), container.Path(), want); err != nil {
			t.Fatal(err)
		}
	}
	for family, gateway := range map[string]string{"-6": "fe80::1:1", "-4": "10.0.0.1"} {
		routes := container.Run(t, "ip", family, "route", "show", "default")
		if !strings.Contains(routes, "via "+gateway+" dev eth7 metric 107") || !strings.Contains(routes, "default dev eth7 ") || !strings.Contains(routes, "metric 108") || strings.Count(routes, "default") != 2 {
			t.Errorf("default routes, want one by %s and one without a next hop:\n%s", gateway, routes)
		}
	}
}

// normal leaves out what comes by itself.
func normal(state string) string {
	var lines []string
	for line := range strings.Lines(state) {
		if !strings.HasPrefix(line, "fe80::/64") && !strings.HasPrefix(line, "multicast") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

func TestFurnishRefuses(t *testing.T) {
	container := testnet.New(t, "container")
	want := attached(t)
	if _, err := sandbox.Furnish(t.Context(), "/run/netns/away", want); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such namespace: %v, want fs.ErrNotExist", err)
	}
	foreign := want
	foreign.Alias = "v6net endpoint other"
	if _, err := sandbox.Furnish(t.Context(), container.Path(), foreign); err == nil || !strings.Contains(err.Error(), "has alias") {
		t.Errorf("a link that is another's: %v", err)
	}
	container.Run(t, "ip", "link", "add", "eth7", "type", "bridge")
	if _, err := sandbox.Furnish(t.Context(), container.Path(), want); err == nil || !strings.Contains(err.Error(), "another link of that name") {
		t.Errorf("a name that is taken: %v", err)
	}
	absent := want
	absent.Name, absent.Alias = "v6nxaway", "v6net endpoint away"
	if _, err := sandbox.Furnish(t.Context(), container.Path(), absent); err == nil || !strings.Contains(err.Error(), "no link with alias") {
		t.Errorf("a link that is nowhere: %v", err)
	}
}
