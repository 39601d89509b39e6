//go:build netns

package link_test

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// onCable is a host whose eth0 leads to another host.
func onCable(t *testing.T) (h *link.Handle, self, wire *testnet.Host) {
	t.Helper()
	h, self = open(t)
	wire = testnet.New(t, "wire")
	testnet.Connect(t, self, "eth0", wire, "eth0")
	return h, self, wire
}

func wantedMacvlan(mode spec.MacvlanMode) spec.Child {
	return spec.Child{
		Name: spec.SandboxName(endpointID), Alias: spec.EndpointAlias(endpointID), Parent: "eth0",
		Mode: spec.ModeMacvlan, MacvlanMode: mode, MAC: "02:42:ac:1e:00:02",
	}
}

func wantedShim(routes ...netip.Addr) spec.Child {
	return spec.Child{
		Name: spec.ShimName(networkID), Alias: spec.NetworkAlias(networkID), Parent: "eth0",
		Mode: spec.ModeMacvlan, MacvlanMode: spec.MacvlanBridge, Up: true,
		Addresses: prefixes("2001:db8:1::1/128", "192.0.2.1/32"), Routes: routes,
	}
}

func TestEnsureChildOfEachMacvlanMode(t *testing.T) {
	for _, mode := range []spec.MacvlanMode{spec.MacvlanBridge, spec.MacvlanPrivate, spec.MacvlanVEPA, spec.MacvlanPassthru} {
		t.Run(string(mode), func(t *testing.T) {
			h, self, _ := onCable(t)
			want := wantedMacvlan(mode)
			parent, err := h.Parent(t.Context(), "eth0")
			if err != nil {
				t.Fatal(err)
			}
			if mode == spec.MacvlanPassthru {
				want.MAC = parent.MAC // as the engine asks for
			}
			for range 2 {
				if err := h.EnsureChild(t.Context(), want); err != nil {
					t.Fatal(err)
				}
			}
			s := show(t, self, want.Name)
			if s.Alias != want.Alias || s.MAC != want.MAC || s.MTU != parent.MTU || s.up() {
				t.Errorf("%+v, want it down, of %s, with %s and MTU %d", s, want.Alias, want.MAC, parent.MTU)
			}
			if details := self.Run(t, "ip", "-d", "link", "show", want.Name); !strings.Contains(details, "macvlan mode "+string(mode)) {
				t.Errorf("not of mode %s:\n%s", mode, details)
			}
			if err := h.Remove(t.Context(), want.Name, want.Alias); err != nil || exists(self, want.Name) {
				t.Errorf("remove: %v, still there: %t", err, exists(self, want.Name))
			}
		})
	}
}

