//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

func testMacvlan(t *testing.T, l *lab) {
	parts := []part{
		{"no option", func(t *testing.T, l *lab) { testOnParent(t, l, "macvlan") }},
		{"the link's own prefixes", func(t *testing.T, l *lab) { testWholePrefix(t, l, "macvlan") }},
		{"private", testMacvlanPrivate},
		{"vepa", func(t *testing.T, l *lab) { testVEPA(t, l, "mode=macvlan", "macvlan_mode=vepa") }},
		{"passthru", testMacvlanPassthru},
		{"internal", func(t *testing.T, l *lab) { testInternalOnParent(t, l, "macvlan") }},
		{"host access", func(t *testing.T, l *lab) { testHostAccess(t, l, "mode=macvlan") }},
		{"advertisements", func(t *testing.T, l *lab) { testAdvertisementsOnParent(t, l, "macvlan") }},
		{"VLAN", testVLANOnParent},
	}
	if l.engine != nil { // Podman has another order of networks, and examples of its own
		parts = append(parts, part{"beside a bridge", testMacvlanBesideBridge},
			part{"example", func(t *testing.T, l *lab) { testExampleOnParent(t, l, "macvlan", "lan") }})
	}
	l.each(t, parts)
}

// macOf is the hardware address of a container's first link.
func (l *lab) macOf(t *testing.T, container string) string {
	t.Helper()
	return strings.Fields(l.in(t, container, "ip", "-brief", "link", "show", "dev", "eth0"))[2]
}

// mustResolve checks who answers for an address on the link. It asks again where
// nobody does: resolve waits for a second, which is short on an emulated machine.
func (l *lab) mustResolve(t *testing.T, address, want string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(3 * fetchTimeout); got == "" && time.Now().Before(deadline); {
		got = l.resolve(t, address)
	}
	if got != want {
		t.Errorf("%q answers for %s, want %s", got, address, want)
	}
}

func macOn(t *testing.T, h *testnet.Host, link string) string {
	t.Helper()
	return strings.Fields(h.Run(t, "ip", "-brief", "link", "show", "dev", link))[2]
}

// testOnParent: with the mode alone containers are machines of the parent's
// link: they answer for themselves, at all ports, with the router's help alone.
func testOnParent(t *testing.T, l *lab, mode string) {
	serveClientAddress(t, l.far)
	l.network(t, "net", "-o", "mode="+mode)
	l.container(t, "web", "--network", "net", "-p", "80:80")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	l.mustResolve(t, address, l.macOf(t, "web"))
	if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != address {
		t.Errorf("far sees the client %q (%v), want %s", got, err, address)
	}
	if _, err := l.fetchIn(t, "other", bracket(address)); err != nil {
		t.Errorf("containers of one network: %v", err)
	}
	if route := l.in(t, "web", "ip", "-6", "route", "show", "default"); !strings.Contains(route, "via "+upIPv6+" dev eth0") || strings.Contains(route, "\n") {
		t.Errorf("default route %q, want one by the upstream router", route)
	}
	if route := l.in(t, "web", "ip", "-6", "route", "show", linkPrefix); !strings.Contains(route, "dev eth0") || strings.Contains(route, "via") {
		t.Errorf("route %q to the link's prefix %s, want one that needs no router", route, linkPrefix)
	}
	if got := strings.TrimSpace(l.host.Run(t, "sysctl", "-n", "net.ipv6.conf.all.forwarding")); got != "0" {
		t.Error("the host forwards, which is not needed")
	}
	if status := l.v6net(t, "status"); !strings.Contains(status, mode) || !strings.Contains(status, "on eth0") || !strings.Contains(status, address) {
		t.Errorf("v6net status does not show %s on eth0 and %s:\n%s", mode, address, status)
	}
	l.docker(t, "restart", "-t", "1", "web")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	// It is not there any more for a start of the daemon to find.
	l.docker(t, "rm", "-f", "web")
	mustNotFetch(t, l.far, bracket(address))
}

