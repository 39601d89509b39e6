//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

func TestMLDSnooping(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "ip", "link", "set", "dev", s.bridge, "type", "bridge", "mcast_snooping", "1")
	s.run(t, s.finds(t, "mld_snooping", doctor.Problem, s.bridge))
	s.mended(t, "mld_snooping")

	s.self.Run(t, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "1")
	s.later(t, "ip", "link", "del", "br0")
	s.status.Proxies = []spec.ProxyStatus{{Parent: "br0"}}
	s.mended(t, "mld_snooping") // it knows the groups that are joined
	s.status.Proxies[0].AllMulticast = true
	s.finds(t, "mld_snooping", doctor.Warning, "br0")
	s.self.Run(t, "ip", "link", "set", "dev", "br0", "type", "bridge", "mcast_snooping", "0")
	s.finds(t, "mld_snooping", doctor.Note, "br0")
	s.status.Proxies = []spec.ProxyStatus{{Parent: "eth0", AllMulticast: true, Leases: 600}}
	s.finds(t, "mld_snooping", doctor.Note, "eth0", "600 addresses")
}
