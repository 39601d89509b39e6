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
	"github.com/v6net/v6net/internal/testnet"
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
		next := testRenumber(t, l)
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
		next.stop()
		testLostPrefix(t, l)
	})
}

// reachable is how soon a new address has to answer from outside, counted from when the
// server has lent its prefix: wide, since it is no benchmark, and what people are promised.
const reachable = 5 * time.Second

// testRenumber leaves network net with container web on it, and the next provider.
func testRenumber(t *testing.T, l *lab) (next provider) {
	l.route(t, firstLent)
	l.route(t, nextLent)
	first := l.delegate(t, firstLent)
	l.network(t, "net", "--ipam-opt", "source=pd")
	l.containerWith(t, "web", echoCommand, "--network", "net", "-p", "80:80", "-p", "7:7")
	former := l.ipv6(t, "web", "net")
	if subnet := l.subnet(t, "net"); subnet.Source != "pd" || !netip.MustParsePrefix(firstLent).Contains(netip.MustParseAddr(former)) {
		t.Fatalf("the container has %s of %s from source %s, want an address of %s", former, subnet.Prefix, subnet.Source, firstLent)
	}
	mustFetch(t, l.far, bracket(former))
	talk := converse(t, l.far, bracket(former)+":7")

	first.stop()
	next = l.delegate(t, nextLent)
	current := l.answersIn(t, next, former)
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
	l.mustHaveNoNotes(t)
	return next
}

// answersIn waits until a provider has lent a prefix, and the container that was at an address
// answers from outside in its first part. It is the container's address there.
func (l *lab) answersIn(t *testing.T, p provider, former string) string {
	t.Helper()
	select {
	case lent := <-p.lent:
		current := spec.Renumbered(netip.MustParseAddr(former), netip.PrefixFrom(lent.prefix.Addr(), 64)).String()
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := fetch(ctx, l.far, bracket(current))
			cancel()
			switch took := time.Since(lent.at); {
			case err == nil && took <= reachable:
				t.Logf("%s after %s was lent %s answers from outside", took.Round(time.Millisecond), lent.prefix, current)
				return current
			case err == nil:
				t.Errorf("%s after %s was lent %s answers from outside, want %s at most", took.Round(time.Millisecond), lent.prefix, current, reachable)
				return current
			case took > time.Minute:
				t.Fatalf("%s does not answer from outside: %v", current, err)
			}
		}
	case <-time.After(time.Minute):
		t.Fatal("the provider is not asked for a prefix")
	}
	return ""
}

// mustHaveNoNotes checks that all networks are what they should be.
func (l *lab) mustHaveNoNotes(t *testing.T) {
	t.Helper()
	for _, n := range l.status(t).Networks {
		if n.Error != "" || len(n.Notes) > 0 {
			t.Errorf("network: %q %q", n.Error, n.Notes)
		}
	}
}

// testLostPrefix: what is lent ends, and nobody lends. The network stays up on a unique local
// prefix, and has a part of what is lent next by itself.
func testLostPrefix(t *testing.T, l *lab) {
	brief := l.delegateFor(t, firstLent, lifetimes{preferred: 4, valid: 6})
	l.network(t, "net", "--ipam-opt", "source=pd", "--ipam-opt", "fallback=ula")
	l.container(t, "web", "--network", "net", "-p", "80:80")
	lost := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(lost))
	sees := func(want string) {
		t.Helper()
		if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != want {
			t.Errorf("far sees the container as %q (%v), want %s", got, err, want)
		}
	}
	sees(lost)

	brief.stop()
	eventually(t, "the container is on a unique local prefix alone", func() bool {
		out := l.in(t, "web", "ip", "-6", "address", "show", "dev", "eth0", "scope", "global")
		return strings.Count(out, "inet6") == 1 && strings.Contains(out, "inet6 fd")
	})
	mustFetch(t, l.far, bracket(hostIPv6))
	sees(hostIPv6)
	mustNotFetch(t, l.far, bracket(lost))
	if out := l.v6net(t, "status"); !strings.Contains(out, "lends no prefix on eth0 now; until there is one the network has fd") {
		t.Errorf("v6net status does not say that the network is on its fallback:\n%s", out)
	}

	again := l.delegate(t, nextLent)
	sees(l.answersIn(t, again, lost))
	mustNotFetch(t, l.far, bracket(hostIPv6))
	l.mustHaveNoNotes(t)
}

