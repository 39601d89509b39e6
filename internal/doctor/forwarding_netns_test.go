//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestForwarding(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
	f := s.finds(t, "forwarding", doctor.Problem, "net/ipv6/conf/all/forwarding=0")
	if f.Settings[0] != (doctor.Setting{Key: "net/ipv6/conf/eth0/accept_ra", Value: "2"}) {
		t.Errorf("%+v: forwarding is turned on without accept_ra=2 first, and the default route is lost", f.Settings)
	}
	s.set(t, f)
	s.mended(t, "forwarding")

	s.self.Sysctl(t, "net/ipv4/ip_forward", "0")
	s.set(t, s.finds(t, "forwarding", doctor.Problem, "net/ipv4/ip_forward=0"))
	s.mended(t, "forwarding")
}

// Without rules it is not turned on unasked: everybody would be let in.
func TestForwardingWithoutRules(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
	s.self.Run(t, "nft", "delete", "table", "inet", "v6net")
	if f := s.finds(t, "forwarding", doctor.Problem, "forwarding=0"); f.Settings != nil {
		t.Errorf("--fix would set %+v", f.Settings)
	}
	// Those that ip6tables keeps will do.
	s.self.Run(t, "ip6tables", "-t", "mangle", "-N", "v6net-forward")
	s.later(t, "nft", "delete", "table", "ip6", "mangle")
	s.set(t, s.finds(t, "forwarding", doctor.Problem, "forwarding=0"))
}
