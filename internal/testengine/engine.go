package testengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/docker/docker/client"

	"github.com/v6net/v6net/internal/testnet"
)

const (
	startTimeout = 5 * time.Minute // an emulated machine takes one, a busy one more
	stopTimeout  = 60 * time.Second
	// systemPath is where Debian has its programs: what lies in /usr/local is the
	// machine's, perhaps another release of the docker command.
	systemPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
	// logTail is how much of a log a failed test shows.
	logTail = 8 << 10
)

// Options say which engine is started and how. The zero value is the first of
// Releases on the test's own host, without userland proxy.
type Options struct {
	Release       string        // one of Releases
	Host          *testnet.Host // whose network it uses
	LiveRestore   bool          // containers outlive the daemon
	UserlandProxy bool          // docker-proxy for published ports
	Args          []string      // more arguments of dockerd
}

// Engine is a running dockerd, and a containerd for it, with an empty data
// directory of its own.
type Engine struct {
	options    Options
	release    release
	layout     layout
	root       *root
	cgroup     *cgroup
	network    *network
	client     *client.Client
	containerd *process // nil while stopped
	process    *process // dockerd; nil while stopped
}

// Start starts an engine and waits until it answers. At the end of the test it
// is stopped and everything of it removed: containers, plugins, interfaces,
// rules (all packet filter rules of its host, whoever made them) and cgroups.
// A failed test shows the end of its log.
func Start(t testing.TB, options Options) *Engine {
	t.Helper()
	if options.Host == nil {
		options.Host = testnet.Self(t)
	}
	e := &Engine{options: options}
	// Before prepare: what that made until it failed is to be removed, too.
	t.Cleanup(func() { e.cleanUp(t) })
	if err := e.prepare(t.Context()); err != nil {
		t.Fatalf("prepare engine %s: %v", options.Release, err)
	}
	e.launch(t)
	return e
}

// prepare makes all that outlives a restart of the engine.
func (e *Engine) prepare(ctx context.Context) error {
	var err error
	if e.release, err = findRelease(e.options.Release); err != nil {
		return err
	}
	if e.network, err = observeNetwork(ctx, e.options.Host); err != nil {
		return err
	}
	if e.cgroup, err = makeCgroup(); err != nil {
		return err
	}
	if e.layout, err = makeLayout(); err != nil {
		return err
	}
	// Without it the engine would read the machine's /etc/docker/daemon.json.
	if err := os.WriteFile(e.layout.file("daemon.json"), []byte("{}\n"), 0o644); err != nil {
		return fmt.Errorf("write the engine's configuration: %w", err)
	}
	if err := e.layout.configureContainerd(); err != nil {
		return err
	}
	module, err := moduleDir()
	if err != nil {
		return err
	}
	if e.root, err = makeRoot(e.release.root, e.layout, []string{os.TempDir(), module}); err != nil {
		return err
	}
	if err := e.layout.separate(); err != nil {
		return err
	}
	e.client, err = client.NewClientWithOpts(client.WithHost(e.endpoint()), client.WithAPIVersionNegotiation())
	if err != nil {
		return fmt.Errorf("make Docker client: %w", err)
	}
	return nil
}

