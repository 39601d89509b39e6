//go:build netns

package crash_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// chaos is a machine whose uplink is done to whatever happens to one. Its containers are on
// networks that are bound to it each in another way.
type chaos struct {
	*machine
	parent     string // its name now
	first      world  // before there were networks
	networks   []*inDocker
	named      *inDocker // a bridge whose user has named the parent
	following  *inDocker // a bridge behind the default route
	onLink     *inDocker // a bridge with a part of the parent's own prefix
	macvlan    *inDocker
	neighbours []string // routes of the router's to prefixes that it takes to be on its link
}

func newChaos(t *testing.T) *chaos {
	c := &chaos{machine: newMachine(t), parent: "eth0"}
	for _, h := range []*testnet.Host{c.host, c.up} { // of links that are made anew
		h.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
		h.Sysctl(t, "net/ipv6/conf/default/dad_transmits", "0")
	}
	c.up.Run(t, "ip", "addr", "add", "2001:db8:c::1/64", "dev", "lan0", "nodad")
	c.neighbours = []string{"2001:db8:a::/64", "2001:db8:b::/64"}
	c.uncounted, c.args = true, []string{"--metrics", "unix://" + c.machine.metrics()}
	c.start(0)

	add := func(d *inDocker) *inDocker {
		n := strconv.Itoa(len(c.networks))
		d.id, d.endpoint, d.sandbox = n+networkID[1:], n+endpointID[1:], testnet.New(t, "container")
		c.networks = append(c.networks, d)
		return d
	}
	c.named = add(&inDocker{subnet6: c.neighbours[0], options: map[string]any{"ndproxy": "on", "parent": "eth0", "ra": "on"}})
	c.following = add(&inDocker{subnet6: c.neighbours[1], options: map[string]any{"ndproxy": "on"}})
	c.onLink = add(&inDocker{subnet6: "2001:db8:1:0:8000::/80", options: map[string]any{}})
	c.macvlan = add(&inDocker{subnet6: "2001:db8:c::/64", router: "2001:db8:c::1", options: map[string]any{"mode": "macvlan", "parent": "eth0"}})
	c.furnish()
	c.first = c.settled()
	for _, d := range c.networks {
		c.must(d.requestPools(c.machine), d.createNetwork(c.machine))
		c.run(d)
	}
	return c
}

func (c *chaos) must(errs ...error) {
	c.t.Helper()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

// run runs the container of a network.
func (c *chaos) run(d *inDocker) {
	c.t.Helper()
	c.must(d.requestAddresses(c.machine), d.createEndpoint(c.machine), d.join(c.machine))
}

// furnish gives the uplink, and the router's end of it, what people and their network
// managers do after it has come up.
func (c *chaos) furnish() {
	c.t.Helper()
	c.up.Run(c.t, "ip", "link", "set", "lan0", "up")
	c.host.Run(c.t, "ip", "link", "set", c.parent, "up")
	c.up.Run(c.t, "ip", "addr", "replace", "2001:db8:1::1/64", "dev", "lan0", "nodad")
	c.up.Run(c.t, "ip", "addr", "replace", "2001:db8:c::1/64", "dev", "lan0", "nodad")
	c.host.Run(c.t, "ip", "addr", "replace", "2001:db8:1::2/64", "dev", c.parent, "nodad")
	for _, prefix := range c.neighbours {
		c.up.Run(c.t, "ip", "route", "replace", prefix, "dev", "lan0")
	}
	// The route of an address comes a moment later.
	testnet.Eventually(c.t, patience, "a default route", func() bool {
		return c.host.Command(c.t.Context(), "ip", "-6", "route", "replace", "default", "via", "2001:db8:1::1", "dev", c.parent).Run() == nil
	})
}

// heals waits until the containers of those networks are reached from outside, at the right
// MAC addresses, their bridges have the parent's MTU, and status complains of none of them.
func (c *chaos) heals(networks ...*inDocker) {
	c.t.Helper()
	var err error
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		if err = c.unwell(networks); err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not healed within %v: %v", 2*patience, err)
		}
	}
}

