package testengine

import (
	"fmt"
	"os"
	"path/filepath"
)

// Releases are the engines that can be started, oldest first.
func Releases() []string { return []string{"20.10", "26.1"} }

// release is where one version of the engine comes from.
type release struct {
	version string   // what the engine's own version starts with
	root    string   // directory tree in which it is installed
	compose []string // its compose program
}

// findRelease looks up an engine by its version, "20.10" if that is empty. It
// fails when there is none or when it is not installed.
func findRelease(version string) (release, error) {
	var r release
	switch version {
	case "", "20.10":
		r = release{"20.10.", "/", []string{"docker-compose"}}
	case "26.1":
		r = release{"26.1.", filepath.Join(cacheDir(), "trixie"), []string{"docker", "compose"}}
	default:
		return release{}, fmt.Errorf("no engine release %q, have %q", version, Releases())
	}
	if _, err := os.Stat(filepath.Join(r.root, "usr/sbin/dockerd")); err != nil {
		return release{}, fmt.Errorf("engine %s is not installed, run scripts/deps engine: %w", version, err)
	}
	return r, nil
}

// cacheDir is where scripts/deps keeps the root of Debian 13.
func cacheDir() string {
	if dir := os.Getenv("V6NET_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/v6net"
}
