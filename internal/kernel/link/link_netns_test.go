//go:build netns

package link_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

const (
	networkID  = "3f2a6b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a"
	endpointID = "e1d2c3b4a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff00"
)

func wantedBridge() spec.Bridge {
	return spec.Bridge{
		Name: spec.BridgeName(networkID), Alias: spec.NetworkAlias(networkID), MTU: 1400,
		Addresses: prefixes("2001:db8:1::1/64", "fe80::1/64", "172.30.0.1/16"),
	}
}

func wantedVeth() spec.Veth {
	return spec.Veth{
		Name: spec.VethName(endpointID), Peer: spec.SandboxName(endpointID), Alias: spec.EndpointAlias(endpointID),
		Bridge: spec.BridgeName(networkID), MAC: "02:42:ac:1e:00:02", MTU: 1400, Isolated: true, Judged: true,
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// open returns a handle on the host under test, which has no link of ours at
// the test's end.
func open(t testing.TB) (*link.Handle, *testnet.Host) {
	t.Helper()
	self := testnet.Self(t)
	h, err := link.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		owned, err := h.Owned(context.Background())
		for _, l := range owned {
			err = errors.Join(err, h.Remove(context.Background(), l.Name, l.Alias))
		}
		if err != nil {
			t.Error(err)
		}
		h.Close()
	})
	return h, self
}

