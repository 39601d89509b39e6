package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// watchFolder calls changed whenever something changes in a folder, until ctx ends.
// While there is no such folder it waits for it in the folders above.
func watchFolder(ctx context.Context, folder string, changed func(), log *slog.Logger) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", folder, err)
	}
	defer func() { _ = watcher.Close() }()
	watched, err := watchNearest(watcher, folder)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			log.Warn("watch folder", "folder", watched, "err", err)
			changed() // what was lost may have been ours
		case <-watcher.Events:
			if next := nearest(folder); next != watched {
				_ = watcher.Remove(watched) // it may have gone
				if watched, err = watchNearest(watcher, folder); err != nil {
					return err
				}
			}
			changed()
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
