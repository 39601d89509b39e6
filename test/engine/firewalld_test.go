//go:build engine

package engine_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testengine"
	"github.com/v6net/v6net/internal/testnet"
)

// The plain service and an engine on a host with firewalld, in whatever order they
// start and whenever it is reloaded: what is published is reached, by networks of ours
// and of the engine's own, and nothing else is.
func TestFirewalld(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		f := testnet.NewFirewalld(t, l.host, filepath.Join(l.engine.RunDir(), "dbus/system_bus_socket"))
		f.Start(t)
		l.engine.Restart(t) // it looks for the bus when it starts
		s := l.service(t)
		s.env = []string{f.Env()}
		t.Cleanup(func() { s.end(t) })
		s.start(t)
		l.anyNetwork(t, "ours", "-d", "v6net", "--ipam-driver", "v6net", "--ipv6")
		l.anyNetwork(t, "theirs")
		l.containerWith(t, "ours", twoPorts, "--network", "ours", "--restart", "always", "-p", "8080:80")
		l.container(t, "theirs", "--network", "theirs", "--restart", "always", "-p", "8081:80")
		check := func(t *testing.T) {
			address := ""
			eventually(t, "start of the container", func() bool { address = bracket(l.ipv6(t, "ours", "ours")); return address != "[]" })
			for _, published := range []string{address, hostIPv4 + ":8080", hostIPv4 + ":8081"} {
				mustFetch(t, l.far, published)
			}
			mustFetch(t, l.host, address+":81") // it is there
			mustNotFetch(t, l.far, address+":81", l.ipv4(t, "ours", "ours"))
			if _, err := l.fetchIn(t, "ours", bracket(farIPv6)); err != nil {
				t.Errorf("to the outside: %v", err)
			}
		}
		serveClientAddress(t, l.far)
		t.Run("it was there first", check)
		if in := f.Cmd(t, "--zone=v6net", "--list-interfaces"); !strings.Contains(in, "v6n") {
			t.Errorf("firewalld has %q in zone v6net: the test proves nothing", in)
		}
		f.Cmd(t, "--reload")
		t.Run("reloaded", check)
		f.Stop(t)
		f.Start(t)
		t.Run("it comes last", check)
		l.engine.Stop(t) // first: it would wait for the service
		s.end(t)
		s.start(t)
		l.engine.Restart(t)
		t.Run("service and engine come last", check)
	})
}
