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
	go func() { ended <- File(ctx, path, func() { events <- struct{}{} }) }()
	await := func(what string, do func()) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); ; {
			do()
			select {
			case <-events:
				return
			case <-time.After(50 * time.Millisecond): // it may not have begun to watch
			}
			if time.Now().After(deadline) {
				t.Fatalf("not told that the file was %s", what)
			}
		}
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
	if err := File(t.Context(), "/nothere/list", nil); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
