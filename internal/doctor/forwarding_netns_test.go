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

// IPv4 is forwarded from each link by itself, and where it is not, an answer does not
// reach its container: the packet says so before doctor does.
func TestForwardingOfALink(t *testing.T) {
	s := newScene(t)
	s.self.AddAddress(t, "192.0.2.2/24", "eth0")
	s.up.AddAddress(t, "192.0.2.1/24", "lan0")
	s.self.AddAddress(t, "172.16.0.1/24", s.bridge)
	s.container.AddAddress(t, "172.16.0.2/24", "eth0")
	s.container.Run(t, "ip", "route", "add", "default", "via", "172.16.0.1")
	s.up.Run(t, "ip", "route", "add", "172.16.0.0/24", "via", "192.0.2.2")
	s.self.Run(t, "nft", "flush", "ruleset") // which lets through what it knows
	passes := func() bool {
		return s.container.Command(t.Context(), "ping", "-c1", "-W1", "192.0.2.1").Run() == nil
	}
	if !passes() {
		t.Fatal("nothing is forwarded with forwarding on: the test would prove nothing")
	}
	for _, name := range []string{"eth0", s.bridge} {
		s.self.Sysctl(t, "net/ipv4/conf/"+name+"/forwarding", "0")
		if passes() {
			t.Errorf("%s does not forward, and yet it does", name)
		}
		if f := s.finds(t, "forwarding", doctor.Problem, name, "forwarding=0"); f.Settings != nil {
			t.Errorf("without rules --fix would set %+v", f.Settings)
		}
		s.rules()
		s.set(t, s.finds(t, "forwarding", doctor.Problem, name, "forwarding=0"))
		s.self.Run(t, "nft", "flush", "ruleset")
		if !passes() {
			t.Errorf("set as doctor says, %s does not forward", name)
		}
	}
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
