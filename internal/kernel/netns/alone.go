package netns

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// Alone calls f inside a new network namespace, with nothing in it but a loopback
// interface that is down, and returns f's error. The namespace ends when f has
// closed what it opened there; what [Do] says of f holds here, too.
func Alone(f func() error) error {
	err := errors.New("function inside a new network namespace did not return") // runtime.Goexit
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, openErr := netns.Get()
		if openErr != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("open this thread's network namespace: %w", openErr)
			return
		}
		// Put back, and not left to end with the goroutine: the process's first thread
		// does not end, and by it /proc knows the namespace of the process.
		defer func() {
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			_ = home.Close()
		}()
		made, newErr := netns.New()
		if newErr != nil {
			err = fmt.Errorf("make a network namespace: %w", newErr)
			return
		}
		defer func() { _ = made.Close() }()
		err = f()
	}()
	<-done
	return err
}