// moduleDir is the directory of the module that the test belongs to: `go test`
// runs it in the directory of its package.
func moduleDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("find module: no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// launch starts containerd and dockerd and waits until they answer.
func (e *Engine) launch(t testing.TB) {
	t.Helper()
	args := []string{
		e.release.dockerd,
		"--host=" + e.endpoint(),
		"--containerd=" + e.layout.containerdSocket(),
		"--config-file=" + e.layout.file("daemon.json"),
		"--data-root=" + e.layout.file("data"),
		"--exec-root=" + e.layout.file("exec"),
		"--pidfile=" + e.layout.file("docker.pid"),
		"--cgroup-parent=/" + e.cgroup.name,
		"--exec-opt=native.cgroupdriver=cgroupfs",
		fmt.Sprintf("--userland-proxy=%t", e.options.UserlandProxy),
		fmt.Sprintf("--live-restore=%t", e.options.LiveRestore),
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := e.startContainerd(ctx); err != nil {
		t.Fatalf("engine %s: %v", e.options.Release, err)
	}
	// Not t.Context: that ends before the cleanup, which wants a clean stop.
	cmd := e.command(context.Background(), "/", append(args, e.options.Args...)...)
	process, err := startProcess("dockerd", cmd, e.layout.file("dockerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	e.process = process
	if err := process.await(ctx, e.ping); err != nil {
		t.Fatalf("engine %s: %v", e.options.Release, err)
	}
	version, err := e.client.ServerVersion(t.Context())
	if err != nil {
		t.Fatalf("ask the engine for its version: %v", err)
	}
	if !strings.HasPrefix(version.Version, e.release.version) {
		t.Fatalf("engine is %s, want %s", version.Version, e.release.version)
	}
}

func (e *Engine) ping(ctx context.Context) error {
	_, err := e.client.Ping(ctx)
	return err
}

func (e *Engine) endpoint() string { return "unix://" + e.layout.file("docker.sock") }

// command is a program in the engine's root and on its host, in directory dir.
func (e *Engine) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	enter := []string{"--mount=" + e.root.path(), "--", "env", "-C", dir}
	cmd := exec.CommandContext(ctx, "nsenter",
		append([]string{"--net=" + e.options.Host.Path()}, append(enter, args...)...)...)
	cmd.Env = []string{systemPath, "LC_ALL=C.UTF-8", "HOME=" + e.layout.file("home"), "DOCKER_HOST=" + e.endpoint()}
	return cmd
}

// Client talks to the engine's API in a version that both know.
func (e *Engine) Client() *client.Client { return e.client }

// Host is the host whose network the engine uses.
func (e *Engine) Host() *testnet.Host { return e.options.Host }

// IPv6Only says whether the engine knows networks without IPv4, which came with
// release 28: `docker network create --ipv4=false`.
func (e *Engine) IPv6Only() bool { return e.release.ipv6Only }

// PrefersDualStack reports whether a container's gateway is on a network with both
// families, if it has one, whatever the networks' priorities say (a FIXME of moby
// 28's libnetwork/default_gateway.go, selectGatewayEndpoint).
func (e *Engine) PrefersDualStack() bool { return e.release.prefers }

// KnowsNFTables reports whether the engine can have its own rules in nftables:
// `dockerd --firewall-backend=nftables`, of release 29.
func (e *Engine) KnowsNFTables() bool { return e.release.nftables }

// StateDir is the engine's directory, with its data in data/, its run-time
// state in exec/ and docker.sock. Mounts made by the engine are visible there.
func (e *Engine) StateDir() string { return e.layout.state() }

// RunDir is the engine's /run.
func (e *Engine) RunDir() string { return e.layout.run() }

// PID is the process ID of dockerd.
func (e *Engine) PID() int { return e.process.cmd.Process.Pid }

// Restart stops the engine, if it runs, and starts it again with its data.
func (e *Engine) Restart(t testing.TB) {
	t.Helper()
	if e.process != nil {
		e.Stop(t)
	}
	e.launch(t)
}

// RestartWith is Restart with other arguments of dockerd, in place of Options.Args.
func (e *Engine) RestartWith(t testing.TB, args ...string) {
	t.Helper()
	e.options.Args = args
	e.Restart(t)
}

// Stop ends dockerd and containerd as a service manager does.
func (e *Engine) Stop(t testing.TB) {
	t.Helper()
	if err := e.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// Kill ends dockerd and containerd at once. Containers and plugins go on running.
func (e *Engine) Kill(t testing.TB) {
	t.Helper()
	if err := e.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func (e *Engine) end(sig syscall.Signal) error {
	if e.process == nil {
		return errors.New("the engine does not run")
	}
	err := e.process.end(sig, stopTimeout)
	e.process = nil
	return errors.Join(err, e.endContainerd(sig))
}

func (e *Engine) endContainerd(sig syscall.Signal) error {
	err := e.containerd.end(sig, stopTimeout)
	e.containerd = nil
	return err
}

// CLI runs the release's own docker command and returns what it wrote to both
// outputs, without surrounding white space. The test fails when the command
// does.
func (e *Engine) CLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := e.Try(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is CLI for commands that may fail; the error holds their output.
func (e *Engine) Try(ctx context.Context, args ...string) (string, error) {
	return e.run(ctx, "/", append([]string{"docker"}, args...)...)
}

// Inspect is what `docker inspect -f FORMAT CONTAINER` prints. It asks by the
// API: the docker command takes a second to start in an emulated VM.
func (e *Engine) Inspect(t testing.TB, container, format string) string {
	t.Helper()
	parsed, err := template.New(container).Parse(format)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.client.ContainerInspect(t.Context(), container)
	if err != nil {
		t.Fatalf("inspect container: %v", err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, answer); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

// Compose runs the release's own docker compose in a directory, which has to be
// in the module or the test's temporary directory.
func (e *Engine) Compose(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := e.TryCompose(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryCompose is Compose for commands that may fail; the error holds their output.
func (e *Engine) TryCompose(ctx context.Context, dir string, args ...string) (string, error) {
	return e.run(ctx, dir, append(append([]string{}, e.release.compose...), args...)...)
}

func (e *Engine) run(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := e.command(ctx, dir, args...).CombinedOutput()
	out = bytes.TrimSpace(out)
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Logs is what the engine has logged since Start, over all restarts.
func (e *Engine) Logs(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(e.layout.file("dockerd.log"))
	if err != nil {
		t.Fatalf("read the engine's log: %v", err)
	}
	return string(log)
}

// cleanUp undoes prepare and launch, as far as they came.
func (e *Engine) cleanUp(t testing.TB) {
	if t.Failed() && e.layout.dir != "" {
		for _, name := range []string{"containerd.log", "dockerd.log"} {
			log, _ := os.ReadFile(e.layout.file(name)) // there may be none yet
			t.Logf("end of the engine's %s:\n%s", name, log[max(0, len(log)-logTail):])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	switch {
	case e.process != nil:
		errs = append(errs, e.end(syscall.SIGTERM))
	case e.containerd != nil: // dockerd has not come so far
		errs = append(errs, e.endContainerd(syscall.SIGTERM))
	}
	if e.client != nil {
		errs = append(errs, e.client.Close())
	}
	if e.cgroup != nil {
		errs = append(errs, e.cgroup.remove())
	}
	if e.root != nil {
		errs = append(errs, e.root.close())
	}
	if e.layout.dir != "" {
		errs = append(errs, e.layout.remove())
	}
	if e.network != nil {
		errs = append(errs, e.network.restore(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		t.Errorf("remove engine %s: %v", e.options.Release, err)
	}
}
