package testengine

import (
	"testing"
)

// InstallPlugin makes a managed plugin of the directory dir, which holds a
// config.json and a rootfs, and enables it.
func (e *Engine) InstallPlugin(t testing.TB, dir, name string) {
	t.Helper()
	e.CLI(t, "plugin", "create", name, dir)
	e.CLI(t, "plugin", "enable", name)
}
