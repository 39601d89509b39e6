//go:build netns

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
	"github.com/v6net/v6net/internal/testnet"
)

// globals are the global addresses of a host's links, with "former" after those that are
// deprecated, sorted.
func globals(t *testing.T, h *testnet.Host) map[string][]string {
	t.Helper()
	addrs := map[string][]string{}
	for line := range strings.Lines(h.Run(t, "ip", "-6", "-o", "addr", "show", "scope", "global")) {
		words := strings.Fields(line) // 2: eth0 inet6 2001:db8::1/64 scope global …
		addr := words[3]
		if strings.Contains(line, "deprecated") {
			addr += " former"
		}
		addrs[words[1]] = append(addrs[words[1]], addr)
	}
	for _, list := range addrs {
		slices.Sort(list)
	}
	return addrs
}

// A hundred networks get another prefix at once. Then they get a third one, and the
// daemon is killed while it is at their bridges, and again while it is at their
// containers. In the end each has exactly what it is to have, and no conversation has
// lost a byte.
func TestAHundredNetworksAreRenumbered(t *testing.T) {
	const networks, middle = 100, 15
	m := ofLinode("2001:db8:a000::/56")
	c := newInCloud(t, m)
	self := testnet.Self(t)
	c.up.Run(t, "ip", "-6", "route", "add", "2001:db8:8000::/33", "via", self.LinkLocal(t, "eth0"), "dev", "lan0")
	at := func(prefix string, n int, host string) string {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%s:%x::%s", prefix, n, host)).String()
	}
	var containers []*testnet.Host
	var talks []*stream
	for n := range networks {
		container, addr := c.run(t, n)
		if want := at("a000", n, "2"); addr.String() != want {
			t.Fatalf("container %d has %s, want %s", n, addr, want)
		}
		containers = append(containers, container)
		if n%10 == 0 {
			c.answers(t, addr.String())
			talks = append(talks, c.stream(t, addr.String()))
		}
	}
	// assign has the cloud assign another prefix, and the daemon look.
	assign := func(prefix, address string) {
		t.Helper()
		m.set("/v1/network", linodeRange(prefix))
		self.Run(t, "ip", "addr", "add", address, "dev", "eth0", "nodad") // so that the link is another one, perhaps
	}
	answer := func(prefix string) {
		t.Helper()
		for n := range networks {
			c.answers(t, at(prefix, n, "2"))
		}
	}

	assign("2001:db8:b000::/56", "fe80::b/64")
	began := time.Now()
	answer("b000")
	t.Logf("all of them answer from outside after %s", time.Since(began).Round(time.Millisecond))

	bridge := func(n int) string { return spec.BridgeName(number("a", n)) }
	// kill kills the daemon as soon as the link in the middle has its new address, and sees
	// to it that the last one had not.
	kill := func(what string, addresses func(n int) []string) {
		t.Helper()
		moved := func(n int) bool {
			return slices.ContainsFunc(addresses(n), func(a string) bool { return strings.HasPrefix(a, "2001:db8:c000:") })
		}
		for deadline := time.Now().Add(time.Minute); !moved(middle); {
			if time.Now().After(deadline) {
				t.Fatalf("no new address on the %s", what)
			}
		}
		c.signal(os.Kill)
		_ = c.wait()
		if !moved(0) || moved(networks-1) {
			t.Errorf("it was not killed in the middle of the %s: the first is renumbered: %t, the last: %t", what, moved(0), moved(networks-1))
		}
	}
	assign("2001:db8:c000::/56", "fe80::c/64")
	kill("bridges", func(n int) []string { return globals(t, self)[bridge(n)] })
	c.program = startProgram(t, self, c.args)
	kill("containers", func(n int) []string { return globals(t, containers[n])["eth0"] })
	c.begin(t)
	answer("c000")

	for _, talk := range talks {
		if talk.end(t) == 0 {
			t.Error("a conversation stood still")
		}
	}
	wantSound(t, c.status(t), networks)
	bridges, rules := globals(t, self), self.Run(t, "nft", "list", "ruleset")
	for n := range networks {
		want := []string{at("a000", n, "2") + "/64 former", at("b000", n, "2") + "/64 former", at("c000", n, "2") + "/64"}
		if got := globals(t, containers[n])["eth0"]; !slices.Equal(got, want) {
			t.Errorf("container %d has %q, want %q", n, got, want)
		}
		want = []string{at("a000", n, "1") + "/64 former", at("b000", n, "1") + "/64 former", at("c000", n, "1") + "/64"}
		if got := bridges[bridge(n)]; !slices.Equal(got, want) {
			t.Errorf("bridge %d has %q, want %q", n, got, want)
		}
		for _, prefix := range []string{"a000", "b000", "c000"} {
			for _, element := range []string{at(prefix, n, "2") + " . tcp . 80", fmt.Sprintf("%q . %s", spec.VethName(number("e", n)), at(prefix, n, "2"))} {
				if !strings.Contains(rules, element) {
					t.Errorf("the rules lack %s", element)
				}
			}
		}
	}
	routes := self.Run(t, "ip", "-6", "route", "show", "type", "unreachable", "proto", "118")
	if strings.Count(routes, "unreachable") != 3 || !strings.Contains(routes, "2001:db8:a000::/56") || !strings.Contains(routes, "2001:db8:b000::/56") || !strings.Contains(routes, "2001:db8:c000::/56") {
		t.Errorf("unreachable:\n%s", routes)
	}
}

