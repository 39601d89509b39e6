package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
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
		ended <- watchFolder(ctx, folder, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		}, slog.New(slog.DiscardHandler))
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
		t.Errorf("watchFolder = %v", err)
	}
}
