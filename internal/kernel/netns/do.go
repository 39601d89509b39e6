// Package netns enters other network namespaces and claims the daemon's own.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrGone says that a path leads to no network namespace: the file is missing,
// or it is the empty file that is left where one was unmounted. It matches
// [fs.ErrNotExist].
var ErrGone = fmt.Errorf("no network namespace here (any more): %w", fs.ErrNotExist)

// Do calls f inside the network namespace at path, such as an engine's sandbox
// key, and returns f's error. f runs on a thread of its own and must open its
// sockets there itself: goroutines that f starts are not in that namespace.
// The error matches [ErrGone] when the namespace has vanished.
func Do(path string, f func() error) error {
	target, err := open(path)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()

	// A goroutine of its own: should its thread be lost to the other namespace,
	// the two end together and the caller's thread never knew.
	err = fmt.Errorf("function inside network namespace %s did not return", path) // runtime.Goexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		if enterErr := enter(target, func() { err = f() }); enterErr != nil {
			err = fmt.Errorf("network namespace %s: %w", path, enterErr)
		}
	}()
	<-done
	return err
}

// enter calls f with this goroutine's thread inside the target namespace.
func enter(target netns.NsHandle, f func()) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open this thread's own: %w", err)
	}
	// Deferred, because f may leave by runtime.Goexit. A thread that cannot go
	// back stays locked, so that the runtime ends it with its goroutine instead
	// of running others in the wrong namespace.
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		_ = home.Close()
	}()
	if err := netns.Set(target); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	f()
	return nil
}

// open opens the namespace at path, having made sure that it is one of network.
func open(path string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return netns.None(), fmt.Errorf("open %s: %w", path, ErrGone)
	}
	if err != nil {
		return netns.None(), &os.PathError{Op: "open network namespace", Path: path, Err: err}
	}
	// NS_GET_NSTYPE (ioctl_ns(2)) fails with ENOTTY on anything but a namespace.
	if kind, err := unix.IoctlRetInt(int(ns), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		_ = ns.Close()
		return netns.None(), fmt.Errorf("open %s: %w", path, ErrGone)
	}
	return ns, nil
}