// testWholePrefix: containers share the link's own prefixes with the host and its router.
func testWholePrefix(t *testing.T, l *lab, mode string) {
	serveClientAddress(t, l.far)
	l.network(t, "net", "--subnet", linkPrefix, "--gateway", upIPv6, "--subnet", "198.51.100.0/24", "--gateway", upIPv4, "-o", "mode="+mode, "-o", "parent=eth0")
	for i := range 2 {
		l.container(t, fmt.Sprint("web", i), "--network", "net")
	}
	for i := range 2 {
		name := fmt.Sprint("web", i)
		address6, address4 := l.ipv6(t, name, "net"), l.ipv4(t, name, "net")
		for _, a := range []string{hostIPv6, upIPv6, hostIPv4, upIPv4} {
			if address6 == a || address4 == a {
				t.Errorf("%s has %s, which is somebody else's", name, a)
			}
		}
		for target, want := range map[string]string{bracket(farIPv6): address6, farIPv4: address4} {
			if got, err := l.fetchIn(t, name, target); err != nil || got != want {
				t.Errorf("%s sees the client %q (%v), want %s", target, got, err, want)
			}
		}
		mustFetch(t, l.far, bracket(address6))
		mustFetch(t, l.far, address4)
	}
}

func testMacvlanPrivate(t *testing.T, l *lab) {
	l.network(t, "net", "-o", "mode=macvlan", "-o", "macvlan_mode=private")
	l.container(t, "web", "--network", "net")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	l.mustNotFetchIn(t, "other", bracket(address))
}

// cable is a second parent: eth1 of the host, on which the host itself takes no
// part, to lan1 of the router, until the end of the test.
func (l *lab) cable(t *testing.T) {
	t.Helper()
	testnet.Connect(t, l.host, "eth1", l.up, "lan1")
	l.host.Sysctl(t, "net/ipv6/conf/eth1/accept_ra", "0")
	l.up.AddAddress(t, "2001:db8:3::1/64", "lan1")
	l.up.Run(t, "sysctl", "-qw", "net.ipv6.conf.lan1.forwarding=1")
}