// attach makes a veth pair at the wanted bridge.
func attach(t testing.TB, h *link.Handle, v spec.Veth) {
	t.Helper()
	if err := h.EnsureBridge(t.Context(), wantedBridge()); err != nil {
		t.Fatal(err)
	}
	if err := h.EnsureVeth(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

// shown is what iproute2, the independent judge, says about one link.
type shown struct {
	Index    int      `json:"ifindex"`
	Name     string   `json:"ifname"`
	Alias    string   `json:"ifalias"`
	MTU      int      `json:"mtu"`
	MAC      string   `json:"address"`
	Master   string   `json:"master"`
	Flags    []string `json:"flags"`
	LinkInfo struct {
		Data struct {
			Snooping int `json:"mcast_snooping"`
		} `json:"info_data"`
		Port struct {
			Hairpin  bool   `json:"hairpin"`
			Isolated bool   `json:"isolated"`
			Forwards string `json:"group_fwd_mask"` // of the reserved addresses
		} `json:"info_slave_data"`
	} `json:"linkinfo"`
	Addresses []struct {
		Local     string `json:"local"`
		Bits      int    `json:"prefixlen"`
		NoDAD     bool   `json:"nodad"`
		NoRoute   bool   `json:"noprefixroute"`
		Tentative bool   `json:"tentative"`
		Valid     uint32 `json:"valid_life_time"`
	} `json:"addr_info"`
}

func show(t testing.TB, host *testnet.Host, name string) shown {
	t.Helper()
	var links []shown
	if err := json.Unmarshal([]byte(host.Run(t, "ip", "-d", "-j", "addr", "show", name)), &links); err != nil || len(links) != 1 {
		t.Fatalf("ip addr show %s: %v, %d links", name, err, len(links))
	}
	return links[0]
}

func (s shown) up() bool { return slices.Contains(s.Flags, "UP") }

func exists(host *testnet.Host, name string) bool {
	return host.Command(context.Background(), "ip", "link", "show", name).Run() == nil
}

// checkBridge compares the kernel's bridge with the wanted one.
func checkBridge(t *testing.T, self *testnet.Host, want spec.Bridge) shown {
	t.Helper()
	s := show(t, self, want.Name)
	if s.Alias != want.Alias || s.MTU != want.MTU || !s.up() {
		t.Errorf("alias %q, MTU %d, flags %v; want %q, %d, UP", s.Alias, s.MTU, s.Flags, want.Alias, want.MTU)
	}
	if s.LinkInfo.Data.Snooping != 0 {
		t.Error("multicast snooping is on")
	}
	var have []netip.Prefix
	for _, a := range s.Addresses {
		p := netip.PrefixFrom(netip.MustParseAddr(a.Local), a.Bits)
		if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && !slices.Contains(want.Addresses, p) {
			continue // the kernel's own
		}
		have = append(have, p)
		if p.Addr().Is6() && (!a.NoDAD || a.Tentative) || a.NoRoute || a.Valid != 1<<32-1 {
			t.Errorf("address %s: %+v, want it usable at once, with its route and for ever", p, a)
		}
	}
	slices.SortFunc(have, netip.Prefix.Compare)
	wanted := slices.SortedFunc(slices.Values(want.Addresses), netip.Prefix.Compare)
	if !slices.Equal(have, wanted) {
		t.Errorf("addresses %v, want %v", have, wanted)
	}
	return s
}

func checkVeth(t *testing.T, self *testnet.Host, want spec.Veth) shown {
	t.Helper()
	s := show(t, self, want.Name)
	if s.Alias != want.Alias || s.MTU != want.MTU || s.Master != want.Bridge || !s.up() {
		t.Errorf("host's end: alias %q, MTU %d, master %q, flags %v; want %q, %d, %q, UP",
			s.Alias, s.MTU, s.Master, s.Flags, want.Alias, want.MTU, want.Bridge)
	}
	forwards := "0"
	if want.Judged {
		forwards = "0xfffd" // all that can be
	}
	if port := s.LinkInfo.Port; !port.Hairpin || port.Isolated != want.Isolated || port.Forwards != forwards {
		t.Errorf("port flags %+v, want hairpin, isolated=%t, and of the reserved addresses %s forwarded", port, want.Isolated, forwards)
	}
	if details := self.Run(t, "ip", "-d", "link", "show", want.Name); !strings.Contains(details, "addrgenmode none") || len(s.Addresses) != 0 {
		t.Errorf("host's end: addresses %v, want none and none to come:\n%s", s.Addresses, details)
	}
	return s
}

func checkPeer(t *testing.T, host *testnet.Host, name string, want spec.Veth) {
	t.Helper()
	s := show(t, host, name)
	if s.MAC != want.MAC || s.MTU != want.MTU || s.Alias != want.Alias {
		t.Errorf("container's end: hardware address %s, MTU %d, alias %q; want %s, %d, %q", s.MAC, s.MTU, s.Alias, want.MAC, want.MTU, want.Alias)
	}
}

func TestEnsureBridgeCreatesAndIsIdempotent(t *testing.T) {
	h, self := open(t)
	want := wantedBridge()
	if err := h.EnsureBridge(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	first := checkBridge(t, self, want)
	if err := h.EnsureBridge(t.Context(), want); err != nil {
		t.Fatalf("second time: %v", err)
	}
	second := checkBridge(t, self, want)
	if first.Index != second.Index || first.MAC != second.MAC || fmt.Sprint(first.Addresses) != fmt.Sprint(second.Addresses) {
		t.Errorf("the second Ensure changed the bridge:\n%+v\n%+v", first, second)
	}
}

func TestEnsureBridgeRepairsDrift(t *testing.T) {
	for name, drift := range map[string]string{
		"MTU":                          "ip link set BR mtu 1500",
		"down":                         "ip link set BR down",
		"hardware address":             "ip link set BR address 02:00:00:00:00:07",
		"snooping":                     "ip link set BR type bridge mcast_snooping 1",
		"address lost":                 "ip addr del 2001:db8:1::1/64 dev BR",
		"link-local lost":              "ip addr del fe80::1/64 dev BR",
		"all addresses lost":           "ip addr flush dev BR",
		"stale address":                "ip addr add 2001:db8:2::1/64 dev BR",
		"stale IPv4 address":           "ip addr add 172.31.0.1/16 dev BR",
		"prefix length":                "ip addr del 2001:db8:1::1/64 dev BR; ip addr add 2001:db8:1::1/80 dev BR",
		"without prefix route":         "ip addr change 2001:db8:1::1/64 dev BR noprefixroute",
		"finite lifetime":              "ip addr change 2001:db8:1::1/64 dev BR valid_lft 100 preferred_lft 50",
		"wanted became IPv4 secondary": "ip addr flush dev BR scope global; ip addr add 172.30.0.9/16 dev BR; ip addr add 172.30.0.1/16 dev BR",
		"unmarked by interruption":     "ip link set BR alias ''",
	} {
		t.Run(name, func(t *testing.T) {
			h, self := open(t)
			want := wantedBridge()
			if err := h.EnsureBridge(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			before := show(t, self, want.Name)
			self.Run(t, "sh", "-ec", strings.ReplaceAll(drift, "BR", want.Name))
			if err := h.EnsureBridge(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			after := checkBridge(t, self, want)
			if after.Index != before.Index || after.MAC != before.MAC {
				t.Errorf("index and hardware address %d %s became %d %s", before.Index, before.MAC, after.Index, after.MAC)
			}
		})
	}
}

// The kernel's own link-local address is none of ours to remove.
func TestEnsureBridgeKeepsTheKernelsLinkLocal(t *testing.T) {
	h, self := open(t)
	want := wantedBridge()
	want.Addresses = prefixes("2001:db8:1::1/64", "2001:db8:5::1/64")
	if err := h.EnsureBridge(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	// Without a port the bridge has no carrier and the kernel makes no address yet.
	self.Run(t, "ip", "addr", "add", "fe80::7/64", "dev", want.Name)
	want.Addresses = want.Addresses[:1] // renumbered
	if err := h.EnsureBridge(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	s := checkBridge(t, self, want)
	if len(s.Addresses) != 2 {
		t.Errorf("addresses %+v, want the wanted one and fe80::7", s.Addresses)
	}
}

// What the host itself sends is from no former prefix, whether the bridge is made anew or
// was there before the renumbering; and the former prefix is routed without a gap.
func TestHostSendsFromNoFormerGateway(t *testing.T) {
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprintf("bridge was there %t", before), func(t *testing.T) {
			h, self := open(t)
			self.Run(t, "sh", "-c", "ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up && ip addr add fe80::1/64 dev up0 nodad && ip -6 route add default via fe80::99 dev up0")
			defer self.Run(t, "ip", "link", "del", "up0")
			want := wantedBridge()
			if before {
				want.Addresses = prefixes("fe80::1/64", "2001:db8:a000::1/64")
				if err := h.EnsureBridge(t.Context(), want); err != nil {
					t.Fatal(err)
				}
			}
			source := func(want string) {
				t.Helper()
				if out := self.Run(t, "ip", "-6", "route", "get", "2606:4700::1"); !strings.Contains(out, "src "+want) {
					t.Errorf("the host sends from another prefix than %s: %s", want, out)
				}
			}
			want.Addresses, want.Former = prefixes("fe80::1/64", "2001:db8:b000::1/64"), prefixes("2001:db8:a000::1/64")
			gaps, stop := context.WithCancel(t.Context())
			watch := self.Command(gaps, "ip", "-6", "monitor", "route")
			var seen strings.Builder
			watch.Stdout = &seen
			if err := watch.Start(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := h.EnsureBridge(t.Context(), want); err != nil {
					t.Fatal(err)
				}
				source("2001:db8:b000::1")
			}
			stop()
			_ = watch.Wait()
			if strings.Contains(seen.String(), "Deleted 2001:db8:a000::/64") {
				t.Errorf("the former prefix had no route for a moment:\n%s", seen.String())
			}
			// The former one is lent again.
			want.Addresses, want.Former = prefixes("fe80::1/64", "2001:db8:a000::1/64"), prefixes("2001:db8:b000::1/64")
			if err := h.EnsureBridge(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			source("2001:db8:a000::1")
		})
	}
}

// Neither the MTU nor the hardware address follows the ports.
func TestBridgeIsStableWhilePortsComeAndGo(t *testing.T) {
	for _, mtu := range []int{1280, 1400, 1500, 9000} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			h, self := open(t)
			bridge, veth := wantedBridge(), wantedVeth()
			bridge.MTU, veth.MTU = mtu, mtu
			if err := h.EnsureBridge(t.Context(), bridge); err != nil {
				t.Fatal(err)
			}
			before := checkBridge(t, self, bridge)
			if err := h.EnsureVeth(t.Context(), veth); err != nil {
				t.Fatal(err)
			}
			during := checkBridge(t, self, bridge)
			if err := h.Remove(t.Context(), veth.Name, veth.Alias); err != nil {
				t.Fatal(err)
			}
			after := checkBridge(t, self, bridge)
			if before.MAC != during.MAC || during.MAC != after.MAC {
				t.Errorf("hardware address %s, with a port %s, after it %s", before.MAC, during.MAC, after.MAC)
			}
		})
	}
}

func TestForeignLinkIsNeverTouched(t *testing.T) {
	bridge, veth := wantedBridge(), wantedVeth()
	for name, c := range map[string]struct {
		foreign string
		ensure  func(context.Context, *link.Handle) error
		link    string
		alias   string
	}{
		"bridge without alias":    {"ip link add BR type bridge", ensureBridge(bridge), bridge.Name, bridge.Alias},
		"bridge of another alias": {"ip link add BR type bridge; ip link set BR alias 'v6net network 77'", ensureBridge(bridge), bridge.Name, bridge.Alias},
		"veth without alias":      {"ip link add VE type veth peer name other", ensureVeth(veth), veth.Name, veth.Alias},
		"our alias, other kind":   {"ip link add BR type veth peer name other; ip link set BR alias '" + bridge.Alias + "'", ensureBridge(bridge), bridge.Name, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, self := open(t)
			if c.link == veth.Name {
				if err := h.EnsureBridge(t.Context(), bridge); err != nil {
					t.Fatal(err)
				}
			}
			self.Run(t, "sh", "-ec", strings.NewReplacer("BR", bridge.Name, "VE", veth.Name).Replace(c.foreign))
			t.Cleanup(func() { _ = self.Command(context.Background(), "ip", "link", "del", c.link).Run() })
			before := show(t, self, c.link)
			err := c.ensure(t.Context(), h)
			if !errors.Is(err, link.ErrForeign) || !strings.Contains(err.Error(), c.link) {
				t.Errorf("Ensure: %v, want ErrForeign that names %s", err, c.link)
			}
			if c.alias != "" {
				if err := h.Remove(t.Context(), c.link, c.alias); err != nil {
					t.Errorf("Remove: %v, want success without touching it", err)
				}
			}
			if after := show(t, self, c.link); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("the foreign link changed:\n%+v\n%+v", before, after)
			}
		})
	}
}

func ensureBridge(b spec.Bridge) func(context.Context, *link.Handle) error {
	return func(ctx context.Context, h *link.Handle) error { return h.EnsureBridge(ctx, b) }
}

func ensureVeth(v spec.Veth) func(context.Context, *link.Handle) error {
	return func(ctx context.Context, h *link.Handle) error { return h.EnsureVeth(ctx, v) }
}

// A failure half-way leaves nothing of what this call created.
func TestEnsureUndoesOnFailure(t *testing.T) {
	bridge, veth := wantedBridge(), wantedVeth()
	t.Run("bridge whose address the kernel refuses", func(t *testing.T) {
		h, self := open(t)
		bad := bridge
		bad.Addresses = prefixes("2001:db8:1::1/64", "ff02::1/64")
		if err := h.EnsureBridge(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "ff02::1/64") {
			t.Errorf("error %v, want one that names ff02::1/64", err)
		}
		if exists(self, bad.Name) {
			t.Error("the bridge was left behind")
		}
	})
	t.Run("bridge without IPv6", func(t *testing.T) {
		h, self := open(t)
		self.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
		defer self.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "0")
		if err := h.EnsureBridge(t.Context(), bridge); err == nil || !strings.Contains(err.Error(), "disable_ipv6") {
			t.Errorf("error %v, want one that names the sysctl", err)
		}
		if exists(self, bridge.Name) {
			t.Error("the bridge was left behind")
		}
	})
	t.Run("bridge that existed stays", func(t *testing.T) {
		h, self := open(t)
		if err := h.EnsureBridge(t.Context(), bridge); err != nil {
			t.Fatal(err)
		}
		bad := bridge
		bad.Addresses = prefixes("ff02::1/64")
		if err := h.EnsureBridge(t.Context(), bad); err == nil {
			t.Error("a multicast address was accepted")
		}
		if !exists(self, bad.Name) {
			t.Error("the bridge that was there before is gone")
		}
	})
	t.Run("veth at what is no bridge", func(t *testing.T) {
		h, self := open(t)
		bad := veth
		bad.Bridge = "lo"
		if err := h.EnsureVeth(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "bridge lo") {
			t.Errorf("error %v, want one that names the bridge", err)
		}
		if exists(self, bad.Name) || exists(self, bad.Peer) {
			t.Error("the pair was left behind")
		}
	})
	t.Run("veth at an absent bridge", func(t *testing.T) {
		h, self := open(t)
		if err := h.EnsureVeth(t.Context(), veth); !errors.Is(err, link.ErrNotFound) || !strings.Contains(err.Error(), veth.Bridge) {
			t.Errorf("error %v, want ErrNotFound that names the bridge", err)
		}
		if exists(self, veth.Name) {
			t.Error("the pair was left behind")
		}
	})
	t.Run("bad hardware address", func(t *testing.T) {
		h, self := open(t)
		if err := h.EnsureBridge(t.Context(), bridge); err != nil {
			t.Fatal(err)
		}
		for _, mac := range []string{"", "02:42", "01:00:5e:00:00:01", "02-42-ac-1e-00-02-00-00", "x"} {
			bad := veth
			bad.MAC = mac
			if err := h.EnsureVeth(t.Context(), bad); err == nil {
				t.Errorf("%q was accepted", mac)
			}
		}
		if exists(self, veth.Name) {
			t.Error("a pair was left behind")
		}
	})
	t.Run("name of the container's end is taken", func(t *testing.T) {
		h, self := open(t)
		if err := h.EnsureBridge(t.Context(), bridge); err != nil {
			t.Fatal(err)
		}
		self.Run(t, "ip", "link", "add", veth.Peer, "type", "bridge")
		defer self.Run(t, "ip", "link", "del", veth.Peer)
		if err := h.EnsureVeth(t.Context(), veth); !errors.Is(err, fs.ErrExist) {
			t.Errorf("error %v, want one that matches fs.ErrExist", err)
		}
		if exists(self, veth.Name) || !exists(self, veth.Peer) {
			t.Error("the host's end was left behind or the foreign link was removed")
		}
	})
}

