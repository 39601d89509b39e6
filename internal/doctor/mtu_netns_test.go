//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestMTU(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/eth0/mtu", "1400") // as a router's advertisement does
	s.finds(t, "mtu", doctor.Warning, "network web", "MTU 1500, and eth0 takes 1400")
	s.self.Run(t, "ip", "link", "set", "dev", s.bridge, "mtu", "1400")
	s.mended(t, "mtu")
	s.self.Run(t, "ip", "link", "set", "dev", "eth0", "mtu", "1200")
	s.run(t, s.finds(t, "mtu", doctor.Problem, "eth0", "MTU 1200"))
	s.mended(t, "mtu")
}
