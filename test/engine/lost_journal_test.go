//go:build engine

package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/testengine"
)

// A plugin that is removed and made anew, as by who upgrades it so, has lost its journal:
// v6net doctor says which networks Docker has that v6net no longer knows, and what it says
// mends it.
func TestLostJournal(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		l.network(t, "web")
		l.container(t, "web", "--network", "web", "-p", "8080:80")
		mustFetch(t, l.far, bracket(l.ipv6(t, "web", "web")))
		l.docker(t, "plugin", "rm", "-f", pluginName)
		l.engine.InstallPlugin(t, pluginDir(t), pluginName)

		lost := func(f doctor.Finding) bool { return f.Check == "networks" }
		found := l.doctor(t).Findings
		i := slices.IndexFunc(found, lost)
		if i < 0 || found[i].On != "network web" || found[i].Level != doctor.Problem || !strings.Contains(found[i].Fix, "docker network rm web") {
			t.Errorf("of a network that v6net has forgotten doctor says %+v", found)
		}
		if out, err := l.engine.Try(t.Context(), "restart", "web"); err == nil || !strings.Contains(out+err.Error(), ": not found") {
			t.Errorf("of its container docker says %v: %s", err, out)
		}
		l.docker(t, "rm", "-f", "web")
		l.docker(t, "network", "rm", "web")
		l.network(t, "web")
		l.container(t, "web", "--network", "web", "-p", "8080:80")
		mustFetch(t, l.far, bracket(l.ipv6(t, "web", "web")))
		if found := l.doctor(t).Findings; slices.ContainsFunc(found, lost) {
			t.Errorf("made anew, doctor says %+v", found)
		}
	})
}

// A plugin that is killed again before it answers is left alone by Docker, which has it as
// enabled nevertheless: what v6net's own commands say brings it back.
func TestPluginDiesTwice(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		first := l.killPlugin(t)
		for deadline := time.Now().Add(longest); ; time.Sleep(time.Millisecond) {
			out, err := l.host.Command(t.Context(), "pidof", "v6net").Output()
			if now := strings.TrimSpace(string(out)); err == nil && now != first {
				l.host.Run(t, "kill", "-KILL", now)
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the engine does not start the plugin again")
			}
		}
		out, err := l.onEngine(t.Context(), t, program(t), "status").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "docker plugin disable -f v6net; docker plugin enable v6net") {
			t.Fatalf("without a daemon status says %v: %s", err, out)
		}
		if enabled := l.docker(t, "plugin", "inspect", "-f", "{{.Enabled}}", pluginName); enabled != "true" {
			t.Errorf("Docker has it as enabled: %s", enabled)
		}
		for deadline := time.Now().Add(longest); ; time.Sleep(time.Second) {
			_, _ = l.engine.Try(t.Context(), "plugin", "disable", "-f", pluginName) // as `;` has it
			out, err := l.engine.Try(t.Context(), "plugin", "enable", pluginName)
			if err == nil {
				break
			}
			// While containerd takes the dead one's task away.
			if time.Now().After(deadline) {
				t.Fatalf("%v: %s", err, out)
			}
		}
		l.v6net(t, "status")
	})
}
