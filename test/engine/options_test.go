//go:build engine

package engine_test

import (
	"strings"
	"testing"
)

// Options of a network do what docs/options.md says. The prefixes are routed to
// the host, so that only the host decides who gets where.
func testOptions(t *testing.T, l *lab) {
	serveClientAddress(t, l.far)
	l.route(t, routed)
	for _, tc := range []struct {
		name    string
		test    func(t *testing.T, l *lab)
		dockers bool // and not Podman's
	}{
		{"links", testLinkOptions, true},
		{"static addresses", testStaticAddresses, false},
		{"Docker's own IPAM", testDefaultIPAM, true},
		{"internal", testInternal, false},
		{"enable_icc=false", testNoICC, false},
		{"inbound", testInbound, false},
		{"isolate", testIsolate, false},
	} {
		if l.podman != nil && tc.dockers {
			continue // the engine has no such thing
		}
		t.Run(tc.name, func(t *testing.T) { tc.test(t, l) })
	}
}

func testLinkOptions(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "--subnet", "10.80.0.0/24",
		"-o", "com.docker.network.driver.mtu=1400",
		"-o", "com.docker.network.container_iface_prefix=lan",
		"-o", "com.docker.network.bridge.name=br-web",
		"-o", "com.docker.network.bridge.inhibit_ipv4=true")
	l.container(t, "web", "--network", "net", "-p", "80")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	if got := l.in(t, "web", "ip", "link", "show", "dev", "lan0"); !strings.Contains(got, "mtu 1400") {
		t.Errorf("mtu and container_iface_prefix: the container's link is %q", got)
	}
	if got := l.host.Run(t, "ip", "link", "show", "type", "bridge", "dev", "br-web"); !strings.Contains(got, "mtu 1400") {
		t.Errorf("mtu and bridge.name: the bridge is %q", got)
	}
	if got := l.host.Run(t, "ip", "-4", "address", "show", "dev", "br-web"); got != "" {
		t.Errorf("inhibit_ipv4: the bridge has %q", got)
	}
	// Another router is to have it.
	if got, want := l.in(t, "web", "ip", "-4", "route", "show", "default"), "default via 10.80.0.1 dev lan0"; got != want {
		t.Errorf("inhibit_ipv4: the container has the default route %q, want %q", got, want)
	}
}

func testStaticAddresses(t *testing.T, l *lab) {
	const mac, ipv4, ipv6 = "02:00:5e:10:00:01", "10.77.0.77", "2001:db8:2:1::77"
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "--subnet", "10.77.0.0/24", "--gateway", "2001:db8:2:1::fe", "--gateway", "10.77.0.254")
	l.container(t, "web", "--network", "net", "--mac-address", mac, "--ip", ipv4, "--ip6", ipv6, "-p", "8080:80")
	mustFetch(t, l.far, bracket(ipv6))
	mustFetch(t, l.far, hostIPv4+":8080")
	link := l.in(t, "web", "ip", "address", "show", "dev", "eth0")
	for _, want := range []string{mac, ipv4 + "/24", ipv6 + "/64"} {
		if !strings.Contains(link, want) {
			t.Errorf("the container does not have %s:\n%s", want, link)
		}
	}
	bridge := l.host.Run(t, "ip", "address", "show", "to", "10.77.0.254")
	if !strings.Contains(bridge, "10.77.0.254/24") {
		t.Error("the gateway that the user named is not on the bridge")
	}
}

// v6net makes networks of prefixes that another IPAM driver chose.
func testDefaultIPAM(t *testing.T, l *lab) {
	l.anyNetwork(t, "net", "-d", pluginName, "--ipv6", "--subnet", "2001:db8:2:1::/64", "--subnet", "10.78.0.0/24")
	l.container(t, "web", "--network", "net", "-p", "8080:80")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	mustFetch(t, l.far, hostIPv4+":8080")
}

func testInternal(t *testing.T, l *lab) {
	l.network(t, "net", "--internal", "--subnet", "2001:db8:2:1::/64")
	l.container(t, "web", "--network", "net", "-p", "8080:80")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	if _, err := l.fetchIn(t, "other", bracket(address)); err != nil {
		t.Errorf("containers of an internal network: %v", err)
	}
	for _, family := range []string{"-4", "-6"} {
		if route := l.in(t, "web", "ip", family, "route", "show", "default"); route != "" {
			t.Errorf("internal network has a default route: %s", route)
		}
	}
	mustNotFetch(t, l.far, bracket(address), hostIPv4+":8080")
	// Not by a route of its own either.
	l.docker(t, "run", "--rm", "--network", "net", "--cap-add", "NET_ADMIN", l.image, "sh", "-c",
		"ip -6 route add default via "+l.subnet(t, "net").Gateway.String()+" && ! wget -q -T 1 -O - http://"+bracket(farIPv6)+"/")
}

func testNoICC(t *testing.T, l *lab) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "-o", "com.docker.network.bridge.enable_icc=false")
	l.container(t, "web", "--network", "net", "-p", "80")
	l.container(t, "other", "--network", "net")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	l.mustNotFetchIn(t, "other", bracket(l.ipv6(t, "web", "net")), l.ipv4(t, "web", "net"))
	if _, err := l.fetchIn(t, "other", bracket(farIPv6)); err != nil {
		t.Errorf("to the outside: %v", err)
	}
}

func testInbound(t *testing.T, l *lab) {
	l.network(t, "open", "--subnet", "2001:db8:2:1::/64", "-o", "inbound=open")
	l.network(t, "egress", "--subnet", "2001:db8:2:2::/64", "-o", "inbound=none")
	l.container(t, "open", "--network", "open")
	l.container(t, "egress", "--network", "egress")
	mustFetch(t, l.far, bracket(l.ipv6(t, "open", "open")))
	l.far.Run(t, "ping", "-c", "1", "-W", "1", l.ipv6(t, "open", "open"))

	hidden := l.ipv6(t, "egress", "egress")
	mustFetch(t, l.host, bracket(hidden)) // it is there
	mustNotFetch(t, l.far, bracket(hidden))
	if l.far.Command(t.Context(), "ping", "-c", "1", "-W", "1", hidden).Run() == nil {
		t.Error("inbound=none: a ping from outside is answered")
	}
	for _, target := range []string{bracket(farIPv6), farIPv4} {
		if _, err := l.fetchIn(t, "egress", target); err != nil {
			t.Errorf("inbound=none: to the outside: %v", err)
		}
	}
}

func testIsolate(t *testing.T, l *lab) {
	for i, name := range []string{"closed", "free1", "free2"} {
		args := []string{"--subnet", "2001:db8:2:" + string('1'+rune(i)) + "::/64"}
		if name != "closed" {
			args = append(args, "-o", "isolate=off")
		}
		l.network(t, name, args...)
		l.container(t, name, "--network", name)
		mustFetch(t, l.host, bracket(l.ipv6(t, name, name)))
	}
	address := func(name string) string { return bracket(l.ipv6(t, name, name)) }
	if _, err := l.fetchIn(t, "free1", address("free2")); err != nil {
		t.Errorf("isolate=off on both: %v", err)
	}
	l.mustNotFetchIn(t, "free1", address("closed"), l.ipv4(t, "closed", "closed"))
	l.mustNotFetchIn(t, "closed", address("free1"), l.ipv4(t, "free1", "free1"))

	l.container(t, "published", "--network", "closed", "-p", "80")
	if _, err := l.fetchIn(t, "free1", bracket(l.ipv6(t, "published", "closed"))); err != nil {
		t.Errorf("a published port is for everyone: %v", err)
	}
}
