//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestUpstream(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "ip", "-6", "route", "replace", "default", "via", "fe80::dead", "dev", "eth0")
	s.finds(t, "upstream", doctor.Problem, "eth0", "fe80::dead")
	s.self.Run(t, "ip", "-6", "route", "replace", "default", "via", s.up.LinkLocal(t, "lan0"), "dev", "eth0")
	s.mended(t, "upstream")
}
