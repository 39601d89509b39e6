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
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// Systemd is a machine's systemd on a test's host: the process 1 of a namespace of its
// own, with this machine's files under a layer that takes every write. It starts no
// unit of the machine's.
type Systemd struct {
	host   *testnet.Host
	layout layout
	root   *root
	cgroup *cgroup
	module string
	init   *exec.Cmd
}

// boot makes this process, 1 in its namespace already, a systemd in a cgroup of its own.
const boot = `
echo $$ >"$1/cgroup.procs"
exec unshare --cgroup --mount --ipc --uts --propagation private sh -euc '
	mount -t proc proc /proc
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount --make-rshared / # as systemd does where it is in no container
	rm -rf /usr/lib/systemd/system/*.wants /etc/systemd/system/*.wants
	export container=other
	exec /usr/lib/systemd/systemd --system --unit=lab.target --log-target=console'`

// StartSystemd starts systemd. It ends, with all that it runs, at the end of the test.
// The folders in shared are the machine's, too, at their own paths.
func StartSystemd(t testing.TB, host *testnet.Host, shared ...string) *Systemd {
	t.Helper()
	s := &Systemd{host: host}
	t.Cleanup(func() { s.cleanUp(t) })
	if err := s.start(shared); err != nil {
		t.Fatalf("start systemd: %v", err)
	}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		// Where there is no systemd yet systemctl does nothing, and ends well.
		if out, err := s.Run(t.Context(), "systemctl", "is-active", "lab.target"); out == "active" {
			return s
		} else if time.Now().After(deadline) {
			t.Fatalf("systemd does not come up: %q, %v", out, err)
		}
	}
}

func (s *Systemd) start(shared []string) (err error) {
	if s.module, err = moduleDir(); err != nil {
		return err
	}
	if s.layout, err = makeLayout(); err != nil {
		return err
	}
	units := filepath.Join(s.layout.layers(), "upper/etc/systemd/system")
	if err := os.MkdirAll(units, 0o755); err != nil {
		return fmt.Errorf("make folder of units: %w", err)
	}
	if err := os.WriteFile(filepath.Join(units, "lab.target"), []byte("[Unit]\nDefaultDependencies=no\n"), 0o644); err != nil {
		return fmt.Errorf("write unit: %w", err)
	}
	if s.root, err = makeRoot("/", s.layout, append(shared, s.module)); err != nil {
		return err
	}
	if s.cgroup, err = makeCgroup(); err != nil {
		return err
	}
	own := ""
	for _, dir := range s.cgroup.dirs {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.subtree_control")); err == nil { // of version 2
			own = dir
		}
	}
	if own == "" {
		return errors.New("no cgroup hierarchy of version 2 is mounted")
	}
	s.init = exec.Command("nsenter", "--net="+s.host.Path(), "--mount="+s.root.path(), "--", "sh", "-euc", boot, "sh", own)
	s.init.Env = []string{systemPath}
	s.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	return s.init.Start()
}

// Run runs a program beside systemd, in the folder of this module, and answers what it
// wrote to its standard output. The error holds all that it wrote.
func (s *Systemd) Run(ctx context.Context, args ...string) (string, error) {
	return s.RunWith(ctx, "", args...)
}

// RunWith is Run with an input.
func (s *Systemd) RunWith(ctx context.Context, input string, args ...string) (string, error) {
	enter := []string{"--target", fmt.Sprint(s.init.Process.Pid), "--mount", "--pid", "--net", "--cgroup", "--", "env", "-C", s.module}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{systemPath, "LC_ALL=C.UTF-8", "SYSTEMD_PAGER="}
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return strings.TrimSpace(out.String()), err
}

// cleanUp undoes start, as far as it came.
func (s *Systemd) cleanUp(t testing.TB) {
	var errs []error
	if s.init != nil && s.init.Process != nil {
		errs = append(errs, s.init.Process.Kill()) // and so all of its namespace
		_ = s.init.Wait()
	}
	if s.cgroup != nil {
		errs = append(errs, s.cgroup.remove())
	}
	if s.root != nil {
		errs = append(errs, s.root.close())
	}
	if s.layout.dir != "" {
		errs = append(errs, s.layout.remove())
	}
	if err := errors.Join(errs...); err != nil {
		t.Errorf("remove systemd: %v", err)
	}
}
