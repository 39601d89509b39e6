//go:build engine

package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testengine"
)

// The managed plugin answers solicitations by eBPF, with the capabilities that
// config.json names; by packet socket where it is told to, or lacks CAP_BPF.
func TestNDProxyPath(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		check := func(path, why string) {
			t.Helper()
			l.docker(t, "network", "create", "-d", pluginName, "--ipam-driver", pluginName, "--ipv6", "net")
			defer l.docker(t, "network", "rm", "net")
			l.docker(t, "run", "-d", "--name", "web", "--network", "net", "-p", "80:80", l.image)
			defer l.docker(t, "rm", "-f", "web")
			address := l.status(t).Networks[0].Endpoints[0].IPv6.Addr().String()
			mustFetch(t, l.far, bracket(address))
			// The router knew already: it has been told.
			mac := strings.Fields(l.host.Run(t, "ip", "-brief", "link", "show", "dev", "eth0"))[2]
			if got := l.resolve(t, address); got != mac {
				t.Errorf("the router takes %s to be at %q, want %s", address, got, mac)
			}
			proxy := l.proxyStatus(t, path, why)
			if proxy.Counters["solicited"] == 0 {
				t.Errorf("nothing was answered: %v", proxy.Counters)
			}
		}
		check("ebpf", "")
		l.docker(t, "plugin", "disable", "-f", pluginName)
		l.docker(t, "plugin", "set", pluginName, "V6NET_NDPROXY_PATH=packet")
		l.docker(t, "plugin", "enable", pluginName)
		check("packet", "")
		l.docker(t, "plugin", "disable", "-f", pluginName)
		l.docker(t, "plugin", "rm", pluginName)
		l.engine.InstallPlugin(t, pluginWithoutBPF(t), pluginName)
		check("packet", "CAP_BPF")
	})
}

// proxyStatus is that of the one proxy, as soon as it answers by a path because of something, or
// of nothing: until its program is loaded, or cannot be, it answers by packets.
func (l *lab) proxyStatus(t *testing.T, path, why string) spec.ProxyStatus {
	t.Helper()
	for deadline := time.Now().Add(longest); ; time.Sleep(20 * time.Millisecond) {
		proxies := l.status(t).Proxies
		if len(proxies) == 1 {
			if p := proxies[0]; p.Error == "" && p.Path == path && strings.Contains(p.PathError, why) && (why == "") == (p.PathError == "") {
				return p
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("proxies %+v, want one that answers by %q because of %q", proxies, path, why)
		}
	}
}

// pluginWithoutBPF is a copy of the plugin that may not load eBPF.
func pluginWithoutBPF(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(pluginDir(t))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// CAP_SYS_ADMIN has all of CAP_BPF.
	changed := strings.Replace(string(config), `, "CAP_BPF", "CAP_SYS_ADMIN"`, "", 1)
	if changed == string(config) {
		t.Fatalf("%s does not ask for CAP_BPF and CAP_SYS_ADMIN", path)
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
