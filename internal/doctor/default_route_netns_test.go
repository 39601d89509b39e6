//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestDefaultRoute(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "ip", "-6", "route", "del", "default")
	s.finds(t, "default_route", doctor.Problem, "no IPv6 default route")
	s.status.Networks = nil // with nobody on it, it is no more than a pity
	s.finds(t, "default_route", doctor.Warning, "no IPv6 default route")
	s.self.Run(t, "ip", "-6", "route", "add", "default", "via", s.up.LinkLocal(t, "lan0"), "dev", "eth0")
	s.mended(t, "default_route")
}
