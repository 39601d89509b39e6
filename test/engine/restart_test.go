//go:build engine

package engine_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
)

// unnoticed is what a running container may lose: less than the first
// retransmissions of TCP (RFC 6298: one second in doubt).
const unnoticed = time.Second

// disturbance is something that happens to the engine or the plugin.
type disturbance struct {
	name string
	do   func(t *testing.T, l *lab)
}

func restartEngine(t *testing.T, l *lab) { l.engine.Restart(t) }

func killEngine(t *testing.T, l *lab) {
	l.engine.Kill(t)
	l.engine.Restart(t)
}

// killAll is a power cut, as far as v6net and the engine can tell.
func killAll(t *testing.T, l *lab) {
	l.engine.Kill(t)
	l.killPlugin(t)
	l.engine.Restart(t)
}

// killPlugin answers the process ID that the plugin had.
func (l *lab) killPlugin(t *testing.T) string {
	t.Helper()
	pid := l.host.Run(t, "pidof", "v6net")
	l.host.Run(t, "kill", "-KILL", pid)
	return pid
}

func killPlugin(t *testing.T, l *lab) {
	l.awaitPlugin(t, l.killPlugin(t))
}

func disablePlugin(t *testing.T, l *lab) {
	l.docker(t, "plugin", "disable", "-f", pluginName)
	// What is in the kernel works while nobody looks after it.
	mustFetch(t, l.far, hostIPv4+":8080")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "web")))
	l.docker(t, "plugin", "enable", pluginName)
}

func restartContainer(t *testing.T, l *lab) { l.docker(t, "restart", "web") }

// awaitPlugin waits until the engine has started the plugin anew, as it does at
// once (moby plugin/manager_linux.go, restart).
func (l *lab) awaitPlugin(t *testing.T, before string) {
	t.Helper()
	for deadline := time.Now().Add(longest); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		out, err := l.host.Command(t.Context(), "pidof", "v6net").Output()
		if now := strings.TrimSpace(string(out)); err == nil && now != before && l.onEngine(t.Context(), t, program(t), "status").Run() == nil {
			return
		}
	}
	t.Fatal("the engine does not start the plugin again")
}

// With live restore a running container notices nothing, whatever happens to
// engine and plugin.
func TestLiveRestore(t *testing.T) {
	onEveryEngine(t, testengine.Options{LiveRestore: true}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		began := filepath.Join(t.TempDir(), "began")
		if err := os.WriteFile(began, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		l.traceless(t, "containers", func(t *testing.T) {
			l.network(t, "web")
			l.containerWith(t, "web", echoCommand, "--network", "web", "-p", "8080:80", "-p", "7:7", "-p", "9:9/udp")
			address := l.ipv6(t, "web", "web")
			mustFetch(t, l.far, bracket(address))
			for _, d := range []disturbance{
				{"engine restarted", restartEngine},
				{"engine killed", killEngine},
				{"plugin killed", killPlugin},
				{"plugin disabled and enabled", disablePlugin},
			} {
				t.Run(d.name, func(t *testing.T) {
					ipv6 := converse(t, l.far, bracket(address)+":7")
					ipv4 := converse(t, l.far, hostIPv4+":7")
					stream := l.stream(t, "web", address)
					d.do(t, l)
					l.mustBeWell(t)
					mustLoseNothing(t, stream)
					ipv6.mustHaveGoneOn(t, unnoticed)
					ipv4.mustHaveGoneOn(t, unnoticed)
				})
			}
		})
		// Its file system it could as well only read, but for the journal's folder: the engine writes
		// the other two, and the sockets are on a mount.
		pid := l.host.Run(t, "pidof", "v6net")
		for _, file := range strings.Fields(l.host.Run(t, "find", "/proc/"+pid+"/root/", "-xdev", "-newer", began, "-type", "f", "-printf", "/%P ")) {
			if !slices.Contains([]string{"/var/lib/v6net/v6net.db", "/.dockerenv", "/etc/hostname"}, file) {
				t.Errorf("the plugin has written %s", file)
			}
		}
	})
}

// Without live restore containers end with the engine. Those that are to come
// back do, with their network.
func TestRestart(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		l.traceless(t, "containers", func(t *testing.T) {
			l.network(t, "web")
			l.container(t, "web", "--network", "web", "--restart", "always", "-p", "8080:80")
			for _, d := range []disturbance{
				{"container restarted", restartContainer},
				{"engine restarted", restartEngine},
				{"engine and plugin killed", killAll},
			} {
				t.Run(d.name, func(t *testing.T) {
					d.do(t, l)
					l.mustBeWell(t)
				})
			}
		})
	})
}

// mustBeWell checks that the container web is there and reached, that v6net
// knows of it and nothing else, and that another container can come and go.
func (l *lab) mustBeWell(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(longest); l.ipv6(t, "web", "web") == ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the container has not come back")
		}
	}
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "web")))
	mustFetch(t, l.far, hostIPv4+":8080")
	l.container(t, "other", "--network", "web")
	mustFetch(t, l.host, bracket(l.ipv6(t, "other", "web")))
	l.docker(t, "rm", "-f", "other")

	networks := l.status(t).Networks
	if len(networks) != 1 || networks[0].Error != "" || len(networks[0].Endpoints) != 1 {
		t.Errorf("v6net has %+v, want one network with one endpoint", networks)
	}
}