// testVEPA: what containers send each other goes out to the switch (IEEE 802.1Qbg),
// so that they reach each other where that sends it back, and only there.
func testVEPA(t *testing.T, l *lab, options ...string) {
	testnet.Connect(t, l.host, "eth1", l.up, "port1")
	l.host.Sysctl(t, "net/ipv6/conf/eth1/accept_ra", "0")
	for _, command := range []string{"link add lan1 type bridge", "link set port1 master lan1", "link set lan1 up"} {
		l.up.Run(t, append([]string{"ip"}, strings.Fields(command)...)...)
	}
	t.Cleanup(func() { _ = l.up.Command(context.Background(), "ip", "link", "del", "lan1").Run() })
	l.up.AddAddress(t, "2001:db8:3::1/64", "lan1")
	l.up.Run(t, "sysctl", "-qw", "net.ipv6.conf.lan1.forwarding=1")

	args := []string{"--subnet", "2001:db8:3::/64", "--gateway", "2001:db8:3::1", "-o", "parent=eth1"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	l.network(t, "net", args...)
	l.container(t, "web", "--network", "net")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	l.mustNotFetchIn(t, "other", bracket(address))
	l.up.Run(t, "bridge", "link", "set", "dev", "port1", "hairpin", "on")
	testnet.Eventually(t, 5*fetchTimeout, "a container is reached by way of a switch that reflects", func() bool {
		_, err := l.fetchIn(t, "other", bracket(address))
		return err == nil
	})
}

func testMacvlanPassthru(t *testing.T, l *lab) {
	l.cable(t)
	l.network(t, "net", "--subnet", "2001:db8:3::/64", "--gateway", "2001:db8:3::1", "-o", "mode=macvlan", "-o", "macvlan_mode=passthru", "-o", "parent=eth1")
	mac := macOn(t, l.host, "eth1")
	l.container(t, "web", "--network", "net")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	if got := l.macOf(t, "web"); got != mac {
		t.Errorf("the container has %s, want the parent's own %s", got, mac)
	}
	out, err := l.cli.Try(t.Context(), "run", "-d", "--name", "second", "--network", "net", l.image)
	if err == nil || !strings.Contains(out, "alone") {
		t.Errorf("second container: %v, want an error that says the parent is the first one's alone", err)
	}
	l.discard(t, "rm", "-f", "second")
}

// testInternalOnParent: an internal network has no parent, no way out and no way in.
func testInternalOnParent(t *testing.T, l *lab, mode string) {
	l.network(t, "net", "--internal", "--ipam-opt", "source=ula", "-o", "mode="+mode)
	l.container(t, "web", "--network", "net")
	l.container(t, "other", "--network", "net")
	if _, err := l.fetchIn(t, "other", bracket(l.ipv6(t, "web", "net"))); err != nil {
		t.Errorf("containers of one network: %v", err)
	}
	for _, family := range []string{"-4", "-6"} {
		if route := l.in(t, "web", "ip", family, "route", "show", "default"); route != "" {
			t.Errorf("internal network has a default route: %s", route)
		}
	}
	mustNotFetch(t, l.host, bracket(l.ipv6(t, "web", "net")))
}

// testHostAccess: host and containers reach each other by the host's own link,
// which is there no longer than the containers are.
func testHostAccess(t *testing.T, l *lab, options ...string) {
	serveClientAddress(t, l.host)
	args := []string{"--ipam-opt", "source=parent", "-o", "host_access=on"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	l.network(t, "net", args...)
	before := hostState(t, l.host)
	l.container(t, "web", "--network", "net")
	l.container(t, "other", "--network", "net")
	address, host := l.ipv6(t, "web", "net"), l.subnet(t, "net").Host.String()
	mustFetch(t, l.host, bracket(address))
	mustFetch(t, l.far, bracket(address))
	for _, name := range []string{"web", "other"} {
		if got, err := l.fetchIn(t, name, bracket(host)); err != nil || got != l.ipv6(t, name, "net") {
			t.Errorf("the host sees %s as %q (%v), want %s", name, got, err, l.ipv6(t, name, "net"))
		}
	}
	mustFetch(t, l.host, l.ipv4(t, "web", "net"))
	mustAnswerAlone(t, l.up, hostIPv4, macOn(t, l.host, "eth0"))
	l.docker(t, "rm", "-f", "web")
	mustNotFetch(t, l.host, bracket(address))
	mustFetch(t, l.host, bracket(l.ipv6(t, "other", "net")))
	l.docker(t, "rm", "-f", "other")
	mustEqual(t, "after the last container", before, hostState(t, l.host))
}

// mustAnswerAlone checks that ARP has one answer on the link for an address, and
// that by mac. A second one would make hosts go back and forth.
func mustAnswerAlone(t *testing.T, from *testnet.Host, address, mac string) {
	t.Helper()
	const requests = 3
	out := from.Run(t, "busybox", "arping", "-c", fmt.Sprint(requests), "-I", "lan0", address)
	if all, by := strings.Count(out, "reply from"), strings.Count(out, mac); all == 0 || by != all || all > requests {
		t.Errorf("%s does not answer alone for %s:\n%s", mac, address, out)
	}
}

// advertise has the router say on lan1 that hosts make addresses of a prefix.
func (l *lab) advertise(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "radvd.conf")
	text := "interface lan1 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix 2001:db8:3::/64 { }; };\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	radvd := l.up.Command(context.Background(), "radvd", "--nodaemon", "-C", config, "-p", filepath.Join(dir, "pid"))
	if err := radvd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = radvd.Process.Kill()
		_ = radvd.Wait()
	})
}

// testAdvertisementsOnParent: whether containers listen to the link's router is
// the user's choice. Left to v6net they do not, and have its address all the same.
func testAdvertisementsOnParent(t *testing.T, l *lab, mode string) {
	if _, err := exec.LookPath("radvd"); err != nil {
		t.Fatal(err)
	}
	l.cable(t)
	l.advertise(t)
	for _, tc := range []struct {
		ra    string
		slaac bool
	}{{"auto", false}, {"off", false}, {"on", true}} {
		t.Run("ra="+tc.ra, func(t *testing.T) {
			l.network(t, "net", "--subnet", "2001:db8:3::/64", "-o", "mode="+mode, "-o", "parent=eth1", "-o", "ra="+tc.ra)
			l.awaitRouter(t, "eth1")
			l.container(t, "web", "--network", "net")
			local := strings.Fields(l.up.Run(t, "ip", "-brief", "-6", "address", "show", "dev", "lan1", "scope", "link"))[2]
			local, _, _ = strings.Cut(local, "/")
			global := func() int {
				return strings.Count(l.in(t, "web", "ip", "-6", "-oneline", "address", "show", "dev", "eth0", "scope", "global"), "inet6")
			}
			if tc.slaac {
				for deadline := time.Now().Add(longest); global() < 2; time.Sleep(100 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("no address by SLAAC:\n%s", l.routing(t, "web"))
					}
				}
			} else {
				// A router answers whoever asks; the advertisement is for all.
				if out, err := l.up.Command(t.Context(), "rdisc6", "-1", "-w", "5000", "lan1").CombinedOutput(); err == nil {
					t.Logf("%s", out)
				}
				l.host.Run(t, "rdisc6", "-1", "-w", "5000", "eth1")
				if global() != 1 {
					t.Errorf("the container took an advertisement:\n%s", l.routing(t, "web"))
				}
			}
			if route := l.in(t, "web", "ip", "-6", "route", "show", "default"); !strings.Contains(route, "via "+local+" dev eth0") || strings.Contains(route, "\n") {
				t.Errorf("default route %q, want one by %s", route, local)
			}
			mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
		})
	}
}

