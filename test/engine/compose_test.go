//go:build engine

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example is what people start from: it has to work as it stands, with the
// compose of every release.
func testCompose(t *testing.T, l *lab) {
	compose := l.example(t, "compose")
	web := strings.Fields(compose("ps", "-q", "web"))[0]
	db := strings.Fields(compose("ps", "-q", "db"))[0]

	mustFetch(t, l.far, bracket(l.ipv6(t, web, "example_front")))
	mustFetch(t, l.far, hostIPv4+":8080")
	if _, err := l.fetchIn(t, web, bracket(l.ipv6(t, db, "example_back"))); err != nil {
		t.Errorf("from the web server to the database: %v", err)
	}
	mustNotFetch(t, l.far, bracket(l.ipv6(t, db, "example_back")))
	if route := l.in(t, db, "ip", "-6", "route", "show", "default"); route != "" {
		t.Errorf("the database has a way out: %s", route)
	}
}

// example starts an example until the end of the test, and returns its compose command.
func (l *lab) example(t *testing.T, name string) (compose func(args ...string) string) {
	t.Helper()
	dir, err := filepath.Abs("../../examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "settings")
	if err := os.WriteFile(settings, []byte("IMAGE="+l.image+"\nDB_IMAGE="+l.image+"\nV6NET_DRIVER="+pluginName+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	compose = func(args ...string) string {
		t.Helper()
		return l.engine.Compose(t, dir, append([]string{"--project-name", "example", "--env-file", settings}, args...)...)
	}
	t.Cleanup(func() {
		if out, err := l.engine.TryCompose(context.Background(), dir, "--project-name", "example", "--env-file", settings, "down"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	compose("up", "-d")
	return compose
}

// An example on the parent: a web server at its own address on the link.
func testExampleOnParent(t *testing.T, l *lab, name, network string) {
	compose := l.example(t, name)
	web := strings.Fields(compose("ps", "-q", "web"))[0]
	mustFetch(t, l.far, bracket(l.ipv6(t, web, "example_"+network)))
}
