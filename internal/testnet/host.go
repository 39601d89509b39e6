package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 looks for named namespaces, too.
const namespaceDir = "/run/netns"

// selfName is the name of the namespace that [Main] made for the process.
const selfName = "self"

// Host is a network namespace that plays a machine.
type Host struct {
	name string
	file string // of its namespace, below namespaceDir unless it is a whole path
}

// Self is the host that this process is.
func Self(t testing.TB) *Host {
	t.Helper()
	h := &Host{selfName, selfName}
	if _, err := os.Stat(h.Path()); err != nil {
		t.Fatalf("this package's TestMain must call testnet.Main: %v", err)
	}
	return h
}

// New makes a host with a loopback interface and no other. It goes, with every
// interface in it, at the end of the test. Tests that run at the same time may have
// hosts of one name.
func New(t testing.TB, name string) *Host {
	t.Helper()
	Self(t) // never make a namespace on the machine itself
	h := &Host{name, name}
	err := create(h)
	for i := 2; errors.Is(err, fs.ErrExist); i++ {
		h.file = fmt.Sprintf("%s-%d", name, i)
		err = create(h)
	}
	if err != nil {
		t.Fatalf("make host %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := netns.DeleteNamed(h.file); err != nil {
			t.Errorf("remove host %s: %v", name, err)
		}
	})
	return h
}

// At is a host that somebody else has made, a container say, by the file of its namespace.
func At(name, file string) *Host { return &Host{name, file} }

// Name is the name that the host was made with. `ip -n NAME` takes it, too, unless a
// host of another test had it already.
func (h *Host) Name() string { return h.name }

// Path is the file of the host's namespace.
func (h *Host) Path() string {
	if filepath.IsAbs(h.file) {
		return h.file
	}
	return filepath.Join(namespaceDir, h.file)
}

// Run runs a program in the host and returns what it wrote to both its
// outputs, without surrounding white space. The test fails with that text when
// the program does.
func (h *Host) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := h.Command(t.Context(), args...).CombinedOutput()
	out = bytes.TrimSpace(out)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", h.name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Command is a program to be run in the host. It is killed when ctx ends.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	// Not `ip netns exec`, which remounts /sys and hides the cgroups.
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.Path(), "--"}, args...)...)
}

// Do calls f on an operating system thread that is inside the host. Sockets
// opened by f stay in the host; goroutines started by f are not in it.
func (h *Host) Do(t testing.TB, f func()) {
	t.Helper()
	if err := h.enter(f); err != nil {
		t.Fatal(err)
	}
}

// DialContext connects from inside the host to a literal address, as
// [net.Dialer] does; it fits [net/http.Transport]. A name is not resolved: the
// resolver's goroutines would run outside the host.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	var dialErr error
	err := h.enter(func() {
		var d net.Dialer
		conn, dialErr = d.DialContext(ctx, network, address)
	})
	if err := errors.Join(err, dialErr); err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", address, h.name, err)
	}
	return conn, nil
}

// Sysctl sets a sysctl of the host, named by its path: "net/ipv6/conf/all/forwarding".
func (h *Host) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	h.Do(t, func() {
		if err := writeSysctl(name, value); err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
	})
}

func writeSysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// enter calls f inside the host, on this goroutine, so that f may end the test.
func (h *Host) enter(f func()) error {
	ns, err := netns.GetFromPath(h.Path())
	if err != nil {
		return fmt.Errorf("open host %s: %w", h.name, err)
	}
	defer func() { _ = ns.Close() }()
	leave, err := lockThread()
	if err != nil {
		return err
	}
	// Deferred: f may leave by runtime.Goexit.
	defer leave()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	f()
	return nil
}

// lockThread keeps this goroutine on its thread until leave puts that thread
// back into the namespace where it is now.
func lockThread() (leave func(), err error) {
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("open this thread's network namespace: %w", err)
	}
	return func() {
		defer func() { _ = origin.Close() }()
		// A thread that cannot go back stays locked and ends with its
		// goroutine instead of serving others in the wrong namespace.
		if netns.Set(origin) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// create makes the namespace of h and brings its loopback interface up.
func create(h *Host) error {
	leave, err := lockThread()
	if err != nil {
		return err
	}
	defer leave()
	ns, err := netns.NewNamed(h.file)
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	return raiseLoopback()
}

// nameOwnNamespace brings this process's loopback interface up and gives its
// namespace a name, so that [Self] is a host like any other.
func nameOwnNamespace() error {
	if err := raiseLoopback(); err != nil {
		return err
	}
	path := filepath.Join(namespaceDir, selfName)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind own network namespace to %s: %w", path, err)
	}
	return nil
}

func raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("raise lo: %w", err)
	}
	return nil
}
