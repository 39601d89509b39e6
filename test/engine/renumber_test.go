//go:build engine

package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testengine"
)

// What the lab's provider lends at first, and then.
const (
	firstLent = "2001:db8:a000::/48"
	nextLent  = "2001:db8:b000::/48"
)

// A container on a delegated prefix is reached from outside; the provider lends
// another one, and the container has that, too, without a restart. Who talks to it
// by the former one goes on.
func TestRenumber(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		testRenumber(t, l)
		// A container that starts now has an address that the engine knows, too.
		l.docker(t, "restart", "-t", "0", "web")
		if got := l.ipv6(t, "web", "net"); !netip.MustParsePrefix(nextLent).Contains(netip.MustParseAddr(got)) {
			t.Errorf("after its restart the engine takes the container to be at %s, want an address of %s", got, nextLent)
		} else {
			mustFetch(t, l.far, bracket(got))
		}
		l.docker(t, "rm", "-f", "web")
		l.docker(t, "network", "rm", "net")
		status := l.status(t)
		if left := journalState(status); len(left) > 0 {
			t.Errorf("left in the journal: %q", left)
		}
		eventually(t, "the delegation is given back", func() bool { return len(l.status(t).Delegations) == 0 })
		if routes := l.host.Run(t, "ip", "-6", "route", "show", "type", "unreachable"); strings.Contains(routes, "2001:db8:") {
			t.Errorf("left: %s", routes)
		}
	})
}

// testRenumber leaves network net with container web on it.
func testRenumber(t *testing.T, l *lab) {
	l.route(t, firstLent)
	l.route(t, nextLent)
	stop := l.delegate(t, firstLent)
	l.network(t, "net", "--ipam-opt", "source=pd")
	l.containerWith(t, "web", echoCommand, "--network", "net", "-p", "80:80", "-p", "7:7")
	former := l.ipv6(t, "web", "net")
	if subnet := l.subnet(t, "net"); subnet.Source != "pd" || !netip.MustParsePrefix(firstLent).Contains(netip.MustParseAddr(former)) {
		t.Fatalf("the container has %s of %s from source %s, want an address of %s", former, subnet.Prefix, subnet.Source, firstLent)
	}
	mustFetch(t, l.far, bracket(former))
	talk := converse(t, l.far, bracket(former)+":7")

	stop()
	l.delegate(t, nextLent)
	began := time.Now()
	current := ""
	eventually(t, "an address of the next prefix", func() bool {
		for line := range strings.Lines(l.v6net(t, "hosts")) {
			if a, err := netip.ParseAddr(strings.Fields(line)[0]); err == nil && netip.MustParsePrefix(nextLent).Contains(a) {
				current = a.String()
			}
		}
		return current != ""
	})
	mustFetch(t, l.far, bracket(current))
	t.Logf("%s after the next prefix was there to be had, %s answers from outside", time.Since(began).Round(time.Millisecond), current)
	serveClientAddress(t, l.far)
	if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != current {
		t.Errorf("far sees the container as %q (%v), want %s", got, err, current)
	}
	if got := l.ipv6(t, "web", "net"); got != former {
		t.Logf("the engine takes the running container to be at %s", got)
	}
	if l.engine != nil { // which does not tell a driver names
		id := l.inspect(t, "web", "{{range .NetworkSettings.Networks}}{{.EndpointID}}{{end}}")
		if hosts := l.v6net(t, "hosts"); !strings.Contains(hosts, current+"  "+id[:12]+"\n") {
			t.Errorf("v6net hosts does not show %s of endpoint %s:\n%s", current, id, hosts)
		}
	}
	mustFetch(t, l.far, bracket(former))
	talk.mustHaveGoneOn(t, patience)

	subnet := l.subnet(t, "net")
	if subnet.Lent == nil || !subnet.Lent.Has(netip.MustParseAddr(former)) || !subnet.Lent.Has(netip.MustParseAddr(current)) {
		t.Errorf("status does not show both prefixes: %+v", subnet.Lent)
	}
	for _, n := range l.status(t).Networks {
		if n.Error != "" || len(n.Notes) > 0 {
			t.Errorf("network: %q %q", n.Error, n.Notes)
		}
	}
}

