package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/kernel/netns"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// unit is what the service's unit says, by key.
func unit(t *testing.T) map[string]string {
	t.Helper()
	said := map[string]string{}
	for line := range strings.Lines(read(t, "packaging/systemd/v6net.service")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			said[key] = value
		}
	}
	return said
}

// The daemon may do the same as a service and as a managed plugin.
func TestUnitHasThePluginsCapabilities(t *testing.T) {
	var config struct {
		Linux struct {
			Capabilities []string `json:"capabilities"`
		} `json:"linux"`
	}
	if err := json.Unmarshal([]byte(read(t, "config.json")), &config); err != nil {
		t.Fatal(err)
	}
	// The last is among those that Docker gives every plugin.
	got, want := strings.Fields(unit(t)["CapabilityBoundingSet"]), append(config.Linux.Capabilities, "CAP_NET_BIND_SERVICE")
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 2 || !slices.Equal(got, want) {
		t.Errorf("the unit has the capabilities %q, config.json has %q", got, want)
	}
}

// The unit runs what the pages install, and they enable the daemon and not its socket
// alone, which Docker never calls.
func TestUnitIsAsDocumented(t *testing.T) {
	path, _, _ := strings.Cut(unit(t)["ExecStart"], " ")
	for _, page := range []string{"docs/install.md", "docs/podman.md"} {
		for _, want := range []string{"install -m 755 bin/v6net " + path + "\n", "systemctl enable --now v6net.service\n"} {
			if !strings.Contains(read(t, page), want) {
				t.Errorf("%s does not say %q", page, want)
			}
		}
	}
	if also := unit(t)["Also"]; also != "v6net.socket" {
		t.Errorf("Also=%s: the service is enabled without its socket", also)
	}
}

// What is made by `v6net reference` is what the program says now.
func TestReferencesAreCurrent(t *testing.T) {
	for page, as := range map[string]string{"docs/commands.md": "commands", "packaging/v6net.default": "settings"} {
		var c cli
		var said strings.Builder
		parser, err := kong.New(&c, append(settings(), kong.Writers(&said, &said))...)
		if err != nil {
			t.Fatal(err)
		}
		command, err := parser.Parse([]string{"reference", "--as", as})
		if err == nil {
			err = command.Run()
		}
		if err != nil || said.Len() == 0 {
			t.Fatalf("%s: %v", as, err)
		}
		if !strings.HasSuffix(read(t, page), "\n"+strings.TrimLeft(said.String(), "\n")) {
			t.Errorf("%s does not end in what `v6net reference --as %s` says; make it anew", page, as)
		}
	}
}

// The daemon takes every setting of the reference as it stands there.
func TestSettingsAreTheDefaults(t *testing.T) {
	var plain, set cli
	parse := func(c *cli) {
		parser, err := kong.New(c, settings()...)
		if err == nil {
			_, err = parser.Parse([]string{"daemon"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	parse(&plain)
	for line := range strings.Lines(read(t, "packaging/v6net.default")) {
		if key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "#"), "="); ok && strings.HasPrefix(key, "V6NET_") {
			t.Setenv(key, value)
		}
	}
	parse(&set)
	if diff := cmp.Diff(plain.Daemon, set.Daemon); diff != "" {
		t.Errorf("with all that packaging/v6net.default says, uncommented (-default +set):\n%s", diff)
	}
}

// Where another daemon runs, systemd does not try for ever.
func TestUnitGivesWayToAnotherDaemon(t *testing.T) {
	status := exitStatus(fmt.Errorf("start: %w", netns.ErrClaimed))
	if got := unit(t)["RestartPreventExitStatus"]; got != fmt.Sprint(status) || status == exitStatus(os.ErrNotExist) {
		t.Errorf("RestartPreventExitStatus=%s, where another daemon runs it is %d, and %d otherwise", got, status, exitStatus(os.ErrNotExist))
	}
}

// The managed plugin sees no folder of Podman's, and does not spend the machine's
// inotify instances on one.
func TestPluginWatchesNoFolder(t *testing.T) {
	var config struct {
		Env []struct{ Name, Value string } `json:"env"`
	}
	if err := json.Unmarshal([]byte(read(t, "config.json")), &config); err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Env {
		t.Setenv(v.Name, v.Value)
	}
	var c cli
	parser, err := kong.New(&c, settings()...)
	if err == nil {
		_, err = parser.Parse([]string{"daemon"})
	}
	if err != nil || c.Daemon.PodmanFolder != "" {
		t.Errorf("the plugin's daemon watches %q (%v)", c.Daemon.PodmanFolder, err)
	}
}
