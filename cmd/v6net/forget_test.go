package main

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A network with running containers is forgotten only by force: its ID is easily mistaken.
func TestForgetSparesContainers(t *testing.T) {
	n := spec.NetworkStatus{Network: spec.Network{ID: strings.Repeat("a", 64), Name: "web"}, Endpoints: []spec.Endpoint{{Joined: true}, {}}}
	if err := (forgetCommand{}).spare(n); err == nil || !strings.Contains(err.Error(), "aaaaaaaaaaaa web has 1 container,") {
		t.Errorf("with a running container: %v", err)
	}
	if err := (forgetCommand{Force: true}).spare(n); err != nil {
		t.Errorf("by force: %v", err)
	}
	n.Endpoints = n.Endpoints[1:]
	if err := (forgetCommand{}).spare(n); err != nil {
		t.Errorf("with none that runs: %v", err)
	}
}
