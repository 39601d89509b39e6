//go:build engine

package engine_test

import (
	"strings"
	"testing"
)

// Podman on macvlan; on ipvlan where the kernel has that, which is in the VM.
func testPodmanOnParent(t *testing.T, l *lab, _ *podmanDaemon) {
	modes := []string{"macvlan"}
	if has(t, l.host, "ipvlan", "mode", "l2") {
		modes = append(modes, "ipvlan")
	}
	for _, mode := range modes {
		for _, part := range []struct {
			name string
			test func(t *testing.T, l *lab)
		}{
			{"no option", func(t *testing.T, l *lab) { testOnParent(t, l, mode) }},
			{"interface name", func(t *testing.T, l *lab) { testPodmanParentByName(t, l, mode) }},
			{"reload", func(t *testing.T, l *lab) { testPodmanReloadOn(t, l, "-o", "mode="+mode) }},
			{"renumbered", func(t *testing.T, l *lab) { testPodmanRenumbered(t, l, mode) }},
			{"made again", func(t *testing.T, l *lab) { testPodmanMadeAgain(t, l, "-o", "mode="+mode) }},
			{"no word of the end", func(t *testing.T, l *lab) { testPodmanNoWord(t, l, mode) }},
		} {
			l.traceless(t, mode+", "+part.name, func(t *testing.T) { part.test(t, l) })
		}
	}
	if len(modes) > 1 {
		l.traceless(t, "ipvlan l3", func(t *testing.T) { testPodmanL3(t, l) })
		l.traceless(t, "ipvlan l3, reload", func(t *testing.T) { testPodmanReloadOn(t, l, "-o", "mode=ipvlan", "-o", "ipvlan_mode=l3") })
	}
}

// testPodmanParentByName: --interface-name is the parent, as with Podman's own drivers.
func testPodmanParentByName(t *testing.T, l *lab, mode string) {
	l.cable(t)
	l.network(t, "net", "--subnet", "2001:db8:3::/64", "--gateway", "2001:db8:3::1", "--interface-name", "eth1", "-o", "mode="+mode, "-o", "ra=off")
	l.container(t, "web", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	if status := l.v6net(t, "status"); !strings.Contains(status, "on eth1") {
		t.Errorf("v6net status does not show eth1 as the parent:\n%s", status)
	}
	out, err := l.cli.Try(t.Context(), "network", "create", "-d", "v6net", "--interface-name", "eth1", "-o", "parent=eth0", "-o", "mode="+mode, "refused")
	if err == nil || !strings.Contains(out, "option parent=eth0 and --interface-name eth1: only one can be meant") {
		t.Errorf("two parents: %v: %s", err, out)
	}
}

// testPodmanRenumbered: who is on the link itself, and who is behind the host on a part of its
// prefix, follow it.
func testPodmanRenumbered(t *testing.T, l *lab, mode string) {
	serveClientAddress(t, l.far)
	former := map[string]string{}
	for name, options := range map[string][]string{"beside": {"-o", "mode=" + mode}, "behind": {"-o", "inbound=open"}} {
		l.network(t, name, append(options, "-o", "source=parent")...)
		l.containerWith(t, name, echoCommand, "--network", name)
		former[name] = l.ipv6(t, name, name)
	}
	l.renumberLink(t, former)
	l.mustHaveNoNotes(t)
}

// testPodmanMadeAgain: a network that the daemon has forgotten comes back from
// Podman's file as it was, though Podman has filled in gateways there.
func testPodmanMadeAgain(t *testing.T, l *lab, options ...string) {
	l.network(t, "net", options...)
	routes := func() string {
		l.container(t, "web", "--network", "net", "-p", "80:80")
		mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
		out := l.in(t, "web", "sh", "-c", "ip -4 route show default; ip -6 route show default")
		l.docker(t, "rm", "-f", "-t", "0", "web")
		return out
	}
	before := routes()
	l.v6net(t, "forget", l.networkID(t, "net"))
	if after := routes(); after != before {
		t.Errorf("the container's default routes are\n%s\nbefore it was forgotten they were\n%s", after, before)
	}
}

// testPodmanNoWord: a container of whose end the plugin is not told is gone all the
// same, when its network namespace is.
func testPodmanNoWord(t *testing.T, l *lab, mode string) {
	const plugin = "/usr/lib/netavark/v6net"
	l.network(t, "net", "-o", "mode="+mode)
	l.container(t, "web", "--network", "net")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	move := func(from, to string) {
		t.Helper()
		if out, err := l.podman.Run(t.Context(), "/", "mv", from, to); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	move(plugin, plugin+".away")
	_, _ = l.cli.Try(t.Context(), "rm", "-f", "-t", "0", "web") // complains, or does not
	move(plugin+".away", plugin)
	eventually(t, "the end of the endpoint", func() bool { return len(l.status(t).Networks[0].Endpoints) == 1 })
	mustFetch(t, l.far, bracket(l.ipv6(t, "other", "net")))
	mustNotFetch(t, l.far, bracket(address))
	l.container(t, "again", "--network", "net", "--ip6", address) // it is free
	mustFetch(t, l.far, bracket(address))
}

// testPodmanL3: the default routes of networks without a next hop stand beside each
// other, and the next one takes over.
func testPodmanL3(t *testing.T, l *lab) {
	for _, name := range []string{"net-a", "net-b"} {
		l.network(t, name, "-o", "mode=ipvlan", "-o", "ipvlan_mode=l3")
	}
	l.container(t, "web", "--network", "net-a:interface_name=eth0", "--network", "net-b:interface_name=eth1")
	by := func(link string) {
		t.Helper()
		if route := l.in(t, "web", "ip", "-6", "route", "get", farIPv6); !strings.Contains(route, "dev "+link+" ") {
			t.Errorf("the way out is %q, want one by %s", route, link)
		}
	}
	by("eth0")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net-a")))
	l.docker(t, "network", "disconnect", "net-a", "web")
	by("eth1")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net-b")))
}
