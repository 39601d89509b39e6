//go:build engine

package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// twoPorts serves HTTP on port 80, and on port 81, which nobody publishes.
var twoPorts = []string{"sh", "-c", "httpd -h /www; httpd -p 81 -h /www; trap exit TERM; tail -f /dev/null & wait"}

// docker runs the engine's CLI, which is podman where that is the engine.
func (l *lab) docker(t *testing.T, args ...string) string {
	t.Helper()
	return l.cli.CLI(t, args...)
}

// network makes a network of v6net until the end of the test.
func (l *lab) network(t *testing.T, name string, args ...string) {
	t.Helper()
	l.anyNetwork(t, name, l.ours(args...)...)
}

// refused makes a network of v6net that is not to come about, and returns what
// the engine says to that.
func (l *lab) refused(t *testing.T, args ...string) string {
	t.Helper()
	command := append(append([]string{"network", "create"}, l.ours(args...)...), "refused")
	out, err := l.cli.Try(t.Context(), command...)
	if err == nil {
		l.discard(t, "network", "rm", "refused")
		t.Errorf("%q is not refused", command)
	}
	return out
}

// ours is arguments for a network of v6net's.
func (l *lab) ours(args ...string) []string {
	if l.podman != nil {
		return append([]string{"-d", "v6net", "--ipv6"}, podmanOptions(args)...)
	}
	return append([]string{"-d", pluginName, "--ipam-driver", pluginName, "--ipv6"}, args...)
}

// anyNetwork makes a network of any driver until the end of the test.
func (l *lab) anyNetwork(t *testing.T, name string, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		l.discard(t, "network", "rm", name)
		if l.podman != nil { // which does not tell
			eventually(t, "removal of network "+name, func() bool { return !l.hasNetwork(context.Background(), t, name) })
		}
	})
	l.docker(t, append(append([]string{"network", "create"}, args...), name)...)
}

// container runs a container until the end of the test. Its command, if args
// has none, serves HTTP on port 80.
func (l *lab) container(t *testing.T, name string, args ...string) {
	t.Helper()
	l.containerWith(t, name, nil, args...)
}

// containerWith is container with a command.
func (l *lab) containerWith(t *testing.T, name string, command []string, args ...string) {
	t.Helper()
	t.Cleanup(func() { l.discard(t, "rm", "-f", name) })
	args = append([]string{"run", "-d", "--name", name}, args...)
	l.docker(t, append(append(args, l.image), command...)...)
}

// discard removes something at the end of a test, if the test has not.
func (l *lab) discard(t *testing.T, args ...string) {
	t.Helper()
	out, err := l.cli.Try(context.Background(), args...)
	if err != nil && !strings.Contains(strings.ToLower(out), "no such") && !strings.Contains(out, "not found") {
		t.Error(err)
	}
}

// inspect is one value of a container, as a template of `docker inspect` gives it.
func (l *lab) inspect(t *testing.T, container, template string) string {
	t.Helper()
	return l.cli.Inspect(t, container, template)
}

// ipv6 and ipv4 are a container's addresses on a network, empty if it is not there.
func (l *lab) ipv6(t *testing.T, container, network string) string {
	t.Helper()
	return l.addressOn(t, container, network, "GlobalIPv6Address")
}

func (l *lab) ipv4(t *testing.T, container, network string) string {
	t.Helper()
	return l.addressOn(t, container, network, "IPAddress")
}

func (l *lab) addressOn(t *testing.T, container, network, field string) string {
	t.Helper()
	return l.inspect(t, container, fmt.Sprintf("{{range $name, $it := .NetworkSettings.Networks}}{{if eq $name %q}}{{$it.%s}}{{end}}{{end}}", network, field))
}

// in runs a program of the host's in the network of a container.
func (l *lab) in(t *testing.T, container string, args ...string) string {
	t.Helper()
	out, err := l.try(t, container, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is in for programs that may fail; the error holds their output.
func (l *lab) try(t *testing.T, container string, args ...string) (string, error) {
	t.Helper()
	out, err := l.host.Command(t.Context(), append(l.enter(t, container), args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w\n%s", container, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// enter is the start of a command that runs in the network of a container.
func (l *lab) enter(t *testing.T, container string) []string {
	t.Helper()
	// Container and test share the process namespace.
	return []string{"nsenter", "--net=/proc/" + l.inspect(t, container, "{{.State.Pid}}") + "/ns/net", "--"}
}

// status is what `v6net status` says.
func (l *lab) status(t *testing.T) spec.Status {
	t.Helper()
	// On a busy machine stderr says that the daemon is waited for.
	cmd := l.onEngine(t.Context(), t, program(t), "status", "--json")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("v6net status --json: %v\n%s", err, said.String())
	}
	var status spec.Status
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatalf("read v6net status: %v", err)
	}
	return status
}

// subnet is the IPv6 subnet of a network, as v6net has it.
func (l *lab) subnet(t *testing.T, network string) spec.Subnet {
	t.Helper()
	id := l.networkID(t, network)
	for _, n := range l.status(t).Networks {
		if n.ID == id {
			return n.IPv6[0]
		}
	}
	t.Fatalf("v6net does not know network %s", network)
	return spec.Subnet{}
}

// networkID is a network's ID.
func (l *lab) networkID(t *testing.T, network string) string {
	t.Helper()
	format := "{{.Id}}"
	if l.podman != nil {
		format = "{{.ID}}"
	}
	return l.docker(t, "network", "inspect", "-f", format, network)
}

// onEngine is a program where the engine runs: on its host, with its files.
func (l *lab) onEngine(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	files := ""
	if l.podman != nil {
		files = l.podman.Root()
	} else {
		files = fmt.Sprintf("/proc/%d/ns/mnt", l.engine.PID())
	}
	return l.host.Command(ctx, append([]string{"nsenter", "--mount=" + files, "--"}, args...)...)
}

// v6net runs v6net's own program as the operator does: it finds the plugin's
// daemon by itself.
func (l *lab) v6net(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.onEngine(t.Context(), t, append([]string{program(t)}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("v6net %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