// awaitRouter waits until v6net has heard a router on a parent.
func (l *lab) awaitRouter(t *testing.T, parent string) {
	t.Helper()
	for deadline := time.Now().Add(longest); ; time.Sleep(100 * time.Millisecond) {
		for _, p := range l.status(t).Parents {
			if p.Link == parent && len(p.Routers) > 0 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("v6net hears no router on %s:\n%s", parent, l.v6net(t, "status"))
		}
	}
}

// A container on a bridge and on a parent has one default route, by the network
// that the engine chose, whatever the link's router advertises.
func testMacvlanBesideBridge(t *testing.T, l *lab) {
	l.route(t, routed)
	l.network(t, "net-a", "--subnet", "2001:db8:2:1::/64")
	l.network(t, "net-b", "-o", "mode=macvlan")
	l.container(t, "web", "--network", "net-b")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net-b")))
	for _, step := range []string{"connect", "disconnect", "connect"} {
		l.docker(t, "network", step, "net-a", "web")
		gateway := map[string]string{"connect": "net-a", "disconnect": "net-b"}[step]
		dev := l.linkWith(t, "web", l.ipv6(t, "web", gateway))
		if route := l.in(t, "web", "ip", "-6", "route", "show", "default"); !strings.Contains(route+" ", "dev "+dev+" ") || strings.Contains(route, "\n") {
			t.Errorf("after %s the default route is %q, want one on %s", step, route, dev)
		}
	}
	l.docker(t, "network", "disconnect", "-f", "net-b", "web")
	if out := l.in(t, "web", "ip", "-brief", "link"); strings.Count(out, "eth") != 1 {
		t.Errorf("a container that was disconnected has\n%s", out)
	}
}

// has reports whether the kernel knows a kind of link, without v6net's help.
func has(t *testing.T, h *testnet.Host, kind ...string) bool {
	t.Helper()
	args := append([]string{"ip", "link", "add", "link", "eth0", "name", "try", "type"}, kind...)
	if h.Command(t.Context(), args...).Run() != nil {
		return false
	}
	h.Run(t, "ip", "link", "del", "try")
	return true
}

// testVLANOnParent: a VLAN sub-interface is made with the network and goes with
// it; a kernel that has none is named as the reason.
func testVLANOnParent(t *testing.T, l *lab) {
	args := []string{"--subnet", "2001:db8:50::/64", "--gateway", "2001:db8:50::1", "-o", "mode=macvlan", "-o", "parent=eth0.50"}
	if !has(t, l.host, "vlan", "id", "99") {
		if out := l.refused(t, args...); !strings.Contains(out, "modprobe 8021q") {
			t.Errorf("on a kernel without VLANs: %s", out)
		}
		return
	}
	l.up.Run(t, "ip", "link", "add", "link", "lan0", "name", "lan0.50", "type", "vlan", "id", "50")
	t.Cleanup(func() { _ = l.up.Command(context.Background(), "ip", "link", "del", "lan0.50").Run() })
	l.up.Run(t, "ip", "link", "set", "lan0.50", "up")
	l.up.AddAddress(t, "2001:db8:50::1/64", "lan0.50")
	l.network(t, "net", args...)
	l.container(t, "web", "--network", "net")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	if out := l.host.Run(t, "ip", "-brief", "address", "show", "dev", "eth0.50"); strings.Contains(out, "2001:") {
		t.Errorf("the host has an address on the VLAN: %s", out)
	}
}
