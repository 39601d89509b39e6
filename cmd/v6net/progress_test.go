package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Every two seconds it is said what is waited for then, and nothing of what took less.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		p := newProgress(func(text string) { said = append(said, text) })
		p.on("the firewall")()
		docker, podman := p.on("Docker"), p.on("Podman")
		time.Sleep(3 * time.Second)
		docker()
		time.Sleep(2 * time.Second)
		podman()
		time.Sleep(9 * time.Second)
		p.on("what comes after the end")
		p.end()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if want := []string{"waiting for Docker, Podman", "waiting for Podman"}; !slices.Equal(said, want) {
			t.Errorf("it said %q, want %q", said, want)
		}
	})
}
