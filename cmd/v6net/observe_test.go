package main

import (
	"slices"
	"testing"
)

// Links that came up while events were lost are as good as those of events.
func TestLinksThatCameUp(t *testing.T) {
	before, now := map[string]bool{"eth0": true, "eth2": true}, map[string]bool{"eth3": true, "eth0": true, "eth1": true}
	if got, want := cameUp(before, now), []string{"eth1", "eth3"}; !slices.Equal(got, want) {
		t.Errorf("came up: %q, want %q", got, want)
	}
	if got := cameUp(now, now); len(got) > 0 {
		t.Errorf("came up: %q, where nothing changed", got)
	}
}
