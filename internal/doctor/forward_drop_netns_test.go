//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// iptables' chain, as Docker leaves it: v6net's own rule is what mends it.
func TestForwardDrop(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "ip6tables", "-P", "FORWARD", "DROP")
	s.later(t, "nft", "delete", "table", "ip6", "filter")
	s.finds(t, "forward_drop", doctor.Problem, "table ip6 filter, chain FORWARD")
	s.rules()
	s.mended(t, "forward_drop")

	// In a chain of its own that FORWARD jumps to, an administrator's will do.
	s.status = nil
	s.self.Run(t, "ip6tables", "-F", "FORWARD")
	s.self.Run(t, "ip6tables", "-N", "MINE")
	s.self.Run(t, "ip6tables", "-A", "MINE", "-m", "mark", "--mark", "0x1000/0x1000", "-j", "ACCEPT")
	s.finds(t, "forward_drop", doctor.Problem, "ip6 filter FORWARD")
	s.self.Run(t, "ip6tables", "-A", "FORWARD", "-j", "MINE")
	s.mended(t, "forward_drop")
}

// Another's ruleset, by its policy or by its last rule, has to be changed by hand.
func TestForwardDropOfOthers(t *testing.T) {
	s := newScene(t)
	s.later(t, "nft", "delete", "table", "inet", "site")
	for _, rules := range []string{
		"type filter hook forward priority 10; policy drop; ct state established accept;",
		"type filter hook forward priority 10; ct state established accept; counter reject;",
	} {
		s.self.Run(t, "nft", "add table inet site; delete table inet site; table inet site { chain forward { "+rules+" }; }")
		s.run(t, s.finds(t, "forward_drop", doctor.Problem, "table inet site, chain forward"))
		s.mended(t, "forward_drop")
	}
}

// Without a daemon, or before there are networks, it is found out all the same.
func TestForwardDropWithoutADaemon(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "nft", "add table inet site; add chain inet site forward { type filter hook forward priority 10; policy drop; }")
	s.later(t, "nft", "delete", "table", "inet", "site")
	status := s.status
	s.status = nil
	s.run(t, s.finds(t, "forward_drop", doctor.Problem, "inet site forward"))
	s.mended(t, "forward_drop")
	// What its zones accept cannot be told.
	s.self.Run(t, "nft", "add chain inet site zone; flush chain inet site forward; add rule inet site forward jump zone; add rule inet site forward drop")
	s.finds(t, "forward_drop", doctor.Warning, "inet site forward", "unless")

	s.status, s.firewall = &spec.Status{}, nil
	s.self.Run(t, "nft", "flush chain inet site forward; add rule inet site forward drop")
	s.self.Run(t, "ip", "link", "set", "dev", s.bridge, "alias", "somebody's")
	s.finds(t, "forward_drop", doctor.Warning, "inet site forward")
	s.self.Run(t, "ip", "link", "set", "dev", s.bridge, "alias", "v6net network "+status.Networks[0].ID)
}
