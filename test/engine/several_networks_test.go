//go:build engine

package engine_test

import (
	"fmt"
	"strings"
	"testing"
)

// A container on several networks has its default route and its published ports
// by one of them. When that is taken away another takes its place, while the
// container runs.
func testSeveralNetworks(t *testing.T, l *lab) {
	// The engine prefers networks in the order of their names.
	l.route(t, routed)
	for i, name := range []string{"net-a", "net-b", "net-c"} {
		l.network(t, name, "--subnet", fmt.Sprintf("2001:db8:2:%d::/64", i))
	}
	l.container(t, "web", "--network", "net-b", "-p", "8080:80")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net-b")))

	for _, step := range []struct {
		change, network string
		gateway         string // the network by which the container reaches the outside then
	}{
		{"connect", "net-c", "net-b"},
		{"connect", "net-a", "net-a"},
		{"disconnect", "net-a", "net-b"},
		{"disconnect", "net-b", "net-c"},
		{"connect", "net-a", "net-a"},
		{"disconnect", "net-c", "net-a"},
	} {
		t.Run(step.change+" "+step.network, func(t *testing.T) {
			l.docker(t, "network", step.change, step.network, "web")
			address := l.ipv6(t, "web", step.gateway)
			dev := l.linkWith(t, "web", address)
			for _, family := range []string{"-4", "-6"} {
				if route := l.in(t, "web", "ip", family, "route", "show", "default"); !strings.Contains(route+" ", "dev "+dev+" ") || strings.Contains(route, "\n") {
					t.Errorf("default route is %q, want one by %s, on %s", route, dev, step.gateway)
				}
			}
			mustFetch(t, l.far, bracket(address))
			mustFetch(t, l.far, hostIPv4+":8080")
			for _, other := range []string{"net-a", "net-b", "net-c"} {
				if address := l.ipv6(t, "web", other); other != step.gateway && address != "" {
					mustNotFetch(t, l.far, bracket(address))
				}
			}
		})
	}
}

// linkWith is the name of a container's link that has an address.
func (l *lab) linkWith(t *testing.T, container, address string) string {
	t.Helper()
	fields := strings.Fields(l.in(t, container, "ip", "-oneline", "address", "show", "to", address))
	if len(fields) < 2 {
		t.Fatalf("no link of %s has address %s", container, address)
	}
	return fields[1]
}