// unwell says what is not as it should be.
func (c *chaos) unwell(networks []*inDocker) error {
	status, err := c.status()
	if err != nil {
		return err
	}
	if status.Error != "" {
		return fmt.Errorf("status: %s", status.Error)
	}
	for _, d := range networks {
		i := slices.IndexFunc(status.Networks, func(n spec.NetworkStatus) bool { return n.ID == d.networkID() })
		if i < 0 {
			return fmt.Errorf("%s: there is no such network", d.subnet6)
		}
		n := status.Networks[i]
		if n.Error != "" || n.Parent != c.parent {
			return fmt.Errorf("%s: parent %s, error %q", d.subnet6, n.Parent, n.Error)
		}
		mac := c.host.MAC(c.t, c.parent)
		if n.Bridge == "" {
			mac = d.sandbox.MAC(c.t, "eth0")
		} else if bridge, parent, link := c.mtu(n.Bridge), c.mtu(c.parent), c.mtu(spec.VethName(d.endpointID())); bridge != min(parent, link) {
			return fmt.Errorf("%s: the bridge has MTU %d, the parent %d, the running container's link %d", d.subnet6, bridge, parent, link)
		}
		addr, _, _ := strings.Cut(d.address6, "/")
		if is := c.up.Resolve(c.t, addr, "lan0"); is != mac {
			return fmt.Errorf("%s is said to be at %q, want %s", addr, is, mac)
		}
		// Larger than any MTU here, both ways.
		if out, err := c.up.Command(c.t.Context(), "ping", "-c", "1", "-W", "0.3", "-s", "3000", addr).CombinedOutput(); err != nil {
			return fmt.Errorf("%s does not answer: %s", addr, out)
		}
	}
	return nil
}

func (c *chaos) mtu(link string) int {
	c.t.Helper()
	_, after, _ := strings.Cut(c.host.Run(c.t, "ip", "-o", "link", "show", "dev", link), " mtu ")
	text, _, _ := strings.Cut(after, " ")
	mtu, err := strconv.Atoi(text)
	c.must(err)
	return mtu
}

// on runs a script on the host.
func (c *chaos) on(script string) {
	c.t.Helper()
	c.host.Run(c.t, "sh", "-ec", script)
}

// setMTU is of both ends of the cable: what is larger than the other end's is lost on it.
func (c *chaos) setMTU(mtu string) {
	c.t.Helper()
	c.up.Run(c.t, "ip", "link", "set", "lan0", "mtu", mtu)
	c.on("ip link set " + c.parent + " mtu " + mtu)
}

// rename gives the uplink another name, by which all that follow it know it at once.
func (c *chaos) rename(name string) {
	c.t.Helper()
	c.on("ip link set " + c.parent + " name " + name)
	c.parent = name
}

// flood changes links, addresses and routes for so long, as fast as the kernel lets one
// process, and answers how many changes that were.
func (c *chaos) flood(long time.Duration) (changes int) {
	c.t.Helper()
	c.host.Do(c.t, func() {
		h, err := netlink.NewHandle()
		c.must(err)
		defer h.Close()
		uplink, err := h.LinkByName(c.parent)
		c.must(err)
		lo, err := h.LinkByName("lo")
		c.must(err)
		addr, err := netlink.ParseAddr("2001:db8:f::1/128")
		c.must(err)
		subnet := &net.IPNet{IP: net.ParseIP("2001:db8:e::"), Mask: net.CIDRMask(64, 128)}
		way := &netlink.Route{LinkIndex: uplink.Attrs().Index, Dst: subnet}
		out := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Priority: 1 << 20}
		for began := time.Now(); time.Since(began) < long; {
			c.must(h.LinkSetTxQLen(uplink, 1000+changes%2), h.LinkSetAlias(uplink, strconv.Itoa(changes)),
				h.AddrAdd(uplink, addr), h.AddrDel(uplink, addr), h.RouteAdd(out), h.RouteDel(out))
			const ways = 50 // each in no time, where the others wait for something
			for range ways {
				c.must(h.RouteAdd(way), h.RouteDel(way))
			}
			changes += 6 + 2*ways
		}
		c.must(h.LinkSetTxQLen(uplink, 1000), h.LinkSetAlias(uplink, ""))
	})
	return changes
}

// floodLink asks from a host for routers, and for neighbors that nobody is, so many times.
func (c *chaos) floodLink(from *testnet.Host, link string, times int) {
	c.t.Helper()
	from.Do(c.t, func() {
		device, err := net.InterfaceByName(link)
		c.must(err)
		device.Name = strconv.Itoa(device.Index) // as a zone: package net remembers names, of whichever namespace
		conn, _, err := ndp.Listen(device, ndp.LinkLocal)
		c.must(err)
		defer func() { _ = conn.Close() }()
		source := &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: device.HardwareAddr}
		for i := range times {
			target := netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 2: 0x0d, 3: 0xb8, 5: 1, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
			group, err := ndp.SolicitedNodeMulticast(target)
			c.must(err, conn.WriteTo(&ndp.RouterSolicitation{Options: []ndp.Option{source}}, nil, netip.MustParseAddr("ff02::2")),
				conn.WriteTo(&ndp.NeighborSolicitation{TargetAddress: target, Options: []ndp.Option{source}}, nil, group))
		}
	})
}

