//go:build engine

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
)

// The plugin is pushed to a registry, installed from there with settings, and replaced
// by a newer one of there, which keeps them, while a container runs on.
func TestUpgrade(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		const installed, newer = registry + "/v6net:1", registry + "/v6net:2"
		startRegistry(t, l)
		for name, dir := range map[string]string{installed: pluginDir(t), newer: changedPlugin(t)} {
			l.docker(t, "plugin", "create", name, dir)
			l.docker(t, "plugin", "push", name)
			l.docker(t, "plugin", "rm", name)
		}
		l.engine.InstallPluginFrom(t, installed, "V6NET_LOG_LEVEL=debug", "V6NET_NDPROXY_PATH=packet")

		l.anyNetwork(t, "web", "-d", installed, "--ipam-driver", installed, "--ipv6")
		l.containerWith(t, "web", echoCommand, "--network", "web", "-p", "8080:80", "-p", "7:7")
		address := l.ipv6(t, "web", "web")
		mustFetch(t, l.far, bracket(address))
		if proxies := l.status(t).Proxies; len(proxies) != 1 || proxies[0].Path != "packet" {
			t.Errorf("with V6NET_NDPROXY_PATH=packet the proxies are %+v", proxies)
		}
		// Each call of the engine's is a line of level debug, in the engine's own log.
		if !strings.Contains(l.engine.Logs(t), "msg=call") {
			t.Error("with V6NET_LOG_LEVEL=debug no call is logged")
		}
		settings := l.docker(t, "plugin", "inspect", "-f", "{{json .Settings.Env}}", installed)
		talk := converse(t, l.far, bracket(address)+":7")

		l.docker(t, "plugin", "disable", "-f", installed)
		l.docker(t, "plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", installed, newer)
		l.docker(t, "plugin", "enable", installed)
		if got := l.docker(t, "plugin", "inspect", "-f", "{{.Config.Description}}", installed); got != changedDescription {
			t.Errorf("the plugin is %q, want the newer one", got)
		}
		if now := l.docker(t, "plugin", "inspect", "-f", "{{json .Settings.Env}}", installed); now != settings || !strings.Contains(now, "V6NET_LOG_LEVEL=debug") {
			t.Errorf("after the upgrade the settings are %s, before it they were %s", now, settings)
		}
		talk.mustHaveGoneOn(t, unnoticed)
		l.mustBeWell(t)
	})
}

// registry is Debian's docker-registry on the host. An engine trusts one on
// loopback without TLS.
const registry = "127.0.0.1:5000"

func startRegistry(t *testing.T, l *lab) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := "version: 0.1\nstorage: {filesystem: {rootdirectory: " + dir + "}}\nhttp: {addr: '" + registry + "'}\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := l.host.Command(ctx, "docker-registry", "serve", config)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = server.Wait() // killed
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := l.host.DialContext(t.Context(), "tcp", registry)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not come up: %v", err)
		}
	}
}

const changedDescription = "v6net, the next one"

// changedPlugin is a copy of the plugin that can be told from it.
func changedPlugin(t *testing.T) string {
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
	before, rest, _ := strings.Cut(string(config), `"description": "`)
	_, after, found := strings.Cut(rest, `"`)
	if !found {
		t.Fatalf("no description in %s", path)
	}
	if err := os.WriteFile(path, []byte(before+`"description": "`+changedDescription+`"`+after), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
