//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/testnet"
)

func TestReversePath(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "nft", "table inet site { chain pre { type filter hook prerouting priority -300; meta nfproto ipv6 fib saddr . iif oif missing drop; }; }")
	s.later(t, "nft", "delete", "table", "inet", "site")
	s.mended(t, "rp_filter") // with one uplink every answer takes it

	other := testnet.New(t, "other")
	testnet.Connect(t, s.self, "eth1", other, "lan0")
	s.self.Run(t, "ip", "-6", "route", "add", "default", "via", other.LinkLocal(t, "lan0"), "dev", "eth1", "metric", "4096")
	s.finds(t, "rp_filter", doctor.Warning, "inet site pre")
	s.self.Run(t, "nft", "flush chain inet site pre; add rule inet site pre meta nfproto ipv6 fib saddr oif missing drop")
	s.mended(t, "rp_filter") // a loose one

	// The same by iptables, loose at first.
	s.self.Run(t, "ip6tables", "-t", "raw", "-A", "PREROUTING", "-m", "rpfilter", "--loose", "--invert", "-j", "DROP")
	s.later(t, "nft", "delete", "table", "ip6", "raw")
	s.mended(t, "rp_filter")
	s.self.Run(t, "ip6tables", "-t", "raw", "-A", "PREROUTING", "-m", "rpfilter", "--invert", "-j", "DROP")
	s.finds(t, "rp_filter", doctor.Warning, "ip6 raw PREROUTING")
	s.self.Run(t, "ip6tables", "-t", "raw", "-F")

	s.self.Sysctl(t, "net/ipv4/conf/eth1/rp_filter", "1")
	s.run(t, s.finds(t, "rp_filter", doctor.Warning, "eth1", "rp_filter=1"))
	s.mended(t, "rp_filter")
}
