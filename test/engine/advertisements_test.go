//go:build engine

package engine_test

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// Router advertisements give containers what they have not, and take nothing
// from them: one default route, by the network that the engine chose, and one
// address, the engine's.
func testAdvertisements(t *testing.T, l *lab) {
	l.route(t, routed)
	serveClientAddress(t, l.far)
	for _, tc := range []struct {
		name string
		test func(t *testing.T, l *lab)
	}{
		{"auto", testAdvertisedAuto},
		{"upstream", testAdvertisedUpstream},
		{"several networks", testAdvertisedSeveral},
		{"SLAAC", testAdvertisedSLAAC},
		{"nested host", testAdvertisedOn},
		{"off", testAdvertisedOff},
		{"announced routes", testAnnouncedRoutes},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, l) })
	}
}

// solicited is what a container is told when it asks.
func (l *lab) solicited(t *testing.T, container string) string {
	t.Helper()
	return l.in(t, container, "rdisc6", "-1", "-w", "3000", "eth0")
}

// routing is what a container has, as the kernel prints it, without what runs out.
func (l *lab) routing(t *testing.T, container string) string {
	t.Helper()
	return l.in(t, container, "ip", "-6", "route") + "\n" + l.in(t, container, "ip", "-6", "-oneline", "address", "show", "scope", "global")
}

