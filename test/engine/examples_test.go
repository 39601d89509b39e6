//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// project is an example that runs.
type project struct {
	*lab
	compose func(args ...string) string
}

// examples are what people start from: each works as it stands, with the compose of
// every release.
var examples = []struct {
	dir   string
	check func(t *testing.T, p project)
	// around is what the example takes that a lab has not.
	around func(t *testing.T, l *lab)
}{
	{dir: "web", check: func(t *testing.T, p project) {
		web := p.service(t, "web")
		mustFetch(t, p.far, bracket(p.ipv6(t, web, "example_front")))
		mustFetch(t, p.far, hostIPv4+":8080")
	}},
	{dir: "egress-only", check: func(t *testing.T, p project) {
		worker := p.service(t, "worker")
		address := p.ipv6(t, worker, "example_out")
		if got, err := p.fetchIn(t, worker, bracket(farIPv6)); err != nil || got != address {
			t.Errorf("far sees the worker as %q (%v), want %s", got, err, address)
		}
		mustNotFetch(t, p.far, bracket(address))
		if p.far.Command(t.Context(), "ping", "-c", "1", "-W", "1", address).Run() == nil {
			t.Error("the worker answers a ping from outside")
		}
	}},
	{dir: "ula", check: func(t *testing.T, p project) {
		web := p.service(t, "web")
		if address := p.ipv6(t, web, "example_private"); !strings.HasPrefix(address, "fd") {
			t.Errorf("the container has %s, want a unique local address", address)
		}
		mustFetch(t, p.far, bracket(hostIPv6)+":8080")
		mustFetch(t, p.far, hostIPv4+":8080")
		if got, err := p.fetchIn(t, web, bracket(farIPv6)); err != nil || got != hostIPv6 {
			t.Errorf("far sees the container as %q (%v), want the host's %s", got, err, hostIPv6)
		}
	}},
	{dir: "internal", check: func(t *testing.T, p project) {
		web, db := p.service(t, "web"), p.service(t, "db")
		mustFetch(t, p.far, bracket(p.ipv6(t, web, "example_front")))
		mustFetch(t, p.far, hostIPv4+":8080")
		if _, err := p.fetchIn(t, web, bracket(p.ipv6(t, db, "example_back"))); err != nil {
			t.Errorf("from the web server to the database: %v", err)
		}
		mustNotFetch(t, p.far, bracket(p.ipv6(t, db, "example_back")))
		if route := p.in(t, db, "ip", "-6", "route", "show", "default"); route != "" {
			t.Errorf("the database has a way out: %s", route)
		}
	}},
	{dir: "two-networks", check: func(t *testing.T, p project) {
		gateway, left, right := p.service(t, "gateway"), p.service(t, "left"), p.service(t, "right")
		mustFetch(t, p.far, bracket(p.ipv6(t, gateway, "example_a")))
		mustFetch(t, p.far, hostIPv4+":8080")
		for container, network := range map[string]string{left: "example_a", right: "example_b"} {
			if _, err := p.fetchIn(t, container, bracket(p.ipv6(t, gateway, network))); err != nil {
				t.Errorf("the gateway by %s: %v", network, err)
			}
		}
		p.mustNotFetchIn(t, left, bracket(p.ipv6(t, right, "example_b")))
	}},
	{dir: "on-link-vps", check: func(t *testing.T, p project) {
		address := p.ipv6(t, p.service(t, "web"), "example_front")
		mustFetch(t, p.far, bracket(address))
		if status := p.v6net(t, "status"); !strings.Contains(status, "NDP PROXY on eth0") || !strings.Contains(status, address) {
			t.Errorf("v6net status does not show for whom it answers:\n%s", status)
		}
	}},
	{dir: "routed-prefix", check: func(t *testing.T, p project) {
		p.service(t, "web")
		mustFetch(t, p.far, bracket("2001:db8:2:1::80"))
	}},
	{dir: "from-ndppd", check: func(t *testing.T, p project) {
		p.service(t, "web")
		mustFetch(t, p.far, bracket("2001:db8:1:0:d0c::80"))
	}},
	{dir: "home-server", check: func(t *testing.T, p project) {
		address := p.ipv6(t, p.service(t, "web"), "front")
		if !netip.MustParsePrefix(firstLent).Contains(netip.MustParseAddr(address)) {
			t.Errorf("the container has %s, want an address of %s", address, firstLent)
		}
		mustFetch(t, p.far, bracket(address))
		mustFetch(t, p.far, hostIPv4+":8080")
	}, around: func(t *testing.T, l *lab) {
		l.route(t, firstLent)
		l.delegate(t, firstLent)
		l.network(t, "front", "--ipam-opt", "source=pd", "--ipam-opt", "fallback=ula")
	}},
}

func testExamples(t *testing.T, l *lab) {
	serveClientAddress(t, l.far)
	l.route(t, routed)
	for _, example := range examples {
		l.traceless(t, example.dir, func(t *testing.T) {
			if example.around != nil {
				example.around(t, l)
			}
			p := l.start(t, example.dir)
			example.check(t, p)
		})
	}
}

// Every example has a test: those in the table above, and Podman's.
func TestEveryExampleIsTested(t *testing.T) {
	folders, err := os.ReadDir("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	tested := []string{"podman-compose", "quadlet", "macvlan", "ipvlan-l3", "README.md"} // in podman_examples_test.go, and with their modes
	for _, e := range examples {
		tested = append(tested, e.dir)
	}
	for _, f := range folders {
		if !slices.Contains(tested, f.Name()) {
			t.Errorf("examples/%s has no test", f.Name())
		}
		if _, err := os.Stat(filepath.Join("../../examples", f.Name(), "README.md")); err != nil && f.IsDir() {
			t.Error(err)
		}
	}
}

// start brings an example up, until the end of the test.
func (l *lab) start(t *testing.T, dir string) project {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("../../examples", dir))
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "settings")
	text := fmt.Sprintf("IMAGE=%s\nDB_IMAGE=%s\nV6NET_DRIVER=%s\nCOMMAND=sh -c 'trap exit TERM; sleep infinity & wait'\n", l.image, l.image, pluginName)
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := project{lab: l, compose: func(args ...string) string {
		t.Helper()
		return l.engine.Compose(t, dir, append([]string{"--project-name", "example", "--env-file", settings}, args...)...)
	}}
	t.Cleanup(func() {
		if _, err := l.engine.TryCompose(context.Background(), dir, "--project-name", "example", "--env-file", settings, "down", "-t", "1"); err != nil {
			t.Error(err)
		}
	})
	p.compose("up", "-d")
	return p
}

// service is the container of a service.
func (p project) service(t *testing.T, name string) string {
	t.Helper()
	ids := strings.Fields(p.compose("ps", "-q", name))
	if len(ids) != 1 {
		t.Fatalf("service %s has the containers %q, want one", name, ids)
	}
	return ids[0]
}

// An example on the parent: a web server at its own address on the link.
func testExampleOnParent(t *testing.T, l *lab, name, network string) {
	p := l.start(t, name)
	mustFetch(t, l.far, bracket(l.ipv6(t, p.service(t, "web"), "example_"+network)))
}
