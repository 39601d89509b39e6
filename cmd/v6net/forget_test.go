package main

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

func TestFindNetwork(t *testing.T) {
	one, two := "aa"+strings.Repeat("1", 62), "aa"+strings.Repeat("2", 62)
	status := spec.Status{Networks: []spec.NetworkStatus{{Network: spec.Network{ID: one}}, {Network: spec.Network{ID: two}}}}
	for beginning, want := range map[string]string{one: one, "aa2": two, "aa": "", "b": "", "": ""} {
		got, err := findNetwork(status, beginning)
		if got.ID != want || (err == nil) != (want != "") {
			t.Errorf("findNetwork(%q) = %q, %v, want %q", beginning, got.ID, err, want)
		}
	}
}

// A network with running containers is forgotten only by force: its ID is easily mistaken.
func TestForgetSparesContainers(t *testing.T) {
	n := spec.NetworkStatus{Network: spec.Network{ID: strings.Repeat("a", 64), Name: "web"}, Endpoints: []spec.Endpoint{{Joined: true}, {}}}
	if err := (forgetCommand{}).spare(n); err == nil || !strings.Contains(err.Error(), "aaaaaaaaaaaa web has 1 containers") {
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
