package testengine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// root is the mount namespace that an engine and its clients run in: the tree
// of its release under a layer that takes every write, with a /run of its own.
// It outlives the engine, as live-restored containers have to.
type root struct{ ns *os.File }

// layout is where an engine keeps its files, inside and outside its root.
type layout struct{ dir string }

// layers holds what the root is put together from; nothing of it is shared.
func (l layout) layers() string { return filepath.Join(l.dir, "layers") }

// state is a tmpfs that the test sees, too, with all that is mounted in it.
func (l layout) state() string { return filepath.Join(l.dir, "state") }

// run is a tmpfs that is /run inside. What the engine mounts there stays
// inside: state is mounted below it, too, and must not appear in itself.
func (l layout) run() string { return filepath.Join(l.dir, "run") }

func (l layout) file(name string) string { return filepath.Join(l.state(), name) }

// makeLayout creates the directories of one engine below /run, which is a
// tmpfs of this process.
func makeLayout() (layout, error) {
	if err := os.MkdirAll("/run/testengine", 0o755); err != nil {
		return layout{}, fmt.Errorf("make directory of engines: %w", err)
	}
	// Short names: containerd's socket paths are near the limit of 108 bytes.
	dir, err := os.MkdirTemp("/run/testengine", "")
	if err != nil {
		return layout{}, fmt.Errorf("make directory of an engine: %w", err)
	}
	l := layout{dir}
	for _, sub := range []string{"layers/upper", "layers/work", "layers/root", "state", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return layout{}, fmt.Errorf("make directory of an engine: %w", err)
		}
	}
	if err := mount("tmpfs", l.state(), "tmpfs", 0, "mode=755"); err != nil {
		return layout{}, err
	}
	if err := mount("", l.state(), "", unix.MS_SHARED, ""); err != nil {
		return l, err
	}
	if err := os.Mkdir(l.file("home"), 0o755); err != nil {
		return l, fmt.Errorf("make home of the engine: %w", err)
	}
	return l, mount("tmpfs", l.run(), "tmpfs", 0, "mode=755")
}

// separate makes the engine's run-time folder a mount of its own, as /run is beside
// /var/lib: what is mounted on the mount that a plugin's root is on does not reach
// the plugin (rootfsParentMountPrivate in runc's libcontainer/rootfs_linux.go). It
// comes after makeRoot, which takes what is mounted in state along when it gives the
// old root up.
func (l layout) separate() error {
	if err := os.Mkdir(l.file("exec"), 0o755); err != nil {
		return fmt.Errorf("make the engine's run-time folder: %w", err)
	}
	return mount("tmpfs", l.file("exec"), "tmpfs", 0, "mode=755")
}

// remove unmounts and deletes everything below the layout's directory.
func (l layout) remove() error {
	for _, dir := range []string{l.state(), l.run()} {
		// Not a mount point if the engine came only half into being.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove the engine's directory: %w", err)
	}
	return nil
}

// makeRoot builds a mount namespace from the tree at lower. The directories in
// visible appear in it at their own paths, as they are outside.
func makeRoot(lower string, l layout, visible []string) (*root, error) {
	var ns *os.File
	err := onSpareThread(func() (err error) {
		ns, err = furnish(lower, l, visible)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make the engine's root from %s: %w", lower, err)
	}
	return &root{ns}, nil
}

// onSpareThread calls f on a thread that ends afterwards, whatever f did to it.
func onSpareThread(f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked, so that the thread ends with the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return
		}
		// This is the first thread, which never ends and stands for the
		// process in /proc. Another goroutine has to get another one.
		defer runtime.UnlockOSThread()
		done <- onSpareThread(f)
	}()
	return <-done
}

// furnish moves this thread into a new mount namespace, arranges that and
// returns it.
func furnish(lower string, l layout, visible []string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("new mount namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("open new mount namespace: %w", err)
	}
	if err := arrange(lower, l, visible); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

func arrange(lower string, l layout, visible []string) error {
	layers := func(name string) string { return filepath.Join(l.layers(), name) }
	top := layers("root")
	data := "lowerdir=" + lower + ",upperdir=" + layers("upper") + ",workdir=" + layers("work")
	if err := mount("overlay", top, "overlay", 0, data); err != nil {
		return err
	}
	// Whatever --exec-root says, an engine has its plugins' sockets in /run.
	if err := mount(l.run(), filepath.Join(top, "run"), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, dir := range append([]string{"/proc", "/sys", "/dev", l.state()}, visible...) {
		target := filepath.Join(top, dir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("make mount point %s: %w", target, err)
		}
		if err := mount(dir, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	// Swap the roots in place: the old one ends up on top of the new one and
	// is taken off.
	old, err := os.Open("/")
	if err != nil {
		return fmt.Errorf("open the old root: %w", err)
	}
	defer func() { _ = old.Close() }()
	if err := unix.Chdir(top); err != nil {
		return fmt.Errorf("change to %s: %w", top, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root to %s: %w", top, err)
	}
	if err := unix.Fchdir(int(old.Fd())); err != nil {
		return fmt.Errorf("change to the old root: %w", err)
	}
	// What is mounted in the state of other engines stays there.
	if err := mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("change to the new root: %w", err)
	}
	return nil
}

// path is a name of the namespace for nsenter, good while the process lives.
func (r *root) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), r.ns.Fd()) }

func (r *root) close() error { return r.ns.Close() }

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}
