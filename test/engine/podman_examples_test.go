//go:build engine

package engine_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Podman's examples, as they stand but for their images.
func TestPodmanExamples(t *testing.T) {
	onPodman(t, func(t *testing.T, l *lab, _ *podmanDaemon) {
		l.each(t, []part{
			{"podman-compose", func(t *testing.T, l *lab) { testPodmanCompose(t, l, "podman-compose") }},
			{"docker-compose", func(t *testing.T, l *lab) { l.servePodman(t); testPodmanCompose(t, l, "docker", "compose") }},
			{"quadlet", testQuadlet},
		})
	})
}

// podmanSocket is where Podman serves Docker's API.
const podmanSocket = "/run/podman/podman.sock"

// servePodman serves Podman's Docker-compatible API until the end of the test.
func (l *lab) servePodman(t *testing.T) {
	t.Helper()
	service := l.podman.Command(context.Background(), "/", "sh", "-c", "mkdir -p /run/podman && exec podman system service --time=0 unix://"+podmanSocket)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		_ = service.Wait()
	})
	eventually(t, "Podman's API", func() bool {
		return l.host.Command(t.Context(), "curl", "-sf", "--unix-socket", filepath.Join(l.podman.RunDir(), "podman/podman.sock"), "http://podman/_ping").Run() == nil
	})
}

func testPodmanCompose(t *testing.T, l *lab, program ...string) {
	dir, err := filepath.Abs("../../examples/podman-compose")
	if err != nil {
		t.Fatal(err)
	}
	compose := func(ctx context.Context, args ...string) (string, error) {
		env := []string{"env", "DOCKER_HOST=unix://" + podmanSocket, "IMAGE=" + l.image, "DB_IMAGE=" + l.image}
		return l.podman.Run(ctx, dir, append(append(append(env, program...), "-p", "example"), args...)...)
	}
	t.Cleanup(func() {
		if out, err := compose(context.Background(), "down", "-t", "1"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		l.discard(t, "network", "rm", "example_front", "example_back") // podman-compose keeps them
		eventually(t, "the removal of the networks", func() bool {
			return !l.hasNetwork(context.Background(), t, "example_front") && !l.hasNetwork(context.Background(), t, "example_back")
		})
	})
	out, err := compose(t.Context(), "up", "-d")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	container := func(service string) string {
		t.Helper()
		ids := strings.Fields(l.docker(t, "ps", "-q", "--filter", "label=com.docker.compose.service="+service))
		if len(ids) != 1 {
			t.Fatalf("service %s has the containers %q, want one:\n%s\n%s", service, ids, out, l.docker(t, "ps", "-a"))
		}
		return ids[0]
	}
	web, db := container("web"), container("db")
	mustFetch(t, l.far, bracket(l.ipv6(t, web, "example_front")))
	mustFetch(t, l.far, hostIPv4+":8080")
	address := l.ipv6(t, db, "example_back")
	if !strings.HasPrefix(address, "fd") {
		t.Errorf("the database has %s, want a unique local address: labels are options", address)
	}
	if _, err := l.fetchIn(t, web, bracket(address)); err != nil {
		t.Errorf("from the web server to the database: %v", err)
	}
	if out := l.docker(t, "exec", web, "nslookup", "-type=aaaa", "db.dns.podman"); !strings.Contains(out, address) {
		t.Errorf("the web server does not find the database by name:\n%s", out)
	}
	mustNotFetch(t, l.far, bracket(address))
}

// What Podman's generator makes of the units is what systemd would run.
func testQuadlet(t *testing.T, l *lab) {
	units := t.TempDir()
	for _, name := range []string{"front.network", "web.container"} {
		text, err := os.ReadFile(filepath.Join("../../examples/quadlet", name))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "docker.io/library/nginx:alpine", l.image))
		if err := os.WriteFile(filepath.Join(units, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := l.podman.Run(t.Context(), "/", "env", "QUADLET_UNIT_DIRS="+units, "/usr/libexec/podman/quadlet", "-dryrun")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var commands []string
	for line := range strings.Lines(out) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
			// There is no systemd here whose cgroup could be split.
			commands = append(commands, strings.NewReplacer("--cgroups=split", "--cgroups=disabled", "%t/%N", "/run/web").Replace(command))
		}
	}
	if len(commands) != 2 || !strings.Contains(commands[0], "network create") {
		t.Fatalf("the units come to %q, want a network and a container:\n%s", commands, out)
	}
	t.Cleanup(func() {
		l.discard(t, "rm", "-f", "-t", "0", "web")
		l.discard(t, "network", "rm", "systemd-front")
		eventually(t, "the removal of the network", func() bool { return !l.hasNetwork(context.Background(), t, "systemd-front") })
	})
	for _, command := range commands {
		if out, err := l.podman.Run(t.Context(), "/", "env", "-u", "NOTIFY_SOCKET", "sh", "-c", command); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "systemd-front")))
	mustFetch(t, l.far, hostIPv4+":8080")
}

// The units in packaging are what systemd understands.
func TestSystemdUnits(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"v6net.service", "v6net.socket"} {
		text, err := os.ReadFile(filepath.Join("../../packaging/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "/usr/bin/v6net", program(t)))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", filepath.Join(dir, "v6net.service"), filepath.Join(dir, "v6net.socket")).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
