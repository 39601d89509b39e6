package testengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// podmanRoot is the tree that has Podman: Debian 13's, or in the VM the machine's own.
func podmanRoot() string {
	if root := os.Getenv("V6NET_PODMAN_ROOT"); root != "" {
		return root
	}
	return filepath.Join(cacheDir(), "trixie")
}

// podmanFiles configure Podman for a machine without systemd, with cgroups of either
// version, and without a registry.
var podmanFiles = map[string]string{
	"etc/containers/containers.conf": `[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
pids_limit = 0
`,
	"etc/containers/policy.json":  `{"default": [{"type": "insecureAcceptAnything"}]}` + "\n",
	"etc/containers/storage.conf": "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/var/lib/containers/storage\"\n",
}

// Podman is an installation with an empty data directory of its own. There is no
// daemon: each command is one run.
type Podman struct {
	host   *testnet.Host
	layout layout
	root   *root
	before *network
}

// StartPodman makes an installation on a host. The plugin, a netavark plugin's
// program, is in it under the name v6net. At the end of the test all of it goes:
// containers, interfaces and rules of its host.
func StartPodman(t testing.TB, host *testnet.Host, plugin string) *Podman {
	t.Helper()
	p := &Podman{host: host}
	t.Cleanup(func() { p.cleanUp(t) })
	if err := p.prepare(t.Context(), plugin); err != nil {
		t.Fatalf("prepare Podman: %v", err)
	}
	return p
}

func (p *Podman) prepare(ctx context.Context, plugin string) error {
	tree := podmanRoot()
	if _, err := os.Stat(filepath.Join(tree, "usr/bin/podman")); err != nil {
		return fmt.Errorf("Podman is not installed, run scripts/deps engine: %w", err)
	}
	var err error
	if p.before, err = observeNetwork(ctx, p.host); err != nil {
		return err
	}
	if p.layout, err = makeLayout(); err != nil {
		return err
	}
	for name, text := range podmanFiles {
		path := filepath.Join(p.layout.layers(), "upper", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("configure Podman: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("configure Podman: %w", err)
		}
	}
	folder := filepath.Join(p.layout.layers(), "upper/usr/lib/netavark")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("install plugin: %w", err)
	}
	if err := copyProgram(plugin, filepath.Join(folder, "v6net")); err != nil {
		return fmt.Errorf("install plugin: %w", err)
	}
	module, err := moduleDir()
	if err != nil {
		return err
	}
	if p.root, err = makeRoot(tree, p.layout, []string{os.TempDir(), module}); err != nil {
		return err
	}
	// Its runtime, crun, refuses the cgroups of a machine that has some of either
	// version, and does without where it sees none.
	if out, err := p.Run(ctx, "/", "mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"); err != nil {
		return fmt.Errorf("hide cgroups: %w: %s", err, out)
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Command is a program in Podman's root and on its host, in directory dir.
func (p *Podman) Command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	enter := []string{"--mount=" + p.root.path(), "--", "env", "-C", dir}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + p.host.Path()}, append(enter, args...)...)...)
	cmd.Env = []string{systemPath, "LC_ALL=C.UTF-8", "HOME=" + p.layout.file("home"), "PODMAN_IGNORE_CGROUPSV1_WARNING=1"}
	return cmd
}

// CLI runs podman and returns what it wrote to both outputs, without surrounding
// white space. The test fails when the command does.
func (p *Podman) CLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := p.Try(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is CLI for commands that may fail; the error holds their output.
func (p *Podman) Try(ctx context.Context, args ...string) (string, error) {
	return p.Run(ctx, "/", append([]string{"podman"}, args...)...)
}

// Run runs a program in Podman's root, in directory dir.
func (p *Podman) Run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := p.Command(ctx, dir, args...)
	// Files and no pipes: conmon keeps what it got, and would be waited for.
	output, err := os.CreateTemp("", "podman-*")
	if err != nil {
		return "", fmt.Errorf("output of podman: %w", err)
	}
	defer func() { _ = os.Remove(output.Name()); _ = output.Close() }()
	cmd.Stdout, cmd.Stderr = output, output
	err = cmd.Run()
	out, readErr := os.ReadFile(output.Name())
	if readErr != nil {
		return "", fmt.Errorf("output of podman: %w", readErr)
	}
	out = bytes.TrimSpace(out)
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Inspect is what `podman inspect -f FORMAT CONTAINER` prints.
func (p *Podman) Inspect(t testing.TB, container, format string) string {
	t.Helper()
	return p.CLI(t, "inspect", "-f", format, container)
}

// Image imports the image of [Engine.Image] and returns its name.
func (p *Podman) Image(t testing.TB) string {
	t.Helper()
	layer, err := imageLayer()
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	tar, err := io.ReadAll(layer)
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	path := p.layout.file("image.tar")
	if err := os.WriteFile(path, tar, 0o644); err != nil {
		t.Fatalf("make image: %v", err)
	}
	p.CLI(t, "import", "--change", `CMD ["sh", "-c", "`+imageCommand+`"]`, path, "localhost/"+imageName)
	return "localhost/" + imageName
}

// RunDir is Podman's /run.
func (p *Podman) RunDir() string { return p.layout.run() }

// Root is the process's name of Podman's mount namespace, for nsenter.
func (p *Podman) Root() string { return p.root.path() }

// cleanUp undoes prepare, as far as it came.
func (p *Podman) cleanUp(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	if p.root != nil {
		if out, err := p.Try(ctx, "rm", "-fa", "-t", "0"); err != nil {
			errs = append(errs, err)
		} else if out != "" {
			t.Logf("containers removed at the end: %s", out)
		}
		errs = append(errs, p.root.close())
	}
	if p.layout.dir != "" {
		errs = append(errs, p.layout.remove())
	}
	if p.before != nil {
		errs = append(errs, p.before.restore(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		t.Errorf("remove Podman: %v", err)
	}
}
