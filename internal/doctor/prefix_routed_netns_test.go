//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestPrefixRouted(t *testing.T) {
	s := newScene(t)
	s.up.Run(t, "ip", "-6", "route", "del", "2001:db8:1::/64")
	s.finds(t, "prefix_routed", doctor.Problem, "network d0d0d0d0d0d0", "and not 2001:db8:1::1")
	s.up.Run(t, "ip", "-6", "route", "add", "2001:db8:1::/64", "via", s.self.LinkLocal(t, "eth0"), "dev", "lan0")
	s.mended(t, "prefix_routed")

	// A router that answers nobody says nothing of the prefix.
	s.up.Sysctl(t, "net/ipv6/icmp/echo_ignore_all", "1")
	s.finds(t, "prefix_routed", doctor.Note, "answers no echo request")
}
