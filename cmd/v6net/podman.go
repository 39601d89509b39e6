package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A folder that cannot be watched is tried again after a while, twice as long each time.
const (
	minWatchWait = time.Second
	maxWatchWait = 5 * time.Minute
)

// folderWatch calls changed whenever something changes in a folder. While there is no
// such folder it waits for it in the folders above.
type folderWatch struct {
	folder  string
	changed func()
	log     *slog.Logger
	// open opens the kernel's watching, of which a machine has only so much: programs
	// that watch many files use up what all of root's share (fs.inotify.max_user_instances).
	open func() (*fsnotify.Watcher, error)
}

// run watches until ctx ends. Where the folder cannot be watched, that is said, and
// changed is called as often as that is tried.
func (w folderWatch) run(ctx context.Context) error {
	for wait := minWatchWait; ; wait = min(2*wait, maxWatchWait) {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > maxWatchWait { // it went well for long
			wait = minWatchWait
		}
		w.log.Warn("Podman's networks cannot be watched; they are looked at now and then", "folder", w.folder, "next", wait, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		w.changed() // what nobody saw
	}
}

// watch watches until that fails, or ctx ends.
func (w folderWatch) watch(ctx context.Context) error {
	watcher, err := w.open()
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.folder, err)
	}
	defer func() { _ = watcher.Close() }()
	watched, err := watchNearest(watcher, w.folder)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			w.log.Warn("watch folder", "folder", watched, "err", err)
			w.changed() // what was lost may have been ours
		case event := <-watcher.Events:
			// A folder that went may be there again: another one, which nobody watches.
			gone := event.Name == watched && (event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename))
			if gone || nearest(w.folder) != watched {
				_ = watcher.Remove(watched) // it may have gone
				if watched, err = watchNearest(watcher, w.folder); err != nil {
					return err
				}
			}
			w.changed()
		}
	}
}

// watchNearest watches the folder, or the nearest one above it that is there.
func watchNearest(watcher *fsnotify.Watcher, folder string) (string, error) {
	for {
		next := nearest(folder)
		err := watcher.Add(next)
		if err == nil && nearest(folder) == next {
			return next, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("watch %s: %w", next, err)
		}
		_ = watcher.Remove(next) // another one has come, or it has gone
	}
}

func nearest(folder string) string {
	for folder != "/" && !isFolder(folder) {
		folder = filepath.Dir(folder)
	}
	return folder
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
