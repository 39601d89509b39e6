//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestDisableIPv6OnTheParent(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/eth0/disable_ipv6", "1")
	f := s.finds(t, "disable_ipv6", doctor.Problem, "eth0")
	if f.Settings != nil {
		t.Errorf("--fix would turn IPv6 on where somebody has turned it off: %+v", f)
	}
	s.run(t, f)
	s.mended(t, "disable_ipv6")
}

func TestDisableIPv6OnABridgeOfOurs(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/"+s.bridge+"/disable_ipv6", "1")
	s.set(t, s.finds(t, "disable_ipv6", doctor.Problem, s.bridge))
	s.mended(t, "disable_ipv6")
}

func TestDisableIPv6OfNewLinks(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	s.run(t, s.finds(t, "disable_ipv6", doctor.Problem, "new links"))
	s.mended(t, "disable_ipv6")
}
