//go:build netns && vm

package link_test

import (
	"context"
	"crypto/sha256"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// These tests want a kernel with ipvlan and VLANs, as the VM's is: make vm.

func wantedIPvlan(mode spec.IPvlanMode, flag spec.IPvlanFlag) spec.Child {
	return spec.Child{
		Name: spec.SandboxName(endpointID), Alias: spec.EndpointAlias(endpointID), Parent: "eth0",
		Mode: spec.ModeIPvlan, IPvlanMode: mode, IPvlanFlag: flag,
	}
}

func TestEnsureChildOfEachIPvlanMode(t *testing.T) {
	for _, mode := range []spec.IPvlanMode{spec.IPvlanL2, spec.IPvlanL3, spec.IPvlanL3S} {
		for _, flag := range []spec.IPvlanFlag{spec.IPvlanBridge, spec.IPvlanPrivate, spec.IPvlanVEPA} {
			t.Run(string(mode)+" "+string(flag), func(t *testing.T) {
				h, self, _ := onCable(t)
				want := wantedIPvlan(mode, flag)
				for range 2 {
					if err := h.EnsureChild(t.Context(), want); err != nil {
						t.Fatal(err)
					}
				}
				details := self.Run(t, "ip", "-d", "link", "show", want.Name)
				if !strings.Contains(details, "ipvlan") || !strings.Contains(details, "mode "+string(mode)) || !strings.Contains(details, string(flag)) {
					t.Errorf("want mode %s and flag %s:\n%s", mode, flag, details)
				}
				if s := show(t, self, want.Name); s.Alias != want.Alias || s.MAC != show(t, self, "eth0").MAC || s.up() {
					t.Errorf("%+v, want it down, of %s, with the parent's hardware address", s, want.Alias)
				}
				// A daemon killed right after its creation has not set the alias.
				self.Run(t, "ip", "link", "set", want.Name, "alias", "")
				if err := h.Remove(t.Context(), want.Name, want.Alias); err != nil || exists(self, want.Name) {
					t.Errorf("remove: %v, still there: %t", err, exists(self, want.Name))
				}
			})
		}
	}
}

// In each mode a container on a link reaches the wire, and, by the shim's exact
// routes, the host.
func TestIPvlanCarriesTraffic(t *testing.T) {
	for _, mode := range []spec.IPvlanMode{spec.IPvlanL2, spec.IPvlanL3, spec.IPvlanL3S} {
		t.Run(string(mode), func(t *testing.T) {
			h, self, wire := onCable(t)
			c := testnet.New(t, "c")
			self.AddAddress(t, "2001:db8:1::2/64", "eth0")
			wire.AddAddress(t, "2001:db8:1::1/64", "eth0")
			want := wantedIPvlan(mode, spec.IPvlanBridge)
			if err := h.EnsureChild(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			self.Run(t, "ip", "link", "set", want.Name, "netns", c.Name(), "name", "eth0")
			c.Run(t, "ip", "addr", "add", "2001:db8:1:0:5::2/80", "dev", "eth0", "nodad")
			c.Run(t, "ip", "link", "set", "eth0", "up")
			c.Run(t, "ip", "-6", "route", "add", "default", "dev", "eth0")
			if mode != spec.IPvlanL2 { // where nobody answers for the container
				wire.Run(t, "ip", "-6", "route", "add", "2001:db8:1:0:5::/80", "via", "2001:db8:1::2")
			}
			reaches(t, c, "2001:db8:1::1")
			reaches(t, wire, "2001:db8:1:0:5::2")

			shim := wantedIPvlan(mode, spec.IPvlanBridge)
			shim.Name, shim.Alias, shim.Up = spec.ShimName(networkID), spec.NetworkAlias(networkID), true
			shim.Addresses = prefixes("2001:db8:1:0:5::1/128")
			shim.Routes = []netip.Addr{netip.MustParseAddr("2001:db8:1:0:5::2")}
			if err := h.EnsureChild(t.Context(), shim); err != nil {
				t.Fatal(err)
			}
			reaches(t, self, "2001:db8:1:0:5::2")
			reaches(t, c, "2001:db8:1:0:5::1")
		})
	}
}

// With ipvlan a container has the parent's hardware address, and what it sends to
// that is the parent's, where no other container has the IP address.
func TestIPvlanOnPairIsSealed(t *testing.T) {
	h, self := open(t)
	if err := h.EnsurePair(t.Context(), networkID, 1500); err != nil {
		t.Fatal(err)
	}
	near := spec.PairName(networkID)
	want := wantedIPvlan(spec.IPvlanL2, spec.IPvlanBridge)
	want.Parent = near
	if err := h.EnsureChild(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, conf := range []string{"all", near} {
		self.Sysctl(t, "net/ipv4/conf/"+conf+"/rp_filter", "0")
	}
	self.Run(t, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	t.Cleanup(func() {
		if err := self.Command(context.Background(), "ip", "address", "del", "192.0.2.1/32", "dev", "lo").Run(); err != nil {
			t.Error(err)
		}
	})
	c := testnet.New(t, "c")
	self.Run(t, "ip", "link", "set", want.Name, "netns", c.Name(), "name", "eth0")
	c.Run(t, "ip", "link", "set", "eth0", "up")
	c.Run(t, "ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
	c.Run(t, "ip", "neigh", "add", "192.0.2.1", "lladdr", show(t, self, near).MAC, "dev", "eth0")

	mustReachBeside(t, h, self, c, want)

	before := received(t, self)
	if out, err := c.Command(t.Context(), "ping", "-c", "1", "-W", "2", "192.0.2.1").CombinedOutput(); err == nil {
		t.Errorf("the host answers:\n%s", out)
	}
	if got := dropped(t, self, near); got == 0 {
		t.Error("the parent dropped nothing: the test would prove nothing")
	}
	if after := received(t, self); after != before {
		t.Errorf("the host received\n%s\nwhere it had received\n%s", after, before)
	}
}

// Containers on ipvlan have the parent's MTU at any time.
func TestIPvlanFollowsMTU(t *testing.T) {
	h, self, _ := onCable(t)
	want := wantedIPvlan(spec.IPvlanL2, spec.IPvlanBridge)
	if err := h.EnsureChild(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, mtu := range []int{1400, 1500} {
		self.Run(t, "ip", "link", "set", "eth0", "mtu", strconv.Itoa(mtu))
		if got := show(t, self, want.Name).MTU; got != mtu {
			t.Errorf("MTU %d, want the parent's %d", got, mtu)
		}
	}
}

func reaches(t *testing.T, from *testnet.Host, to string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		out, err := from.Command(t.Context(), "ping", "-c", "1", "-W", "2", to).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not reach %s:\n%s", from.Name(), to, out)
		}
	}
}

func TestEnsureVLAN(t *testing.T) {
	h, self, _ := onCable(t)
	self.Run(t, "ip", "link", "set", "eth0", "mtu", "1400")
	for _, raise := range []bool{false, true, true} {
		ours, err := h.EnsureVLAN(t.Context(), "eth0.50", raise)
		if err != nil || !ours {
			t.Fatalf("ours %t, %v", ours, err)
		}
		if s := show(t, self, "eth0.50"); s.up() != raise || s.MTU != 1400 || s.Alias != spec.VLANAlias("eth0.50") || s.MAC != show(t, self, "eth0").MAC {
			t.Errorf("%+v, want MTU 1400, the parent's hardware address, up: %t", s, raise)
		}
	}
	if details := self.Run(t, "ip", "-d", "link", "show", "eth0.50"); !strings.Contains(details, "id 50") {
		t.Errorf("not VLAN 50:\n%s", details)
	}
	self.Run(t, "ip", "link", "set", "eth0", "mtu", "1500")
	if _, err := h.EnsureVLAN(t.Context(), "eth0.50", true); err != nil || show(t, self, "eth0.50").MTU != 1500 {
		t.Errorf("MTU %d (%v), want the parent's", show(t, self, "eth0.50").MTU, err)
	}
	// Killed between its creation and its alias: it has the mark's hardware address yet.
	mark := sha256.Sum256([]byte(spec.VLANAlias("eth0.50")))
	mark[0] = mark[0]&^1 | 2
	interrupt := func() {
		self.Run(t, "ip", "link", "set", "eth0.50", "alias", "")
		self.Run(t, "ip", "link", "set", "eth0.50", "address", net.HardwareAddr(mark[:6]).String())
	}
	interrupt()
	if ours, err := h.EnsureVLAN(t.Context(), "eth0.50", true); err != nil || !ours {
		t.Errorf("after an interrupted creation: ours %t, %v", ours, err)
	}
	if s := show(t, self, "eth0.50"); s.Alias != spec.VLANAlias("eth0.50") || s.MAC != show(t, self, "eth0").MAC {
		t.Errorf("%+v, want the alias and the parent's hardware address", s)
	}
	interrupt()
	if err := h.Remove(t.Context(), "eth0.50", spec.VLANAlias("eth0.50")); err != nil || exists(self, "eth0.50") {
		t.Errorf("remove: %v", err)
	}
	self.Run(t, "ip", "link", "add", "link", "eth0", "name", "eth0.50", "type", "vlan", "id", "50")
	if ours, err := h.EnsureVLAN(t.Context(), "eth0.50", true); err != nil || ours || show(t, self, "eth0.50").up() {
		t.Errorf("somebody else's: ours %t, %v", ours, err)
	}
	// What is not what its name says is nobody's parent.
	self.Run(t, "ip", "link", "add", "link", "eth0", "name", "eth0.51", "type", "vlan", "id", "52")
	self.Run(t, "ip", "link", "add", "link", "eth0.50", "name", "eth0.53", "type", "vlan", "id", "53")
	for name, is := range map[string]string{"eth0.51": "VLAN 52 of eth0,", "eth0.53": "VLAN 53 of eth0.50,"} {
		if _, err := h.EnsureVLAN(t.Context(), name, true); err == nil || !strings.Contains(err.Error(), is) {
			t.Errorf("%s: %v, want an error that says it is %s", name, err, is)
		}
	}
	if err := h.Remove(t.Context(), "eth0.50", spec.VLANAlias("eth0.50")); err != nil || !exists(self, "eth0.50") {
		t.Errorf("somebody else's was removed (%v)", err)
	}
}

// Macvlan and ipvlan exclude each other, and ipvlan links of containers are found.
func TestIPvlanBesideMacvlan(t *testing.T) {
	h, self, _ := onCable(t)
	c := testnet.New(t, "c")
	want := wantedIPvlan(spec.IPvlanL2, spec.IPvlanBridge)
	if err := h.EnsureChild(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	other := wantedShim()
	if err := h.EnsureChild(context.Background(), other); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("macvlan beside ipvlan: %v", err)
	}
	self.Run(t, "ip", "link", "set", want.Name, "netns", c.Name(), "name", "eth0")
	links, err := h.Elsewhere(t.Context())
	if err != nil || !slices.Contains(links, spec.OwnedLink{Name: "eth0", Alias: want.Alias}) {
		t.Errorf("elsewhere: %v (%v)", links, err)
	}
	if err := h.RemoveElsewhere(t.Context(), want.Alias); err != nil || exists(c, "eth0") {
		t.Errorf("remove: %v, still there: %t", err, exists(c, "eth0"))
	}
}

// A link of another mode would change one that is there, here or in a container.
func TestCheckChildBesideForeignIPvlan(t *testing.T) {
	for name, elsewhere := range map[string]bool{"here": false, "in a container": true} {
		t.Run(name, func(t *testing.T) {
			h, self, _ := onCable(t)
			want := wantedIPvlan(spec.IPvlanL2, spec.IPvlanBridge)
			if err := h.CheckChild(t.Context(), want); err != nil {
				t.Errorf("on a parent without any: %v", err)
			}
			self.Run(t, "ip", "link", "add", "theirs", "link", "eth0", "type", "ipvlan", "mode", "l3", "private")
			if elsewhere {
				self.Run(t, "ip", "link", "set", "theirs", "netns", testnet.New(t, "c").Name())
			}
			err := h.CheckChild(t.Context(), want)
			if err == nil || !strings.Contains(err.Error(), "theirs") || !strings.Contains(err.Error(), "mode l3 and flag private") {
				t.Errorf("%v, want an error that names the link, its mode and its flag", err)
			}
			if err := h.CheckChild(t.Context(), wantedIPvlan(spec.IPvlanL3, spec.IPvlanPrivate)); err != nil {
				t.Errorf("of the same mode and flag: %v", err)
			}
		})
	}
}
