//go:build netns

package main

import (
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// A bridge's port has no part in IPv6 of its own: no route for the kernel to look at with
// every link that comes or goes, and no ear for frames that the bridge leaves to it.
func TestPortsHaveNoIPv6(t *testing.T) {
	s := newSite(t)
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	_, addr := s.run(t, 1)
	s.answers(t, addr.String())
	self := testnet.Self(t)
	script := "set -e; for port in /proc/sys/net/ipv6/conf/v6nv*; do port=${port##*/}; ip -6 route show table all dev $port; done"
	if has := self.Run(t, "sh", "-c", script); has != "" {
		t.Errorf("a port has routes:\n%s", has)
	}
	s.stop()
	s.start()
	s.answers(t, addr.String())
	if has := self.Run(t, "sh", "-c", script); has != "" {
		t.Errorf("a port has routes after a restart of the daemon:\n%s", has)
	}
}