func testAdvertisedAuto(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "-o", "ra.dns=2001:db8:2:1::53", "-o", "ra.search=example.org")
	l.container(t, "web", "--network", "net", "-p", "80")
	before := l.routing(t, "web")
	out := l.solicited(t, "web")
	for _, want := range []string{"Router lifetime           :            0", "Autonomous address conf.:           No", "2001:db8:2:1::/64", "1500 bytes", "2001:db8:2:1::53", "example.org"} {
		if !strings.Contains(out, want) {
			t.Errorf("rdisc6 in the container does not say %q:\n%s", want, out)
		}
	}
	if after := l.routing(t, "web"); after != before {
		t.Errorf("after an advertisement the container has\n%s\nbefore it had\n%s", after, before)
	}
	l.docker(t, "restart", "-t", "1", "web")
	l.solicited(t, "web")
	if got := strings.Count(l.routing(t, "web"), "default"); got != 1 {
		t.Errorf("after a restart the container has %d default routes:\n%s", got, l.routing(t, "web"))
	}
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))

	status := l.v6net(t, "status")
	for _, want := range []string{"advertises  no default router", "prefix 2001:db8:2:1::/64, on-link (L), valid 1h30m0s", "DNS server 2001:db8:2:1::53", "PARENT eth0"} {
		if !strings.Contains(strings.Join(strings.Fields(status), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("v6net status does not say %q:\n%s", want, status)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watching := l.host.Command(ctx, program(t), "ra", "watch", l.bridge(t, "net"))
	watched, err := watching.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watching.Start(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan bool, 1)
	go func() {
		defer close(heard)
		for s := bufio.NewScanner(watched); s.Scan(); {
			if strings.Contains(s.Text(), "no default router, hop limit 64, MTU 1500") {
				heard <- true
				return
			}
		}
	}()
	eventually(t, "v6net ra watch's line of an advertisement", func() bool {
		l.solicited(t, "web")
		select {
		case said := <-heard:
			return said
		case <-time.After(300 * time.Millisecond):
			return false
		}
	})
	cancel()
	_ = watching.Wait()
}

// What the parent's router says of DNS and NAT64 reaches containers, and goes when
// it takes that back.
func testAdvertisedUpstream(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64")
	l.container(t, "web", "--network", "net")
	before := l.routing(t, "web")
	config := filepath.Join(t.TempDir(), "radvd.conf")
	err := os.WriteFile(config, []byte(`interface lan0 {
		AdvSendAdvert on;
		MinRtrAdvInterval 3;
		MaxRtrAdvInterval 4;
		AdvDefaultLifetime 1800;
		AdvDefaultPreference low;
		RDNSS 2001:db8:1::53 fe80::53 { AdvRDNSSLifetime 1200; };
		DNSSL up.example { AdvDNSSLLifetime 1200; };
	};`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	radvd := l.up.Command(t.Context(), "radvd", "-C", config, "-n", "-m", "stderr", "-u", "root", "-p", config+".pid")
	if err := radvd.Start(); err != nil {
		t.Fatal(err)
	}
	says := func(want string) {
		t.Helper()
		var out string
		for range 20 {
			if out = strings.Join(strings.Fields(l.solicited(t, "web")), " "); strings.Contains(out, want) {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
		t.Errorf("the container is told %s, want %q", out, want)
	}
	says("2001:db8:1::53")
	if out := l.solicited(t, "web"); !strings.Contains(out, "up.example") || strings.Contains(out, "fe80::53") {
		t.Errorf("the container is told\n%s\nwant the search domain, and no server of another link", out)
	}
	if after := l.routing(t, "web"); after != before {
		t.Errorf("after that the container has\n%s\nbefore it had\n%s", after, before)
	}
	_ = radvd.Process.Signal(syscall.SIGTERM) // its farewell: no default router, no DNS server
	_ = radvd.Wait()
	says("DNS server lifetime : 0 ")
}

// bridge is the name of a network's bridge.
func (l *lab) bridge(t *testing.T, network string) string {
	t.Helper()
	return "v6n" + l.networkID(t, network)[:12]
}

// A network that is not the container's way out stays so, and becomes it without
// a quarrel when the engine wants that: an advertised route would be in its way.
func testAdvertisedSeveral(t *testing.T, l *lab) {
	l.network(t, "net-a", "--subnet", "2001:db8:2:1::/64")
	l.network(t, "net-b", "--subnet", "2001:db8:2:2::/64")
	l.container(t, "web", "--network", "net-a")
	l.docker(t, "network", "connect", "net-b", "web")
	l.in(t, "web", "rdisc6", "-1", "-w", "3000", "eth0")
	l.in(t, "web", "rdisc6", "-1", "-w", "3000", "eth1")
	if got := l.in(t, "web", "ip", "-6", "route", "show", "default"); strings.Count(got, "default") != 1 || !strings.Contains(got, "dev eth0") {
		t.Errorf("default routes %q, want one by net-a", got)
	}
	l.docker(t, "network", "disconnect", "net-a", "web")
	if got := l.in(t, "web", "ip", "-6", "route", "show", "default"); strings.Count(got, "default") != 1 || !strings.Contains(got, "dev eth1") {
		t.Errorf("default routes %q, want one by net-b", got)
	}
	if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != l.ipv6(t, "web", "net-b") {
		t.Errorf("far sees the client %q (%v), want the address of net-b", got, err)
	}
}

// Who asks for SLAAC gets it, beside the engine's address.
func testAdvertisedSLAAC(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "-o", "ra.autonomous=on", "-o", "inbound=open")
	l.container(t, "web", "--network", "net")
	assigned := l.ipv6(t, "web", "net")
	l.solicited(t, "web")
	var all []string
	for range 100 {
		all = nil
		for _, line := range strings.Split(l.in(t, "web", "ip", "-6", "-oneline", "address", "show", "dev", "eth0", "scope", "global"), "\n") {
			address, _, _ := strings.Cut(strings.Fields(line)[3], "/")
			if address != assigned && !strings.Contains(line, "tentative") {
				all = append(all, address)
			}
		}
		if len(all) > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(all) != 1 || !strings.HasPrefix(all[0], "2001:db8:2:1:") {
		t.Fatalf("the container made %q of the prefix, want one address", all)
	}
	mustFetch(t, l.far, bracket(assigned))
	mustFetch(t, l.far, bracket(all[0]))
}

// A host inside a container's link, such as a virtual machine, has nothing but
// advertisements. ra=on gives it the way out, too.
func testAdvertisedOn(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "-o", "ra=on", "-o", "ra.autonomous=on")
	guest := l.guest(t, l.bridge(t, "net"))
	for _, want := range []string{"default via fe80::1", "proto ra", "pref low", "2001:db8:2:1::/64"} {
		if got := guest.Run(t, "ip", "-6", "route"); !strings.Contains(got, want) {
			t.Errorf("the guest's routes do not have %q:\n%s", want, got)
		}
	}
	guest.Run(t, "ping", "-c", "1", "-W", "2", farIPv6)
	// Containers of the network keep the engine's route, at whatever time they come.
	l.container(t, "web", "--network", "net", "-p", "80")
	l.solicited(t, "web")
	if got := l.in(t, "web", "ip", "-6", "route", "show", "default"); strings.Count(got, "default") != 1 || strings.Contains(got, "proto ra") {
		t.Errorf("default routes %q, want the engine's alone", got)
	}
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
}

// guest plugs a host without any configuration into a bridge, until the end of the test.
func (l *lab) guest(t *testing.T, bridge string) *testnet.Host {
	t.Helper()
	guest := testnet.New(t, "guest")
	testnet.Connect(t, l.host, "guest0", guest, "eth0")
	guest.Sysctl(t, "net/ipv6/conf/eth0/forwarding", "0") // namespaces may take it over from the host
	guest.Sysctl(t, "net/ipv6/conf/eth0/accept_ra", "1")
	l.host.Run(t, "ip", "link", "set", "guest0", "master", bridge)
	for range 200 {
		if strings.Contains(guest.Run(t, "ip", "-6", "route", "show", "default"), "proto ra") &&
			strings.Contains(guest.Run(t, "ip", "-6", "address", "show", "scope", "global", "-tentative"), "inet6") {
			return guest
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no default route and address by advertisement:\n%s", guest.Run(t, "ip", "-6", "address"))
	return nil
}

func testAdvertisedOff(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "-o", "ra=off")
	l.container(t, "web", "--network", "net")
	if out, err := l.try(t, "web", "rdisc6", "-1", "-w", "1000", "-r", "1", "eth0"); err == nil {
		t.Errorf("ra=off: a router advertises itself:\n%s", out)
	}
}

// Machines on the parent link that take route information reach containers
// without a route of their own. It goes with the network.
func testAnnouncedRoutes(t *testing.T, l *lab) {
	l.up.Run(t, "ip", "route", "del", routed, "via", hostIPv6)
	defer l.up.Run(t, "ip", "route", "add", routed, "via", hostIPv6)
	for key, value := range map[string]string{"accept_ra": "2", "accept_ra_rt_info_max_plen": "64"} {
		l.up.Sysctl(t, "net/ipv6/conf/lan0/"+key, value)
	}
	defer l.up.Sysctl(t, "net/ipv6/conf/lan0/accept_ra", "0")
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "-o", "ra.announce=on")
	l.container(t, "web", "--network", "net", "-p", "80")
	route := func() string { return l.up.Run(t, "ip", "-6", "route", "show", "2001:db8:2:1::/64") }
	for range 400 { // others are listened for at first
		if route() != "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := route(); !strings.Contains(got, "via fe80::") || !strings.Contains(got, "dev lan0") {
		t.Fatalf("the neighbour has the route %q, want one by the host", got)
	}
	mustFetch(t, l.up, bracket(l.ipv6(t, "web", "net")))
	if got := l.up.Run(t, "ip", "-6", "route", "show", "default"); got != "" {
		t.Errorf("the neighbour took the host for a default router: %s", got)
	}
	l.docker(t, "rm", "-f", "web")
	l.docker(t, "network", "rm", "net")
	for range 100 {
		if route() == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("the network is gone, and the neighbour has still %q", route())
}
