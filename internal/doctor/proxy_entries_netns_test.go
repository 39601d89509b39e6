//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestProxyEntries(t *testing.T) {
	s := newScene(t)
	s.self.Sysctl(t, "net/ipv6/conf/eth0/proxy_ndp", "1")
	s.self.Run(t, "ip", "-6", "neigh", "add", "proxy", "2001:db8:9::5", "dev", "eth0") // not of v6net's
	s.mended(t, "proxy_ndp")
	s.self.Run(t, "ip", "-6", "neigh", "add", "proxy", "2001:db8:1::5", "dev", "eth0")
	s.run(t, s.finds(t, "proxy_ndp", doctor.Warning, "eth0", "2001:db8:1::5"))
	s.mended(t, "proxy_ndp")
}
