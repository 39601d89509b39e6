package watch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File calls changed whenever a file has been written and closed, or replaced by
// another of its name, until ctx ends; then it returns nil. The file's folder must
// exist, the file need not.
func File(ctx context.Context, path string, changed func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = events.Close() }()
	// The folder: editors write another file, and rename it.
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		return fmt.Errorf("watch folder of %s: %w", path, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer stop()
	buffer := make([]byte, 1<<16)
	for {
		n, err := events.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		if names(buffer[:n], filepath.Base(path)) {
			changed()
		}
	}
}

// names reports whether events (inotify(7)) are about a name, or were too many.
func names(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		length := int(binary.NativeEndian.Uint32(events[12:]))
		if length > len(events)-unix.SizeofInotifyEvent {
			return true
		}
		text := events[unix.SizeofInotifyEvent:][:length]
		if mask&unix.IN_Q_OVERFLOW != 0 || string(bytes.TrimRight(text, "\x00")) == name {
			return true
		}
		events = events[unix.SizeofInotifyEvent+length:]
	}
	return false
}
