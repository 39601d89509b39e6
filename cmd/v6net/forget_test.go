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
		if got != want || (err == nil) != (want != "") {
			t.Errorf("findNetwork(%q) = %q, %v, want %q", beginning, got, err, want)
		}
	}
}
