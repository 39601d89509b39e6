package main

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A name is a name, whatever another's ID begins with; and four characters of an ID are
// the least.
func TestFindNetwork(t *testing.T) {
	one, two, three := "aaaa"+strings.Repeat("1", 60), "aaaa"+strings.Repeat("2", 60), "cafe"+strings.Repeat("3", 60)
	status := spec.Status{Networks: []spec.NetworkStatus{
		{Network: spec.Network{ID: one, Name: "front"}}, {Network: spec.Network{ID: two, Name: "cafe"}},
		{Network: spec.Network{ID: three}}, {Network: spec.Network{ID: "bbbb4", Name: "twin"}}, {Network: spec.Network{ID: "bbbb5", Name: "twin"}},
	}}
	for written, want := range map[string]struct {
		id     string
		status int
	}{
		one: {id: one}, "aaaa2": {id: two}, "front": {id: one}, "cafe": {id: two}, "cafe3": {id: three}, "bbbb4": {id: "bbbb4"},
		"aaaa": {status: exitUsage}, "bbbb": {status: exitUsage}, "twin": {status: exitUsage},
		"aaa": {status: exitNotFound}, "fron": {status: exitNotFound}, "dddd": {status: exitNotFound}, "": {status: exitNotFound},
	} {
		got, err := findNetwork(status, written)
		if got.ID != want.id || (err == nil) != (want.id != "") || err != nil && exitStatus(err) != want.status {
			t.Errorf("findNetwork(%q) = %q, %v, want %q or status %d", written, got.ID, err, want.id, want.status)
		}
	}
}