// A daemon killed right after the kernel made a link has not set its alias.
func TestChildOfInterruptedCreationIsOurs(t *testing.T) {
	for _, mode := range []spec.MacvlanMode{spec.MacvlanBridge, spec.MacvlanPassthru} {
		t.Run(string(mode), func(t *testing.T) {
			h, self, _ := onCable(t)
			want := wantedMacvlan(mode)
			if mode == spec.MacvlanPassthru {
				want.MAC = ""
			}
			if err := h.EnsureChild(t.Context(), spec.Child{Name: want.Name, Alias: want.Alias, Parent: "eth0", Mode: want.Mode, MacvlanMode: mode}); err != nil {
				t.Fatal(err)
			}
			self.Run(t, "ip", "link", "set", want.Name, "alias", "")
			if err := h.EnsureChild(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if err := h.Remove(t.Context(), want.Name, want.Alias); err != nil || exists(self, want.Name) {
				t.Errorf("%v, still there: %t", err, exists(self, want.Name))
			}
		})
	}
}

// The shim has what is wanted and no more, whatever it had before.
func TestShimHasExactRoutes(t *testing.T) {
	h, self, _ := onCable(t)
	routes := func() string {
		var lines []string
		for _, family := range []string{"-4", "-6"} {
			for line := range strings.Lines(self.Run(t, "ip", family, "route", "show", "dev", spec.ShimName(networkID))) {
				if to := strings.Fields(line); len(to) > 0 && to[0] != "fe80::/64" && to[0] != "2001:db8:1::1" {
					lines = append(lines, to[0])
				}
			}
		}
		slices.Sort(lines)
		return strings.Join(lines, " ")
	}
	a, b, c := netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:1::3"), netip.MustParseAddr("192.0.2.3")
	for _, step := range []struct {
		want []netip.Addr
		have string
	}{
		{[]netip.Addr{a}, "2001:db8:1::2"},
		{[]netip.Addr{a, b, c}, "192.0.2.3 2001:db8:1::2 2001:db8:1::3"},
		{[]netip.Addr{b}, "2001:db8:1::3"},
		{nil, ""},
	} {
		if err := h.EnsureChild(t.Context(), wantedShim(step.want...)); err != nil {
			t.Fatal(err)
		}
		if got := routes(); got != step.have {
			t.Errorf("routes %q, want %q", got, step.have)
		}
	}
	s := show(t, self, spec.ShimName(networkID))
	if !s.up() || s.MAC == show(t, self, "eth0").MAC {
		t.Errorf("shim %+v, want it up with a hardware address of its own", s)
	}
}

// A link in a container's namespace is found there, and can be removed, without
// its other end: it has none.
func TestElsewhere(t *testing.T) {
	h, self, _ := onCable(t)
	c := testnet.New(t, "c")
	want := wantedMacvlan(spec.MacvlanBridge)
	if err := h.EnsureChild(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	elsewhere := func() []spec.OwnedLink {
		t.Helper()
		links, err := h.Elsewhere(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return links
	}
	if links := elsewhere(); len(links) > 0 {
		t.Errorf("before it was moved: %v", links)
	}
	self.Run(t, "ip", "link", "set", want.Name, "netns", c.Name(), "name", "eth0")
	if links := elsewhere(); len(links) != 1 || links[0] != (spec.OwnedLink{Name: "eth0", Alias: want.Alias}) {
		t.Errorf("found %v, want eth0 with %s", links, want.Alias)
	}
	if err := h.RemoveElsewhere(t.Context(), "v6net endpoint another"); err != nil || !exists(c, "eth0") {
		t.Errorf("another's removal: %v, link there: %t", err, exists(c, "eth0"))
	}
	for range 2 {
		if err := h.RemoveElsewhere(t.Context(), want.Alias); err != nil {
			t.Fatal(err)
		}
	}
	if links := elsewhere(); len(links) > 0 || exists(c, "eth0") {
		t.Errorf("after its removal: %v", links)
	}
}

func TestParentThatCannotHaveChildren(t *testing.T) {
	h, self, _ := onCable(t)
	self.Run(t, "ip", "link", "add", "br9", "type", "bridge")
	t.Cleanup(func() { _ = self.Command(context.Background(), "ip", "link", "del", "br9").Run() })

	missing := wantedMacvlan(spec.MacvlanBridge)
	missing.Parent = "eth7"
	if err := h.EnsureChild(t.Context(), missing); !errors.Is(err, link.ErrNotFound) || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("missing parent: %v", err)
	}
	self.Run(t, "ip", "link", "set", "eth0", "master", "br9")
	if err := h.EnsureChild(t.Context(), wantedMacvlan(spec.MacvlanBridge)); !errors.Is(err, link.ErrBusy) || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("port of a bridge: %v", err)
	}
	if p, err := h.Parent(t.Context(), "eth0"); err != nil || p.Master != "br9" {
		t.Errorf("parent %+v (%v), want it to be a port of br9", p, err)
	}
	self.Run(t, "ip", "link", "set", "eth0", "nomaster")

	self.Run(t, "ip", "link", "add", "other", "link", "eth0", "type", "macvlan", "mode", "bridge")
	if err := h.EnsureChild(t.Context(), wantedMacvlan(spec.MacvlanPassthru)); !errors.Is(err, link.ErrBusy) {
		t.Errorf("passthru beside another: %v", err)
	}
	self.Run(t, "ip", "link", "del", "other")
	if exists(self, spec.SandboxName(endpointID)) {
		t.Error("what failed was left behind")
	}
}

// Where the kernel lacks a kind of link, the error says how to come by it; where
// it has it, the link is made. Development machines lack ipvlan and 8021q, the
// VM has both.
func TestKernelWithoutTheModule(t *testing.T) {
	h, self, _ := onCable(t)
	want := spec.Child{Name: spec.SandboxName(endpointID), Alias: spec.EndpointAlias(endpointID), Parent: "eth0",
		Mode: spec.ModeIPvlan, IPvlanMode: spec.IPvlanL2, IPvlanFlag: spec.IPvlanBridge}
	_, vlan := h.EnsureVLAN(t.Context(), "eth0.50", true)
	for _, kind := range []struct {
		name, module string
		err          error
		make         []string
	}{
		{"ipvlan", "modprobe ipvlan", h.EnsureChild(t.Context(), want), []string{"link", "eth0", "name", "try", "type", "ipvlan"}},
		{"vlan", "modprobe 8021q", vlan, []string{"link", "eth0", "name", "try", "type", "vlan", "id", "51"}},
	} {
		has := exec.Command("ip", append([]string{"link", "add"}, kind.make...)...).Run() == nil
		if has {
			self.Run(t, "ip", "link", "del", "try")
			if kind.err != nil {
				t.Errorf("%s: %v", kind.name, kind.err)
			}
			continue
		}
		if !errors.Is(kind.err, link.ErrNoModule) || !strings.Contains(kind.err.Error(), kind.module) {
			t.Errorf("%s: error %v, want one that says %q", kind.name, kind.err, kind.module)
		}
	}
}

func TestPairIsAParentWithCarrier(t *testing.T) {
	h, self := open(t)
	for range 2 {
		if err := h.EnsurePair(t.Context(), networkID, 1400); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []string{spec.PairName(networkID), spec.PairPeerName(networkID)} {
		s := show(t, self, end)
		if s.MTU != 1400 || s.Alias != spec.NetworkAlias(networkID) || !slices.Contains(s.Flags, "LOWER_UP") || len(s.Addresses) > 0 {
			t.Errorf("%s: %+v, want it up, with carrier, without address", end, s)
		}
	}
	want := wantedMacvlan(spec.MacvlanBridge)
	want.Parent = spec.PairName(networkID)
	if err := h.EnsureChild(t.Context(), want); err != nil {
		t.Error(err)
	}
}

// sendToHost has scapy send, in a container on a cable, what would reach the
// host were it not sealed: to the hardware addresses given, and to all.
const sendToHost = `
from scapy.all import *
import sys
for mac in ["ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:0e"] + sys.argv[1:]:
    e = Ether(dst=mac)
    sendp([
        e/ARP(op=1, psrc="198.51.100.2", pdst="192.0.2.1"),
        e/IP(src="198.51.100.2", dst="192.0.2.1")/ICMP(),
        e/IP(src="0.0.0.0", dst="255.255.255.255")/UDP(sport=68, dport=67)/b"hello",
        e/IPv6(src="2001:db8:9::2", dst="2001:db8:1::1")/ICMPv6EchoRequest(),
    ], iface="eth0", verbose=False)
`

// A container on a cable does not reach the host by it, whatever it sends: not
// an address that the host has elsewhere, nor who takes broadcasts.
func TestPairIsSealed(t *testing.T) {
	h, self := open(t)
	for range 2 {
		if err := h.EnsurePair(t.Context(), networkID, 1500); err != nil {
			t.Fatal(err)
		}
	}
	self.Run(t, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	self.Run(t, "ip", "address", "add", "2001:db8:1::1/128", "dev", "lo", "nodad")
	t.Cleanup(func() {
		if err := self.Command(context.Background(), "ip", "address", "flush", "dev", "lo", "scope", "global").Run(); err != nil {
			t.Error(err)
		}
	})
	near, far := spec.PairName(networkID), spec.PairPeerName(networkID)
	var macs []string
	for _, end := range []string{near, far} {
		self.Sysctl(t, "net/ipv4/conf/"+end+"/rp_filter", "0")
		macs = append(macs, show(t, self, end).MAC)
	}
	self.Sysctl(t, "net/ipv4/conf/all/rp_filter", "0")

	want := wantedMacvlan(spec.MacvlanBridge)
	want.Parent = near
	if err := h.EnsureChild(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	c := testnet.New(t, "c")
	self.Run(t, "ip", "link", "set", want.Name, "netns", c.Name(), "name", "eth0")
	c.Run(t, "ip", "link", "set", "eth0", "up")

	mustReachBeside(t, h, self, c, want)

	before := received(t, self)
	c.Run(t, append([]string{"/usr/bin/python3", "-c", sendToHost}, macs...)...)
	// All of them have come out, where they are counted.
	const frames = 4 * 4
	for deadline := time.Now().Add(20 * time.Second); dropped(t, self, far) < frames; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the far end dropped %d frames, want %d", dropped(t, self, far), frames)
		}
	}
	if after := received(t, self); after != before {
		t.Errorf("the host received\n%s\nwhere it had received\n%s", after, before)
	}
}

// mustReachBeside checks that a container reaches another on the same parent.
func mustReachBeside(t *testing.T, h *link.Handle, self, c *testnet.Host, child spec.Child) {
	t.Helper()
	id := "5" + endpointID[1:]
	child.Name, child.Alias = spec.SandboxName(id), spec.EndpointAlias(id)
	if child.MAC != "" {
		child.MAC = "02:42:ac:1e:00:03"
	}
	if err := h.EnsureChild(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	other := testnet.New(t, "other")
	self.Run(t, "ip", "link", "set", child.Name, "netns", other.Name(), "name", "eth0")
	other.Run(t, "ip", "link", "set", "eth0", "up")
	other.Run(t, "ip", "address", "add", "2001:db8:9::3/64", "dev", "eth0", "nodad")
	c.Run(t, "ip", "address", "add", "2001:db8:9::2/64", "dev", "eth0", "nodad")
	c.Run(t, "ping", "-c", "1", "-W", "20", "2001:db8:9::3")
}

// dropped counts the packets that a link's ingress filters dropped.
func dropped(t *testing.T, h *testnet.Host, link string) int {
	t.Helper()
	out := h.Run(t, "tc", "-s", "qdisc", "show", "dev", link, "ingress")
	_, count, found := strings.Cut(out, "(dropped ")
	if !found {
		return 0
	}
	count, _, _ = strings.Cut(count, ",")
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return n
}

// received counts what IP, ARP's table and IPv6 of a host have taken in.
func received(t *testing.T, h *testnet.Host) string {
	t.Helper()
	var counts []string
	for _, counter := range strings.Split(h.Run(t, "nstat", "-asz", "IpInReceives", "Ip6InReceives"), "\n") {
		if fields := strings.Fields(counter); len(fields) > 1 && strings.HasSuffix(fields[0], "InReceives") {
			counts = append(counts, fields[0]+" "+fields[1])
		}
	}
	return strings.Join(counts, " ") + " " + h.Run(t, "ip", "neigh", "show")
}

// Up is what the watch says of links, too: with carrier. A parent that gets its
// carrier later has come up, and what is on it is announced.
func TestParentIsUpWithCarrier(t *testing.T) {
	h, _, wire := onCable(t)
	for _, step := range []struct {
		other string
		want  bool
	}{{"up", true}, {"down", false}, {"up", true}} {
		wire.Run(t, "ip", "link", "set", "eth0", step.other)
		// The kernel notices a carrier in a work queue (linkwatch), and tells then.
		var p spec.Parent
		var err error
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if p, err = h.Parent(t.Context(), "eth0"); err != nil || p.Up == step.want {
				break
			}
		}
		if err != nil || p.Up != step.want {
			t.Errorf("with the other end %s: %+v (%v), want up: %t", step.other, p, err, step.want)
		}
	}
}
