//go:build engine

package engine_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/testengine"
	"github.com/v6net/v6net/internal/testnet"
)

// What the README promises: a network without a single option, and a container
// on it that machines outside reach at its own address, at its published ports
// and no others. Nothing is left when network and plugin are gone.
func TestMainPath(t *testing.T) {
	// With ip6tables as without: engine 27 made it the default.
	onEveryEngine(t, testengine.Options{Args: []string{"--experimental", "--ip6tables"}}, func(t *testing.T, l *lab) {
		before := hostState(t, l.host)
		l.installPlugin(t)
		t.Run("network", func(t *testing.T) { testMainPath(t, l) })
		if left := journalState(l.status(t)); len(left) > 0 {
			t.Errorf("left in the journal: %q", left)
		}
		// Not -f: a plugin that something still uses cannot be disabled.
		l.docker(t, "plugin", "disable", pluginName)
		mustEqual(t, "plugin disabled", before, hostState(t, l.host))
	})
}

func testMainPath(t *testing.T, l *lab) {
	l.network(t, "web")
	l.container(t, "web", "--network", "web", "-p", "8080:80")
	l.container(t, "other", "--network", "web")
	address := l.ipv6(t, "web", "web")
	l.docker(t, "exec", "-d", "web", "httpd", "-p", "81", "-h", "/www") // nobody publishes it

	t.Run("from outside by its own address", func(t *testing.T) {
		for _, from := range []*testnet.Host{l.far, l.up} {
			mustFetch(t, from, bracket(address))
		}
	})
	t.Run("unpublished ports are silent", func(t *testing.T) {
		mustFetch(t, l.host, bracket(address)+":81") // it is there
		mustNotFetch(t, l.far, bracket(address)+":81", bracket(l.ipv6(t, "other", "web")), hostIPv4+":81", bracket(hostIPv6)+":8080")
		l.up.Run(t, "ip", "route", "add", "172.16.0.0/12", "via", hostIPv4)
		defer l.up.Run(t, "ip", "route", "del", "172.16.0.0/12")
		mustNotFetch(t, l.far, l.ipv4(t, "web", "web"), l.ipv4(t, "web", "web")+":81")
	})
	t.Run("published on IPv4", func(t *testing.T) {
		mustFetch(t, l.far, hostIPv4+":8080")
		mustFetch(t, l.host, hostIPv4+":8080")
		mustFetch(t, l.host, "127.0.0.1:8080")
		for _, container := range []string{"other", "web"} {
			if _, err := l.fetchIn(t, container, hostIPv4+":8080"); err != nil {
				t.Errorf("by the host's address (hairpin): %v", err)
			}
		}
	})
	t.Run("the host answers for it on the link", func(t *testing.T) {
		mac := strings.Fields(l.host.Run(t, "ip", "-brief", "link", "show", "dev", "eth0"))[2]
		if got := l.resolve(t, address); got != mac {
			t.Errorf("the router takes %s to be at %q, want the host's MAC %s", address, got, mac)
		}
	})
	t.Run("to the outside", func(t *testing.T) {
		serveClientAddress(t, l.far)
		for target, want := range map[string]string{bracket(farIPv6): address, farIPv4: hostIPv4} {
			if got, err := l.fetchIn(t, "web", target); err != nil || got != want {
				t.Errorf("%s sees the client %q (%v), want %s", target, got, err, want)
			}
		}
	})
	t.Run("neighbours", func(t *testing.T) {
		if _, err := l.fetchIn(t, "other", bracket(address)+":81"); err != nil {
			t.Errorf("containers of one network: %v", err)
		}
	})
	t.Run("status", func(t *testing.T) {
		out := l.v6net(t, "status")
		for _, want := range []string{address, "free part of " + linkPrefix, "8080->80/tcp", "NDP PROXY on eth0"} {
			if !strings.Contains(out, want) {
				t.Errorf("v6net status does not say %q:\n%s", want, out)
			}
		}
	})
	if l.engine != nil { // the program of a lab's Podman is in another root
		t.Run("doctor", func(t *testing.T) { testDoctor(t, l) })
	}
	t.Run("gone with the container", func(t *testing.T) {
		l.docker(t, "rm", "-f", "web")
		if mac := l.resolve(t, address); mac != "" {
			t.Errorf("somebody at %s still answers for %s", mac, address)
		}
		mustNotFetch(t, l.far, bracket(address), hostIPv4+":8080")
	})
}

// testDoctor: beside Docker's own rules, bridges and settings nothing is wrong, and
// nothing is what the kernel could not be asked.
func testDoctor(t *testing.T, l *lab) {
	report := l.doctor(t)
	if report.Worst != "" && report.Worst != doctor.Note || len(report.Unknown) > 0 {
		t.Errorf("of a host where all works v6net doctor says %+v", report)
	}
}

// examined is what v6net doctor has to say.
type examined struct {
	Worst    doctor.Level
	Findings []doctor.Finding
	Unknown  []doctor.Unknown
}

// doctor asks it, of the host and of this engine.
func (l *lab) doctor(t *testing.T) (report examined) {
	t.Helper()
	out, err := l.onEngine(t.Context(), t, "env", "DOCKER_HOST="+l.engine.Client().DaemonHost(), program(t), "doctor", "--json").Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("v6net doctor: %v", err)
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if (err != nil) != (report.Worst == doctor.Problem) {
		t.Errorf("v6net doctor ends with %v, and has found %s", err, out)
	}
	return report
}