// renumberLink gives the link of the host another prefix, and deprecates the one of which the
// containers, with echoCommand, have these addresses. Each has one of both then and answers at
// both, from which it is served to whom it talks to, until the former one ends. It returns the
// current ones. far shows who asks.
func (l *lab) renumberLink(t *testing.T, former map[string]string) (current map[string]string) {
	t.Helper()
	const nextOfLink, upNext, hostNext = "2001:db8:1f::/64", "2001:db8:1f::1/64", "2001:db8:1f::2/64"
	run := func(h *testnet.Host, args ...string) { // at the end, too, when the test's context is over
		if out, err := h.Command(context.Background(), args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %q: %v: %s", h.Name(), args, err, out)
		}
	}
	lasts := func(preferred, valid string) {
		run(l.host, "ip", "address", "replace", hostIPv6+"/64", "dev", "eth0", "nodad", "preferred_lft", preferred, "valid_lft", valid)
	}
	t.Cleanup(func() {
		lasts("forever", "forever")
		run(l.host, "ip", "address", "del", hostNext, "dev", "eth0")
		run(l.up, "ip", "address", "del", upNext, "dev", "lan0")
	})
	talks := map[string]*conversation{}
	for container, address := range former {
		talks[container] = converse(t, l.far, bracket(address)+":7")
	}
	l.up.AddAddress(t, upNext, "lan0")
	l.host.AddAddress(t, hostNext, "eth0")
	lasts("0", "3600")
	has := func(container, address string) (line string) {
		for line := range strings.Lines(l.in(t, container, "ip", "-6", "address", "show", "dev", "eth0")) {
			if strings.Contains(line, "inet6 "+address+"/") {
				return line
			}
		}
		return ""
	}
	current = map[string]string{}
	for container, address := range former {
		next := spec.Renumbered(netip.MustParseAddr(address), netip.MustParsePrefix(nextOfLink)).String()
		current[container] = next
		eventually(t, next+" beside "+address+" in "+container, func() bool {
			line := has(container, next)
			return line != "" && !strings.Contains(line, "deprecated") && strings.Contains(has(container, address), "deprecated")
		})
		mustFetch(t, l.far, bracket(next))
		mustFetch(t, l.far, bracket(address))
		if got, err := l.fetchIn(t, container, bracket(farIPv6)); err != nil || got != next {
			t.Errorf("far sees %s as %q (%v), want %s", container, got, err, next)
		}
		talks[container].mustHaveGoneOn(t, patience)
	}
	lasts("0", "2")
	for container, address := range former {
		eventually(t, "the end of "+address+" in "+container, func() bool { return has(container, address) == "" })
		mustNotFetch(t, l.far, bracket(address))
		mustFetch(t, l.far, bracket(current[container]))
	}
	return current
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
	first := l.delegate(t, firstLent)
	l.network(t, "net", "--ipam-opt", "source=pd")
	l.container(t, "web", "--network", "net", "-p", "80:80")
	former := l.ipv6(t, "web", "net")
	first.stop()
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
		next := testRenumber(t, l)
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
		l.docker(t, "rm", "-f", "-t", "0", "web")
		l.docker(t, "network", "rm", "net")
		eventually(t, "removal of the network", func() bool { return !l.hasNetwork(t.Context(), t, "net") })
		next.stop()
		testLostPrefix(t, l)
	})
}
