//go:build engine

package engine_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
)

// An earlier build of the plugin, whose journal has an older schema, is pushed to a registry,
// installed from there with settings, and replaced by this one, which keeps them, while a
// container runs on.
func TestUpgrade(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		const installed, newer = registry + "/v6net:1", registry + "/v6net:2"
		startRegistry(t, l)
		for name, dir := range map[string]string{installed: previousPlugin(t), newer: pluginDir(t)} {
			l.docker(t, "plugin", "create", name, dir)
			l.docker(t, "plugin", "push", name)
			l.docker(t, "plugin", "rm", name)
		}
		l.engine.InstallPluginFrom(t, installed, "V6NET_LOG_LEVEL=debug", "V6NET_NDPROXY_PATH=packet")

		l.anyNetwork(t, "web", "-d", installed, "--ipam-driver", installed, "--ipv6")
		l.containerWith(t, "web", echoCommand, "--network", "web", "-p", "8080:80", "-p", "7:7", "-p", "9:9/udp")
		address := l.ipv6(t, "web", "web")
		mustFetch(t, l.far, bracket(address))
		if proxies := l.status(t).Proxies; len(proxies) != 1 || proxies[0].Path != "packet" {
			t.Errorf("with V6NET_NDPROXY_PATH=packet the proxies are %+v", proxies)
		}
		// Each call of the engine's is a line of level debug, in the engine's own log.
		if !strings.Contains(l.engine.Logs(t), "msg=call") {
			t.Error("with V6NET_LOG_LEVEL=debug no call is logged")
		}
		settings := settingsOf(l, t, installed)
		version := l.status(t).Version
		talk := converse(t, l.far, bracket(address)+":7")
		stream := l.stream(t, "web", address)

		l.docker(t, "plugin", "disable", "-f", installed)
		l.docker(t, "plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", installed, newer)
		l.docker(t, "plugin", "enable", installed)
		if now := l.status(t).Version; now == version {
			t.Errorf("the plugin is still %s", now)
		}
		now := settingsOf(l, t, installed)
		for key, value := range settings { // there may be new ones
			if now[key] != value {
				t.Errorf("after the upgrade %s is %q, before it it was %q", key, now[key], value)
			}
		}
		if now["V6NET_LOG_LEVEL"] != "debug" {
			t.Errorf("the settings are %v", now)
		}
		mustLoseNothing(t, stream)
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
	for deadline := time.Now().Add(longest); ; time.Sleep(20 * time.Millisecond) {
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

// settingsOf are a plugin's, by name.
func settingsOf(l *lab, t *testing.T, plugin string) map[string]string {
	t.Helper()
	var all []string
	if err := json.Unmarshal([]byte(l.docker(t, "plugin", "inspect", "-f", "{{json .Settings.Env}}", plugin)), &all); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range all {
		name, value, _ := strings.Cut(s, "=")
		settings[name] = value
	}
	return settings
}

// previousPlugin is the plugin as scripts/previous has built it: with the program and
// config.json of then, and the iptables of now.
func previousPlugin(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(module + "/build/previous/shallow"); err == nil {
		t.Log("NO MIGRATION OF THE JOURNAL IS TESTED: the history is cut off, and scripts/previous has built the present source")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(pluginDir(t))); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"v6net": "rootfs/usr/bin/v6net", "config.json": "config.json"} {
		text, err := os.ReadFile(built(t, "build/previous/"+from))
		if err != nil {
			t.Fatalf("run scripts/previous first: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
