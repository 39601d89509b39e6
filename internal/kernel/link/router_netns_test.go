//go:build netns

package link_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// script runs `ip` commands, a line each; links that it makes are removed by name.
func script(t *testing.T, self *testnet.Host, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		args := append([]string{"ip"}, strings.Fields(line)...)
		if len(args) == 1 {
			continue
		}
		self.Run(t, args...)
		if args[1] == "link" && args[2] == "add" || args[1] == "tuntap" {
			t.Cleanup(func() { _ = self.Command(context.Background(), "ip", "link", "del", args[3]).Run() })
		}
	}
}

// Of which kinds of link a bridge's ports may be network cards is in
// TestMayHaveRouter: there is none of them in a namespace.
func TestRouterLinks(t *testing.T) {
	h, self := open(t)
	attach(t, h, wantedVeth())
	script(t, self, `
		link add up0 type veth peer name up1
		link add down0 type veth peer name down1
		link set up0 up
		link set up0 alias the_provider
		link add docker0 type bridge
		link add c0 type veth peer name c1
		link set c0 master docker0
		tuntap add vm0 mode tap
		link set vm0 master docker0
		link add empty0 type bridge`)
	want := []string{"c1", "down0", "down1", "up0", "up1"}
	got, err := h.RouterLinks(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("router links %q, %v; want %q", got, err, want)
	}
	for _, name := range []string{"lo", "up0", "up1", "down0", "docker0", "c0", "c1", "vm0", "empty0",
		spec.BridgeName(networkID), spec.VethName(endpointID), spec.SandboxName(endpointID)} {
		is, err := h.IsRouterLink(t.Context(), name)
		if err != nil || is != slices.Contains(want, name) {
			t.Errorf("%s is one: %t, %v; want %t, as in the list", name, is, err, slices.Contains(want, name))
		}
	}
	if _, err := h.IsRouterLink(t.Context(), "absent0"); !errors.Is(err, link.ErrNotFound) || !strings.Contains(err.Error(), "absent0") {
		t.Errorf("absent link: %v, want ErrNotFound that names it", err)
	}
	script(t, self, "link set c0 nomaster")
	if is, err := h.IsRouterLink(t.Context(), "c0"); err != nil || !is {
		t.Errorf("a port no more: %t, %v", is, err)
	}
}

func TestForeignBridgeHas(t *testing.T) {
	h, self := open(t)
	if err := h.EnsureBridge(t.Context(), wantedBridge()); err != nil { // has addresses of both families
		t.Fatal(err)
	}
	script(t, self, `
		link add up0 type veth peer name up1
		link set up0 up
		addr add 192.0.2.5/24 dev up0
		addr add 2001:db8:1::5/64 dev up0 nodad
		link add docker0 type bridge
		link set docker0 up
		link add virbr0 type bridge`)
	for _, step := range []struct {
		what, command string
		v4, v6        bool
	}{
		{what: "a bridge without addresses"},
		{what: "link-local addresses alone", command: "addr add fe80::7/64 dev docker0 nodad"},
		{what: "link-local ones of IPv4", command: "addr add 169.254.7.1/16 dev docker0"},
		{what: "IPv4", command: "addr add 172.17.0.1/16 dev docker0", v4: true},
		{what: "both families", command: "addr add fd00:7::1/64 dev virbr0 nodad", v4: true, v6: true},
		{what: "IPv6", command: "addr del 172.17.0.1/16 dev docker0", v6: true},
		{what: "gone again", command: "link del virbr0"},
	} {
		script(t, self, step.command)
		for v6, want := range map[bool]bool{false: step.v4, true: step.v6} {
			if got, err := h.ForeignBridgeHas(t.Context(), v6); err != nil || got != want {
				t.Errorf("%s: IPv6 %t: %t, %v; want %t", step.what, v6, got, err, want)
			}
		}
	}
}
