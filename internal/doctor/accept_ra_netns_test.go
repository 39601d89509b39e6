//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

// Before and after the advertised default route is lost, and never where it was set
// by hand.
func TestAcceptRA(t *testing.T) {
	s := newScene(t)
	s.mended(t, "accept_ra")
	s.self.Run(t, "ip", "-6", "route", "replace", "default", "via", s.up.LinkLocal(t, "lan0"), "dev", "eth0", "proto", "ra")
	s.finds(t, "accept_ra", doctor.Problem, "eth0", "accept_ra=1")
	s.self.Run(t, "ip", "-6", "route", "del", "default")
	s.set(t, s.finds(t, "accept_ra", doctor.Problem, "eth0", "accept_ra=1"))
	s.mended(t, "accept_ra")
}