func TestEnsureVethCreatesAndIsIdempotent(t *testing.T) {
	h, self := open(t)
	want := wantedVeth()
	attach(t, h, want)
	first := checkVeth(t, self, want)
	checkPeer(t, self, want.Peer, want)
	if err := h.EnsureVeth(t.Context(), want); err != nil {
		t.Fatalf("second time: %v", err)
	}
	if second := checkVeth(t, self, want); second.Index != first.Index {
		t.Errorf("link %d became %d", first.Index, second.Index)
	}
	checkPeer(t, self, want.Peer, want)
}

func TestEnsureVethRepairsDrift(t *testing.T) {
	for name, drift := range map[string]string{
		"detached":                 "ip link set VE nomaster",
		"at another bridge":        "ip link add br7 type bridge; ip link set VE master br7",
		"port flags":               "ip link set VE type bridge_slave hairpin off isolated off",
		"down":                     "ip link set VE down",
		"MTU":                      "ip link set VE mtu 1500",
		"container's MTU":          "ip link set PE mtu 1300",
		"container's address":      "ip link set PE address 02:00:00:00:00:07",
		"container's end unmarked": "ip link set PE alias ''",
		"unmarked by interruption": "ip link set VE alias ''; ip link set PE alias ''; ip link set VE nomaster down addrgenmode eui64",
	} {
		t.Run(name, func(t *testing.T) {
			h, self := open(t)
			want := wantedVeth()
			attach(t, h, want)
			self.Run(t, "sh", "-ec", strings.NewReplacer("VE", want.Name, "PE", want.Peer).Replace(drift))
			t.Cleanup(func() { _ = self.Command(context.Background(), "ip", "link", "del", "br7").Run() })
			if err := h.EnsureVeth(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			checkVeth(t, self, want)
			checkPeer(t, self, want.Peer, want)
		})
	}
}

// After the engine has taken the container's end, only the host's end is ours.
func TestEnsureVethAfterTheEngineMovedThePeer(t *testing.T) {
	h, self := open(t)
	box := testnet.New(t, "box")
	want := wantedVeth()
	attach(t, h, want)
	index := show(t, self, want.Peer).Index
	self.Run(t, "ip", "link", "set", want.Peer, "netns", box.Name(), "name", "eth0")
	box.Run(t, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:09", "up")
	// Another link gets the index that the peer had here; it must not be taken for it.
	self.Run(t, "ip", "link", "add", "other0", "index", fmt.Sprint(index), "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "other0")
	other := show(t, self, "other0")
	self.Run(t, "ip", "link", "set", want.Name, "nomaster", "down")
	want.Isolated = false
	if err := h.EnsureVeth(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	checkVeth(t, self, want)
	if s := show(t, box, "eth0"); s.MAC != "02:00:00:00:00:09" || !s.up() {
		t.Errorf("the engine's end changed: %+v", s)
	}
	if s := show(t, self, "other0"); fmt.Sprint(s) != fmt.Sprint(other) {
		t.Errorf("somebody else's link changed:\n%+v\n%+v", other, s)
	}

	info, err := h.Link(t.Context(), want.Name)
	if err != nil || !info.Up || !info.Carrier || info.Kind != "veth" || info.MTU != want.MTU || info.MasterIndex == 0 {
		t.Errorf("Link: %+v, %v", info, err)
	}
	if err := h.Remove(t.Context(), want.Name, want.Alias); err != nil {
		t.Fatal(err)
	}
	if exists(box, "eth0") {
		t.Error("the container's end outlived the host's")
	}
}

// A container reaches its gateway, at once, and hears neighbor solicitations.
func TestContainerReachesItsGateway(t *testing.T) {
	h, self := open(t)
	box := testnet.New(t, "box")
	veth := wantedVeth()
	attach(t, h, veth)
	self.Run(t, "ip", "link", "set", veth.Peer, "netns", box.Name(), "name", "eth0")
	box.Run(t, "ip", "link", "set", "eth0", "up")
	box.Run(t, "ip", "addr", "add", "2001:db8:1::5/64", "dev", "eth0", "nodad")
	box.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8:1::1")
	self.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8:1::5")
}

func TestRemove(t *testing.T) {
	h, self := open(t)
	bridge := wantedBridge()
	if err := h.Remove(t.Context(), bridge.Name, bridge.Alias); err != nil {
		t.Errorf("absent: %v, want success", err)
	}
	if err := h.EnsureBridge(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), bridge.Name, "v6net network 77"); err != nil || !exists(self, bridge.Name) {
		t.Errorf("another network's alias: %v, want success and the bridge untouched", err)
	}
	self.Run(t, "ip", "link", "set", bridge.Name, "alias", "") // creation was interrupted
	if err := h.Remove(t.Context(), bridge.Name, bridge.Alias); err != nil || exists(self, bridge.Name) {
		t.Errorf("our own: %v, want it gone", err)
	}
	if err := h.Remove(t.Context(), bridge.Name, bridge.Alias); err != nil {
		t.Errorf("second time: %v, want success", err)
	}
}

func TestOwned(t *testing.T) {
	h, self := open(t)
	bridge, veth := wantedBridge(), wantedVeth()
	if owned, err := h.Owned(t.Context()); err != nil || len(owned) != 0 {
		t.Errorf("owned on a new host: %v, %v", owned, err)
	}
	attach(t, h, veth)
	self.Run(t, "ip", "link", "add", "v6nforeign", "type", "bridge")
	defer self.Run(t, "ip", "link", "del", "v6nforeign")

	owned, err := h.Owned(t.Context())
	want := []spec.OwnedLink{{Name: bridge.Name, Alias: bridge.Alias}, {Name: veth.Name, Alias: veth.Alias}, {Name: veth.Peer, Alias: veth.Alias}}
	byName := func(a, b spec.OwnedLink) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(owned, byName)
	slices.SortFunc(want, byName)
	if err != nil || !slices.Equal(owned, want) {
		t.Errorf("owned %v, %v; want %v", owned, err, want)
	}
	if _, err := h.Link(t.Context(), "absent0"); !errors.Is(err, link.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent link: %v, want ErrNotFound", err)
	}
}

func TestForgetNeighbour(t *testing.T) {
	h, self := open(t)
	bridge := wantedBridge()
	if err := h.EnsureBridge(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"2001:db8:1::5", "172.30.0.5"} {
		self.Run(t, "ip", "neigh", "add", addr, "lladdr", "02:00:00:00:00:01", "dev", bridge.Name, "nud", "reachable")
		for range 2 { // the second time there is none, which is no error
			if err := h.ForgetNeighbour(t.Context(), bridge.Name, netip.MustParseAddr(addr)); err != nil {
				t.Fatal(err)
			}
		}
		if entry := self.Run(t, "ip", "neigh", "show", addr, "dev", bridge.Name); strings.Contains(entry, "02:00:00:00:00:01") {
			t.Errorf("entry %q is still there", entry)
		}
	}
	if err := h.ForgetNeighbour(t.Context(), "absent0", netip.MustParseAddr("2001:db8:1::5")); !errors.Is(err, link.ErrNotFound) {
		t.Errorf("absent link: %v, want ErrNotFound", err)
	}
}

// A handle stays in the namespace where it was opened, whoever calls it.
func TestHandleStaysInItsNamespace(t *testing.T) {
	other := testnet.New(t, "other")
	var h *link.Handle
	err := netns.Do(other.Path(), func() (err error) {
		h, err = link.New()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	bridge := wantedBridge()
	if err := h.EnsureBridge(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	if !exists(other, bridge.Name) || exists(testnet.Self(t), bridge.Name) {
		t.Error("the bridge is not where the handle was opened")
	}
}

// Endpoints come and go in parallel while others list: no list fails or lacks
// what is there all the time.
func TestListsDuringChurn(t *testing.T) {
	h, _ := open(t)
	bridge := wantedBridge()
	if err := h.EnsureBridge(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	churn, err := link.New()
	if err != nil {
		t.Fatal(err)
	}
	defer churn.Close()
	done := make(chan error, 1)
	go func() {
		for i := range 100 {
			v := endpoint(i)
			if err := churn.EnsureVeth(t.Context(), v); err != nil {
				done <- err
				return
			}
			if i%2 == 0 {
				continue
			}
			if err := churn.Remove(t.Context(), v.Name, v.Alias); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if owned, err := h.Owned(t.Context()); err != nil || len(owned) != 1+2*50 {
				t.Errorf("%d links, %v; want the bridge and 50 pairs", len(owned), err)
			}
			return
		default:
		}
		owned, err := h.Owned(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(owned, spec.OwnedLink{Name: bridge.Name, Alias: bridge.Alias}) {
			t.Fatalf("the bridge is missing among %d owned links", len(owned))
		}
	}
}

func endpoint(i int) spec.Veth {
	id := fmt.Sprintf("%064x", i) // its low digits are cut from the names
	id = id[53:] + id[:53]
	v := wantedVeth()
	v.Name, v.Peer, v.Alias = spec.VethName(id), spec.SandboxName(id), spec.EndpointAlias(id)
	return v
}

// BenchmarkEnsureVeth creates endpoints on one bridge, as a host starting its
// containers does; "again" is the same call for one that exists.
func BenchmarkEnsureVeth(b *testing.B) {
	setup := func(b *testing.B) *link.Handle {
		h, _ := open(b)
		if err := h.EnsureBridge(b.Context(), wantedBridge()); err != nil {
			b.Fatal(err)
		}
		return h
	}
	b.Run("create", func(b *testing.B) {
		h := setup(b)
		i := 0
		for b.Loop() {
			if err := h.EnsureVeth(b.Context(), endpoint(i)); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if v := endpoint(i); i%100 != 0 { // up to 100 ports, not thousands
				if err := h.Remove(b.Context(), v.Name, v.Alias); err != nil {
					b.Fatal(err)
				}
			}
			i++
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		h := setup(b)
		for b.Loop() {
			if err := h.EnsureVeth(b.Context(), endpoint(0)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
