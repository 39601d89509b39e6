package watch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan struct{}, 100), make(chan error)
	file, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(path, "before anybody listens")
	go func() { ended <- file.Run(ctx, func() { events <- struct{}{} }) }()
	await := func(what string, do func()) {
		t.Helper()
		do()
		select {
		case <-events:
		case <-time.After(5 * time.Second):
			t.Fatalf("not told that the file was %s", what)
		}
	}
	await("written before", func() {})
	for len(events) > 0 {
		<-events
	}
	await("written", func() { write(path, "a") })
	for len(events) > 0 {
		<-events
	}
	write(path+".other", "b")
	await("replaced", func() { write(path+".new", "c"); _ = os.Rename(path+".new", path) })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := OpenFile("/nothere/list"); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