// renumberLink gives the link of the host another prefix, and deprecates the one of which the
// container has its address. It has one of each then, and answers at both. far shows who asks.
func (l *lab) renumberLink(t *testing.T, container, former string) {
	t.Helper()
	const nextOfLink = "2001:db8:1f::/64"
	l.up.AddAddress(t, "2001:db8:1f::1/64", "lan0")
	l.host.AddAddress(t, "2001:db8:1f::2/64", "eth0")
	l.host.Run(t, "ip", "address", "change", hostIPv6+"/64", "dev", "eth0", "preferred_lft", "0", "valid_lft", "3600")
	defer func() {
		l.host.Run(t, "ip", "address", "change", hostIPv6+"/64", "dev", "eth0", "preferred_lft", "forever", "valid_lft", "forever")
		l.host.Run(t, "ip", "address", "del", "2001:db8:1f::2/64", "dev", "eth0")
		l.up.Run(t, "ip", "address", "del", "2001:db8:1f::1/64", "dev", "lan0")
	}()
	want := spec.Renumbered(netip.MustParseAddr(former), netip.MustParsePrefix(nextOfLink)).String()
	eventually(t, want+" in "+container, func() bool {
		current, deprecated := false, false
		for line := range strings.Lines(l.in(t, container, "ip", "-6", "address", "show", "dev", "eth0")) {
			current = current || strings.Contains(line, want+"/80 ") && !strings.Contains(line, "deprecated")
			deprecated = deprecated || strings.Contains(line, former+"/80 ") && strings.Contains(line, "deprecated")
		}
		return current && deprecated
	})
	mustFetch(t, l.far, bracket(want))
	mustFetch(t, l.far, bracket(former))
	if got, err := l.fetchIn(t, container, bracket(farIPv6)); err != nil || got != want {
		t.Errorf("far sees the container as %q (%v), want %s", got, err, want)
	}
}

// A plugin that may not enter namespaces says which containers have to be started
// again, and those that are have the next prefix.
func TestRenumberWithoutEntering(t *testing.T) {
	l := newLab(t)
	l.startEngine(t, testengine.Options{})
	l.engine.InstallPlugin(t, pluginWithoutBPF(t), pluginName) // nor CAP_SYS_ADMIN
	t.Cleanup(func() { _, _ = l.engine.Try(context.Background(), "plugin", "disable", "-f", pluginName) })
	l.route(t, firstLent)
	l.route(t, nextLent)
	stop := l.delegate(t, firstLent)
	l.network(t, "net", "--ipam-opt", "source=pd")
	l.container(t, "web", "--network", "net", "-p", "80:80")
	former := l.ipv6(t, "web", "net")
	stop()
	l.delegate(t, nextLent)
	id := l.inspect(t, "web", "{{range .NetworkSettings.Networks}}{{.EndpointID}}{{end}}")[:12]
	said := func() bool {
		out := l.v6net(t, "status")
		return strings.Contains(out, "endpoint "+id+" keeps the addresses that it had") && strings.Contains(out, "operation not permitted")
	}
	eventually(t, "a note in v6net status", said)
	for line := range strings.Lines(l.v6net(t, "hosts")) {
		if a, err := netip.ParseAddr(strings.Fields(line)[0]); err == nil && netip.MustParsePrefix(nextLent).Contains(a) {
			t.Errorf("v6net hosts shows %s, which the container has not", a)
		}
	}
	mustFetch(t, l.far, bracket(former))
	l.docker(t, "restart", "-t", "0", "web")
	got := l.ipv6(t, "web", "net")
	if !netip.MustParsePrefix(nextLent).Contains(netip.MustParseAddr(got)) {
		t.Errorf("after its restart the container has %s, want an address of %s", got, nextLent)
	}
	mustFetch(t, l.far, bracket(got))
	if out := l.v6net(t, "status"); strings.Contains(out, "NOTE") {
		t.Errorf("v6net status after the restart:\n%s", out)
	}
}

// With Podman the daemon is a plain service with the rights of its systemd unit. One
// that is killed goes on with what it knew.
func TestRenumberPodman(t *testing.T) {
	onPodman(t, func(t *testing.T, l *lab, d *podmanDaemon) {
		testRenumber(t, l)
		d.kill(t)
		d.start(t)
		subnet := l.subnet(t, "net")
		if now, inUse := subnet.Lent.Current(); !inUse || !netip.MustParsePrefix(nextLent).Contains(now.Prefix.Addr()) {
			t.Errorf("after the daemon's restart the network has %+v", subnet.Lent)
		}
		for line := range strings.Lines(l.v6net(t, "hosts")) {
			if address, name, _ := strings.Cut(strings.TrimSpace(line), " "); strings.TrimSpace(name) == "web" && strings.Contains(address, ":") {
				mustFetch(t, l.far, bracket(address))
			}
		}
	})
}
