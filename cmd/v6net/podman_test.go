package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A folder that comes and goes is watched all the same.
func TestWatchFolder(t *testing.T) {
	top := t.TempDir()
	folder := filepath.Join(top, "containers/networks")
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		ended <- folderWatch{folder: folder, log: slog.New(slog.DiscardHandler), open: fsnotify.NewWatcher, changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		}}.run(ctx)
	}()
	<-started
	// Again and again, since nothing says that it is watched by now.
	notice := func(what string, do func() error) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			if err := do(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-changed:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not noticed", what)
			}
		}
	}
	write := func() error {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(folder, "web.json"), []byte("{}"), 0o644)
	}
	// What is removed was made just before: the watch may have come after the last time.
	remove := func(path string) func() error {
		return func() error {
			if err := write(); err != nil {
				return err
			}
			return os.RemoveAll(path)
		}
	}
	for range 2 {
		notice("a file that is written", write)
		notice("a file that is removed", remove(filepath.Join(folder, "web.json")))
		notice("the end of the folder", remove(filepath.Join(top, "containers")))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run = %v", err)
	}
}

// A machine whose inotify instances are used up has a daemon all the same, which looks
// now and then, and watches as soon as it can.
func TestWatchFolderWithoutInotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tries, looks := 0, 0
		var log bytes.Buffer
		w := folderWatch{folder: "/nowhere", log: slog.New(slog.NewTextHandler(&log, nil)), changed: func() { looks++ }, open: func() (*fsnotify.Watcher, error) {
			tries++
			return nil, syscall.EMFILE
		}}
		ended := make(chan error, 1)
		go func() { ended <- w.run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if tries < 10 || tries > 30 || looks != tries-1 {
			t.Errorf("in an hour %d tries, and %d looks at the folder", tries, looks)
		}
		if !strings.Contains(log.String(), "too many open files") {
			t.Errorf("the log says nothing of the reason:\n%s", &log)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run = %v", err)
		}
	})
}
