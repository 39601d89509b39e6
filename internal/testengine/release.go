package testengine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Releases are the engines that tests run on, oldest first: those that
// V6NET_ENGINES names, as `make vm` does, or those of a development machine.
func Releases() []string {
	if names := strings.Fields(os.Getenv("V6NET_ENGINES")); len(names) > 0 {
		return names
	}
	return []string{"20.10", "26.1"}
}

// release is one version of the engine and where it comes from.
type release struct {
	name     string   // what Options.Release and V6NET_ENGINES call it
	version  string   // what the engine's own version starts with
	root     string   // directory tree in which it is installed
	dockerd  string   // its daemon there
	compose  []string // its compose program
	ipv6Only bool     // see Engine.IPv6Only
	prefers  bool     // see Engine.PrefersDualStack
	nftables bool     // see Engine.KnowsNFTables
}

// known are all releases, oldest first. The last two are in the VM only
// (scripts/deps vm), which has one root for both.
func known() []release {
	const packaged = "/usr/sbin/dockerd"
	plugin := []string{"docker", "compose"}
	return []release{
		{"20.10", "20.10.", "/", packaged, []string{"docker-compose"}, false, false, false},
		{"26.1", "26.1.", filepath.Join(cacheDir(), "trixie"), packaged, plugin, false, false, false},
		{"28.5", "28.5.", "/", packaged, plugin, true, true, false},
		{"29", "v2.0.0-", "/", "/opt/docker-29/dockerd", plugin, true, false, true},
	}
}

// findRelease looks up an engine by its name, the first of Releases if that is
// empty. It fails when there is none or when it is not installed.
func findRelease(name string) (release, error) {
	if name == "" {
		name = Releases()[0]
	}
	for _, r := range known() {
		if r.name != name {
			continue
		}
		if _, err := os.Stat(filepath.Join(r.root, r.dockerd)); err != nil {
			return release{}, fmt.Errorf("engine %s is not installed, run scripts/deps engine: %w", name, err)
		}
		return r, nil
	}
	return release{}, fmt.Errorf("no engine release %q, want one of %q", name, Releases())
}

// cacheDir is where scripts/deps keeps the root of Debian 13.
func cacheDir() string {
	if dir := os.Getenv("V6NET_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/v6net"
}
