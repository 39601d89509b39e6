//go:build engine

package engine_test

import (
	"strings"
	"testing"
)

// Where the kernel has no ipvlan the error must say so; everything else is tested
// in the VM, whose kernel has it.
func testIPvlan(t *testing.T, l *lab) {
	if !has(t, l.host, "ipvlan", "mode", "l2") {
		l.traceless(t, "no module", func(t *testing.T) { testNoIPvlan(t, l) })
		return
	}
	parts := []part{
		{"no option", func(t *testing.T, l *lab) { testOnParent(t, l, "ipvlan") }},
		{"the link's own prefixes", func(t *testing.T, l *lab) { testWholePrefix(t, l, "ipvlan") }},
		{"internal", func(t *testing.T, l *lab) { testInternalOnParent(t, l, "ipvlan") }},
		{"host access", func(t *testing.T, l *lab) { testHostAccess(t, l, "mode=ipvlan") }},
		{"advertisements", func(t *testing.T, l *lab) { testAdvertisementsOnParent(t, l, "ipvlan") }},
		{"private", testIPvlanPrivate},
		{"vepa", func(t *testing.T, l *lab) { testVEPA(t, l, "mode=ipvlan", "ipvlan_flag=vepa") }},
		{"l3", func(t *testing.T, l *lab) { testIPvlanL3(t, l, "l3") }},
		{"l3s", func(t *testing.T, l *lab) { testIPvlanL3(t, l, "l3s") }},
		{"l3, host access", func(t *testing.T, l *lab) { testHostAccess(t, l, "mode=ipvlan", "ipvlan_mode=l3") }},
		{"one parent, two kinds", testIPvlanClash},
	}
	if l.engine != nil {
		parts = append(parts, part{"example", func(t *testing.T, l *lab) { testExampleOnParent(t, l, "ipvlan-l3", "edge") }})
	}
	l.each(t, parts)
}

func testNoIPvlan(t *testing.T, l *lab) {
	out := l.refused(t, "-o", "mode=ipvlan")
	for _, want := range []string{"ipvlan", "modprobe ipvlan"} {
		if !strings.Contains(out, want) {
			t.Errorf("the engine does not say %q:\n%s", want, out)
		}
	}
}

func testIPvlanPrivate(t *testing.T, l *lab) {
	l.network(t, "net", "-o", "mode=ipvlan", "-o", "ipvlan_flag=private")
	l.container(t, "web", "--network", "net")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	l.mustNotFetchIn(t, "other", bracket(address))
}

// testIPvlanL3: containers have no neighbours. The host answers for them on the
// link, and routes what they send.
func testIPvlanL3(t *testing.T, l *lab, mode string) {
	serveClientAddress(t, l.far)
	l.network(t, "net", "-o", "mode=ipvlan", "-o", "ipvlan_mode="+mode)
	l.containerWith(t, "web", echoCommand, "--network", "net")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	l.mustResolve(t, address, macOn(t, l.host, "eth0"))
	if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != address {
		t.Errorf("far sees the client %q (%v), want %s", got, err, address)
	}
	if _, err := l.fetchIn(t, "other", bracket(address)); err != nil {
		t.Errorf("containers of one network: %v", err)
	}
	if route := l.in(t, "web", "ip", "-6", "route", "show", "default"); !strings.HasPrefix(route, "default dev eth0") {
		t.Errorf("default route %q, want one without a next hop", route)
	}
	current := l.renumberLink(t, map[string]string{"web": address})["web"]
	l.docker(t, "rm", "-f", "web")
	for _, a := range []string{address, current} {
		if mac := l.resolve(t, a); mac != "" {
			t.Errorf("somebody at %s still answers for %s", mac, a)
		}
	}
}

func testIPvlanClash(t *testing.T, l *lab) {
	l.network(t, "net", "-o", "mode=ipvlan", "--subnet", "2001:db8:1:0:51::/80")
	for _, tc := range []struct{ options, want string }{
		{"mode=macvlan", "cannot share"},
		{"ipvlan_mode=l3", "ipvlan_mode=l2"},
	} {
		out := l.refused(t, "--subnet", "2001:db8:1:0:52::/80", "-o", "mode=ipvlan", "-o", tc.options)
		if !strings.Contains(out, tc.want) {
			t.Errorf("%s: %s, want an error that says %q", tc.options, out, tc.want)
		}
	}
}
