package watch

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File tells of changes of one file: that it has been written and closed, or
// replaced by another of its name.
type File struct {
	path   string
	events *os.File
}

// OpenFile begins to watch a file: what happens to it from now on Run tells, so who
// reads it after that misses nothing. The file's folder must exist, the file need not.
func OpenFile(path string) (*File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	// The folder: editors write another file, and rename it.
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch folder of %s: %w", path, err)
	}
	return &File{path, os.NewFile(uintptr(fd), "inotify")}, nil
}

// Close ends the watch, and a Run.
func (f *File) Close() error { return f.events.Close() }

// Run calls changed for every change until ctx ends; then it returns nil. It closes
// the watch.
func (f *File) Run(ctx context.Context, changed func()) error {
	defer func() { _ = f.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	buffer := make([]byte, 1<<16)
	for {
		n, err := f.events.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", f.path, err)
		}
		if names(buffer[:n], filepath.Base(f.path)) {
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