// Whatever becomes of the parent: in the end containers are reached from outside again, and
// the daemon holds no more than before, and with the last network all is as it was.
func TestChaosOnTheParent(t *testing.T) {
	t.Parallel()
	c := newChaos(t)
	c.heals(c.networks...)
	const flaps = 15
	cases := []struct {
		name string
		do   func()
	}{
		{"down and up", func() {
			c.on("ip link set eth0 down")
			c.furnish()
		}},
		{"down and up, many times", func() {
			c.on("for i in $(seq " + strconv.Itoa(flaps) + "); do ip link set eth0 down; ip link set eth0 up; done")
			c.furnish()
		}},
		{"without a carrier", func() {
			c.up.Run(t, "ip", "link", "set", "lan0", "down")
			c.furnish()
		}},
		{"renamed, and back", func() {
			c.rename("wan0")
			c.heals(c.following, c.onLink)
			c.setMTU("1400")
			c.heals(c.following, c.onLink)
			c.setMTU("1500")
			c.rename("eth0")
		}},
		{"renamed while it is down, and back", func() {
			c.on("ip link set eth0 down")
			c.rename("wan0")
			c.furnish()
			c.heals(c.following, c.onLink)
			c.on("ip link set wan0 down")
			c.rename("eth0")
			c.furnish()
		}},
		{"deleted and made anew", func() {
			c.on("ip link del eth0; ip link add eth0 type veth peer name lan0 netns " + c.up.Path())
			c.furnish()
			c.heals(c.named, c.following, c.onLink)
			// Links on it have gone with it, in containers, too: those start anew.
			c.must(c.macvlan.removeContainer(c.machine))
			c.run(c.macvlan)
		}},
		{"another MAC address", func() {
			c.on("ip link set eth0 address 02:00:00:00:00:77")
			c.heals(c.networks...)
			c.on("ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:78")
			c.furnish()
		}},
		{"another MTU", func() {
			for _, mtu := range []string{"1280", "9000"} {
				c.setMTU(mtu)
				c.heals(c.networks...)
			}
			c.must(c.named.removeContainer(c.machine))
			c.run(c.named)
			if is := c.mtu(spec.VethName(c.named.endpointID())); is != 9000 {
				t.Errorf("a container that starts now has MTU %d, want 9000", is)
			}
			c.heals(c.networks...)
			c.setMTU("1400")
			c.heals(c.networks...)
			// IPv6 ends on a link with less than 1280 (RFC 8200 §5).
			c.setMTU("1000")
			c.setMTU("1500")
			c.furnish()
			c.heals(c.named, c.following, c.onLink)
			c.must(c.macvlan.removeContainer(c.machine)) // the kernel has taken its addresses, too
			c.run(c.macvlan)
		}},
		{"flapping addresses", func() {
			ll := c.host.LinkLocal(t, "eth0")
			c.on("for i in $(seq " + strconv.Itoa(flaps) + "); do for a in 2001:db8:1::2/64 " + ll + "/64; do ip addr del $a dev eth0; ip addr add $a dev eth0; done; done")
			c.furnish()
		}},
		{"flapping routes", func() {
			c.on("for i in $(seq " + strconv.Itoa(flaps) + "); do ip -6 route del default; ip -6 route add unreachable default; ip -6 route del default; ip -6 route add default via 2001:db8:1::1 dev eth0; done")
		}},
		{"a flood of solicitations, from the link and from a container", func() {
			const times = 20000
			c.floodLink(c.up, "lan0", times)
			c.floodLink(c.named.sandbox, "eth0", times)
		}},
		{"a flood of changes", func() {
			const long = 3 * time.Second
			changes := c.flood(long)
			t.Logf("%.0f changes a second", float64(changes)/long.Seconds())
		}},
	}
	var before usage
	for i, tc := range cases {
		if i == 1 { // what a link takes to be dialed has been had once
			before = c.usage()
		}
		began := time.Now()
		tc.do()
		c.heals(c.networks...)
		t.Logf("%s: %v; %v", tc.name, time.Since(began).Round(time.Millisecond), c.usage())
	}
	var last usage
	testnet.Eventually(t, patience, "the daemon holds no more than before", func() bool {
		last = c.usage()
		return last.files <= before.files && last.goroutines <= before.goroutines+2 && last.threads <= before.threads+8 && last.memory <= before.memory+16<<10
	})
	t.Logf("in the end the daemon has %v, and had %v", last, before)
	c.rename("wan0") // whose settings are put back by that name
	c.heals(c.following, c.onLink)
	for _, d := range c.networks {
		c.must(d.removeContainer(c.machine), d.deleteNetwork(c.machine))
	}
	c.must(c.onLink.releasePools(c.machine)) // of all
	c.rename("eth0")
	c.nameOwn()
	if _, err := c.await("no network left", c.first); err != nil {
		t.Error(err)
	}
}