// A hundred networks are on parts of the parent's own prefix, and its router gives the link
// another one: the parts of all are probed in one go, and all have moved then, the containers
// that run found by the router, and no conversation with them has lost a byte.
func TestAHundredNetworksOnTheParentAreRenumbered(t *testing.T) {
	const networks = 100
	l := newLan(t)
	self := testnet.Self(t)
	if _, err := l.client.MakeNetwork(t.Context(), onLan(0)); err != nil {
		t.Fatal(err)
	}
	l.signal(os.Kill)
	_ = l.wait()
	l.multiply(t, networks) // each would have its part probed for a second
	l.begin(t)

	type running struct {
		*testnet.Host
		was, is netip.Addr
		talk    *stream
	}
	next := netip.MustParsePrefix(secondOfLan + "/64")
	var containers []running
	for _, n := range []int{0, 1, networks / 2, networks - 1} {
		container, ep := attach(t, l.client, onLan(n), n)
		addr := ep.IPv6.Addr()
		l.answers(t, addr.String())
		containers = append(containers, running{container, addr, spec.Renumbered(addr, next), l.stream(t, addr.String())})
	}
	before := globals(t, self)

	l.advertise(t, prefixOfLan(firstOfLan, 0), prefixOfLan(secondOfLan, 1800))
	l.hears(t, secondOfLan)
	began := time.Now()
	for _, c := range containers {
		l.answers(t, c.is.String())
	}
	t.Logf("they answer from outside after %s", time.Since(began).Round(time.Millisecond))
	for _, c := range containers {
		if c.talk.end(t) == 0 {
			t.Error("a conversation stood still")
		}
		if got, want := globals(t, c.Host)["eth0"], []string{c.was.String() + "/80 former", c.is.String() + "/80"}; !slices.Equal(got, want) {
			t.Errorf("a container has %q, want %q", got, want)
		}
	}
	bridges := globals(t, self)
	for n := range networks {
		bridge := spec.BridgeName(number("a", n))
		if len(before[bridge]) != 1 {
			t.Fatalf("bridge %d had %q", n, before[bridge])
		}
		gateway := netip.MustParsePrefix(before[bridge][0])
		want := []string{gateway.String() + " former", netip.PrefixFrom(spec.Renumbered(gateway.Addr(), next), 80).String()}
		if !slices.Equal(bridges[bridge], want) {
			t.Errorf("bridge %d has %q, want %q", n, bridges[bridge], want)
		}
	}
	wantSound(t, l.status(t), networks)
}

// onLan is a request for network n on a part of the link's own prefix.
func onLan(n int) spec.NetworkRequest {
	return spec.NetworkRequest{ID: number("a", n), Name: fmt.Sprint("net", n), FrontEnd: "podman", Options: spec.DefaultOptions(),
		IPv6: []spec.SubnetRequest{{Pool: onParentOfLan()}}}
}

// multiply writes networks into the journal that are as the only one there, each on the next
// part of the link's prefix.
func (l *lan) multiply(t *testing.T, networks int) {
	t.Helper()
	journal, err := store.Open(l.journal)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := journal.Close(); err != nil {
			t.Error(err)
		}
	}()
	state, err := journal.Load()
	if err != nil {
		t.Fatal(err)
	}
	first, pool := state.Networks[0], state.Pools[0]
	for n := 1; n < networks; n++ {
		part := pool.Prefix.Addr().As16()
		binary.BigEndian.PutUint16(part[8:], binary.BigEndian.Uint16(part[8:])+uint16(n))
		prefix := netip.PrefixFrom(netip.AddrFrom16(part), pool.Prefix.Bits())
		lent := *pool.Lent
		lent.Index += uint64(n)
		lent.Prefixes = slices.Clone(lent.Prefixes)
		lent.Prefixes[0].Prefix = prefix
		p := pool
		p.ID, p.Prefix, p.Lent = prefix.String(), prefix, &lent
		network := first
		network.ID, network.Name = number("a", n), fmt.Sprint("net", n)
		network.IPv6 = slices.Clone(network.IPv6)
		s := &network.IPv6[0]
		s.Prefix, s.Gateway, s.Lent = prefix, spec.Renumbered(s.Gateway, prefix), &lent
		if err := errors.Join(journal.PutAll([]spec.Network{network}, []spec.Pool{p}, nil), journal.PutLease(p.ID, s.Gateway)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantSound checks that there are so many networks, and that none has anything to complain of.
func wantSound(t *testing.T, status spec.Status, networks int) {
	t.Helper()
	if len(status.Networks) != networks || status.Error != "" {
		t.Errorf("%d networks, error %q", len(status.Networks), status.Error)
	}
	for _, n := range status.Networks {
		if n.Error != "" || len(n.Notes) > 0 {
			t.Errorf("network %s: error %q, notes %q", n.ID, n.Error, n.Notes)
		}
	}
}
