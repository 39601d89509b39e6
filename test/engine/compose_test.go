//go:build engine

package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example is what people start from: it has to work as it stands, with the
// compose of every release.
func testCompose(t *testing.T, l *lab) {
	dir, err := filepath.Abs("../../examples/compose")
	if err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "settings")
	if err := os.WriteFile(settings, []byte("IMAGE="+l.image+"\nDB_IMAGE="+l.image+"\nV6NET_DRIVER="+pluginName+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) string {
		t.Helper()
		return l.engine.Compose(t, dir, append([]string{"--project-name", "example", "--env-file", settings}, args...)...)
	}
	defer compose("down")
	compose("up", "-d")
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
