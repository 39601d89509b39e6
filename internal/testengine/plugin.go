package testengine

import (
	"path/filepath"
	"strings"
	"testing"
)

// InstallPlugin makes a managed plugin of the directory dir, which holds a
// config.json and a rootfs, and enables it.
func (e *Engine) InstallPlugin(t testing.TB, dir, name string) {
	t.Helper()
	e.CLI(t, "plugin", "create", name, dir)
	e.enablePlugin(t, name)
}

// InstallPluginFrom installs a plugin from a registry and enables it. Settings are
// KEY=VALUE.
func (e *Engine) InstallPluginFrom(t testing.TB, name string, settings ...string) {
	t.Helper()
	e.CLI(t, append([]string{"plugin", "install", "--grant-all-permissions", "--disable", name}, settings...)...)
	e.enablePlugin(t, name)
}

func (e *Engine) enablePlugin(t testing.TB, name string) {
	t.Helper()
	if err := e.cgroup.remember(e.pluginID(t, name)); err != nil {
		t.Fatalf("install plugin %s: %v", name, err)
	}
	if strings.Contains(e.CLI(t, "plugin", "inspect", "-f", "{{json .Settings.Mounts}}", name), `"sandboxes"`) {
		// The engine's --exec-root is another than people's.
		e.CLI(t, "plugin", "set", name, "sandboxes.source="+e.layout.file("exec"))
	}
	e.CLI(t, "plugin", "enable", name)
}

// PluginRunDir is what the plugin sees as /run/docker/plugins, its socket in it.
func (e *Engine) PluginRunDir(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(e.layout.run(), "docker/plugins", e.pluginID(t, name))
}

// PluginDataDir is what the plugin sees as its propagated mount.
func (e *Engine) PluginDataDir(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(e.layout.file("data"), "plugins", e.pluginID(t, name), "propagated-mount")
}

func (e *Engine) pluginID(t testing.TB, name string) string {
	t.Helper()
	return e.CLI(t, "plugin", "inspect", "-f", "{{.ID}}", name)
}
