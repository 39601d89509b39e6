//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestBridgeNetfilter(t *testing.T) {
	const key = "net/bridge/bridge-nf-call-ip6tables"
	s := newScene(t)
	s.self.Sysctl(t, key, "1")
	s.self.Sysctl(t, "net/bridge/bridge-nf-call-iptables", "0")
	s.mended(t, "bridge_nf") // where nothing drops it is harmless
	s.self.Run(t, "nft", "table inet site { chain forward { type filter hook forward priority 10; policy drop; }; }")
	s.later(t, "nft", "delete", "table", "inet", "site")
	s.finds(t, "bridge_nf", doctor.Problem, key+"=1")
	s.self.Sysctl(t, key, "0")
	s.mended(t, "bridge_nf")
}
