//go:build engine

package engine_test

import (
	"strings"
	"testing"
)

// A network without IPv4 gives its containers nothing of it, and all that
// others have of IPv6. An engine that knows no such networks says so.
func testIPv6Only(t *testing.T, l *lab) {
	if !l.engine.IPv6Only() {
		out, err := l.cli.Try(t.Context(), "network", "create", "-d", pluginName, "--ipam-driver", pluginName, "--ipv4=false", "--ipv6", "net-a")
		if err == nil || !strings.Contains(out, "unknown flag: --ipv4") {
			t.Errorf("this engine is not known to make networks without IPv4, but: %v: %s", err, out)
		}
		return
	}
	serveClientAddress(t, l.far)
	l.network(t, "net-a", "--ipv4=false")
	l.container(t, "web", "--network", "name=net-a,gw-priority=1", "-p", "8080:80")
	l.container(t, "other", "--network", "net-a")
	address := l.ipv6(t, "web", "net-a")
	l.docker(t, "exec", "-d", "web", "httpd", "-p", "81", "-h", "/www") // nobody publishes it

	t.Run("no IPv4", func(t *testing.T) {
		if got := l.ipv4(t, "web", "net-a"); got != "" {
			t.Errorf("the engine has the IPv4 address %s", got)
		}
		for _, object := range []string{"address", "route"} {
			if got := l.in(t, "web", "ip", "-4", object, "show", "dev", "eth0"); got != "" {
				t.Errorf("the container has an IPv4 %s: %s", object, got)
			}
		}
		// The engine would give a container without gateway another interface.
		if links := strings.Split(l.in(t, "web", "ip", "-brief", "link"), "\n"); len(links) != 2 {
			t.Errorf("the container has the links %q, want lo and eth0", links)
		}
	})
	t.Run("default route", func(t *testing.T) {
		got := l.in(t, "web", "ip", "-6", "route", "show", "default")
		if !strings.HasPrefix(got, "default via fe80::1:") || !strings.Contains(got+" ", " dev eth0 ") {
			t.Errorf("default route is %q, want one by the network's link-local gateway on eth0", got)
		}
		if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != address {
			t.Errorf("far sees the client %q (%v), want %s", got, err, address)
		}
	})
	t.Run("from outside", func(t *testing.T) {
		mustFetch(t, l.far, bracket(address))
		mustFetch(t, l.host, bracket(address)+":81") // it is there
		mustNotFetch(t, l.far, bracket(address)+":81", bracket(l.ipv6(t, "other", "net-a")), hostIPv4+":8080")
	})
	t.Run("neighbours", func(t *testing.T) {
		if _, err := l.fetchIn(t, "other", bracket(address)+":81"); err != nil {
			t.Error(err)
		}
	})
	t.Run("second network", func(t *testing.T) {
		// It is the container's way out by IPv4 only: the first has priority,
		// without which the engine would prefer a network with both families.
		// What is published is so on the network that is the way out.
		l.network(t, "net-b")
		l.docker(t, "network", "connect", "net-b", "web")
		defer l.docker(t, "network", "disconnect", "net-b", "web")
		gateway := "net-a"
		if l.engine.PrefersDualStack() {
			gateway = "net-b"
		}
		mustFetch(t, l.far, bracket(l.ipv6(t, "web", gateway)))
		if got, err := l.fetchIn(t, "web", farIPv4); err != nil || got != hostIPv4 {
			t.Errorf("far sees the client %q (%v), want %s", got, err, hostIPv4)
		}
		mustFetch(t, l.far, hostIPv4+":8080")
	})
	t.Run("published by a network for each family", func(t *testing.T) {
		// The engine has both told of the same ports, and a host port of each
		// family is one network's.
		l.network(t, "net-c", "--ipv4=false", "-o", "masquerade=on")
		l.network(t, "net-d", "-o", "masquerade=on")
		l.container(t, "split", "--network", "name=net-c,gw-priority=1", "--network", "net-d", "-p", "8081:80")
		mustFetch(t, l.far, bracket(hostIPv6)+":8081")
		mustFetch(t, l.far, hostIPv4+":8081")
		mustNotFetch(t, l.far, bracket(l.ipv6(t, "split", "net-d")))
		l.docker(t, "network", "disconnect", "net-c", "split")
		mustFetch(t, l.far, bracket(hostIPv6)+":8081") // now by net-d
		mustFetch(t, l.far, hostIPv4+":8081")
	})
	t.Run("after a restart", func(t *testing.T) {
		l.docker(t, "restart", "-t", "1", "web")
		mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net-a")))
	})
}
