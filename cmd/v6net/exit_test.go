package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
)

// Every status is what docs/commands.md says, whatever is wrapped around the error.
func TestExitStatuses(t *testing.T) {
	_, unknown := findNetwork(spec.Status{}, "abcd")
	_, several := findNetwork(spec.Status{Networks: []spec.NetworkStatus{{Network: spec.Network{ID: "abcd1"}}, {Network: spec.Network{ID: "abcd2"}}}}, "abcd")
	_, away := control.NewClient(t.TempDir() + "/none").Status(t.Context())
	_, _, nobody := callEnds(spec.Status{}, "web", "::1")
	page := read(t, "docs/commands.md")
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("something else"), 1},
		{exitCode(exitSick), 1},
		{usageError{errors.New("not so")}, 2},
		{firewallExplainCommand{From: "::2", To: "::1", Port: "0"}.Run(t.Context()), 2},
		{fmt.Errorf("socket: %w", os.ErrPermission), 2}, // who is not root
		{away, 3},
		{control.ErrEnded, 3},
		{unknown, 4},
		{nobody, 4},
		{several, 2},
		{fmt.Errorf("network: %w", spec.ErrNotFound), 4},
		{netns.ErrClaimed, 69},
		{os.ErrNotExist, 1},
	} {
		if got := exitStatus(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%v: status %d, want %d", c.err, got, c.want)
		}
		if !strings.Contains(page, fmt.Sprintf("\n| %d | ", c.want)) {
			t.Errorf("docs/commands.md does not say what status %d is", c.want)
		}
	}
}
