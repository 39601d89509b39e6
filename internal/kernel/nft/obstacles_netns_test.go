//go:build netns

package nft

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// Another's chain that refuses what ours accept is said to, with a fix that works.
func TestObstacles(t *testing.T) {
	t.Parallel()
	const table = "add table inet others; add chain inet others through { type filter hook forward priority 0; "
	for _, tc := range []struct {
		name, rules string
		want        string // table, chain and why; empty: no obstacle
	}{
		{"policy accept", table + "policy accept; }", ""},
		{"policy drop", table + "policy drop; }; add rule inet others through ct state established accept", "inet others through policy drop"},
		{"a rejection at the end", table + "policy accept; }; add rule inet others through tcp dport 7 accept; add rule inet others through reject with icmpx admin-prohibited", "inet others through its rules refuse them"},
		{"a chain that drops", table + "policy accept; }; add chain inet others end; add rule inet others end counter drop; add rule inet others through jump end", "inet others through its rules refuse them"},
		{"ip6 alone", strings.ReplaceAll(table, "inet", "ip6") + "policy drop; }", "ip6 others through policy drop"},
		{"by the mark already", table + "policy drop; }; add rule inet others through meta mark and 0x1000 != 0 accept", ""},
		{"by the mark, in a chain that it jumps to", table + "policy drop; }; add chain inet others sub; add rule inet others sub meta mark and 0x1000 == 0x1000 accept; add rule inet others through jump sub", ""},
		{"by the mark, too late", table + "policy accept; }; add rule inet others through drop; add rule inet others through meta mark and 0x1000 != 0 accept", "inet others through its rules refuse them"},
		{"one port of a bridge", table + `policy drop; }; add rule inet others through iifname "v6n*" tcp dport 22 accept; add rule inet others through oifname "v6n*" tcp dport 22 accept`, "inet others through policy drop"},
		{"one direction", table + `policy drop; }; add rule inet others through iifname "v6n*" accept`, "inet others through policy drop"},
		{"one bridge", table + `policy drop; }; add rule inet others through iifname "v6naaaaaaaaaaaa" accept; add rule inet others through oifname "v6naaaaaaaaaaaa" accept`, "inet others through policy drop, of v6nbbbbbbbbbbbb, v6ndddddddddddd, v6neeeeeeeeeeee"},
		{"between the bridges and the uplink", table + `policy drop; }; add rule inet others through iifname { "v6naaaaaaaaaaaa", "v6nbbbbbbbbbbbb", "v6ndddddddddddd", "v6neeeeeeeeeeee" } oifname "eth0" accept; add rule inet others through iifname eth0 oifname "v6n*" ct state { new, untracked } accept`, ""},
		{"what nobody reads", strings.ReplaceAll(table, "inet", "ip6") + "policy drop; }; add rule ip6 others through ct original ip6 saddr 2001:db8:dead::1 accept; add rule ip6 others through rt classid 1 accept", "ip6 others through policy drop"},
		{"by the bridges' names", table + `policy drop; }; add rule inet others through iifname "v6n*" accept; add rule inet others through oifname "v6n*" accept`, ""},
		{"another hook", strings.Replace(table, "forward", "output", 1) + "policy drop; }", ""},
		{"what is let in, and no name server is asked", strings.Replace(table, "hook forward", "hook input", 1) + "policy drop; }", ""},
		{"bridges", `add table bridge others; add chain bridge others through { type filter hook forward priority 0; policy drop; }`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := testnet.New(t, "host")
			var log bytes.Buffer
			f := open(t, host)
			f.log = slog.New(slog.NewTextHandler(&log, nil))
			c := everything()
			c.Networks[0].Asked = false
			apply(t, f, c)
			host.Run(t, "nft", tc.rules)
			found := func() string {
				t.Helper()
				obstacles, err := f.Obstacles(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var all []string
				for _, o := range obstacles {
					all = append(all, o.Table+" "+o.Chain+" "+o.Why)
				}
				return strings.Join(all, ", ")
			}
			if got := found(); got != tc.want {
				t.Errorf("found %q, want %q", got, tc.want)
			}
			for range 3 {
				apply(t, f, c)
			}
			if n := strings.Count(log.String(), "another's chain"); n != min(len(tc.want), 1) {
				t.Errorf("%d warnings: %s", n, &log)
			}
			if tc.want == "" {
				return
			}
			obstacles, err := f.Obstacles(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			host.Run(t, strings.Fields(obstacles[0].Fix)...)
			if got := found(); got != "" {
				t.Errorf("with %q found %q", obstacles[0].Fix, got)
			}
		})
	}
}

// The fix lets through what we let through, and nothing else.
func TestObstacleIsMended(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := open(t, s.host)
	apply(t, f, s.config)
	s.host.Run(t, "nft", "add table inet others; add chain inet others through { type filter hook forward priority 0; policy drop; }")
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", false)
	obstacles, err := f.Obstacles(t.Context())
	if err != nil || len(obstacles) != 1 {
		t.Fatalf("obstacles %v, %v", obstacles, err)
	}
	s.host.Run(t, strings.Fields(obstacles[0].Fix)...)
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", true)
	s.wantReached(t, s.c["web2"], "tcp", outside4+":80", true)
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:81", false)
}

// An obstacle that comes later is logged when it comes.
func TestObstacleIsHeardOf(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	seen := make(chan string, 16)
	f.log = slog.New(slog.NewTextHandler(lines(func(line string) {
		if strings.Contains(line, "another's chain") {
			seen <- line
		}
	}), nil))
	watch(t, f)
	apply(t, f, everything())
	host.Run(t, "nft", "add table inet others; add chain inet others through { type filter hook forward priority 0; policy drop; }")
	if line := <-seen; !strings.Contains(line, "inet others") {
		t.Errorf("logged: %s", line)
	}
	settled(t, f)
	if len(seen) > 0 {
		t.Errorf("logged once more: %s", <-seen)
	}
}

// lines hands each write to a func.
type lines func(string)

func (l lines) Write(b []byte) (int, error) { l(string(b)); return len(b), nil }

// Rules that somebody has removed while nobody was looking are missed.
func TestMissing(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	if err := f.Missing(t.Context()); err != nil {
		t.Errorf("nothing was applied, and missing: %v", err)
	}
	apply(t, f, everything())
	if err := f.Missing(t.Context()); err != nil {
		t.Errorf("missing: %v", err)
	}
	for _, table := range []string{"inet v6net", "ip v6net", "bridge v6net"} {
		host.Run(t, "nft", "delete table "+table)
		if err := f.Missing(t.Context()); err == nil {
			t.Errorf("table %s is gone, and nothing is missing", table)
		}
		apply(t, f, everything())
	}
}

// A bridge with a network card in it is a way out as any other link: what leaves there is vouched for.
func TestEgressByABridge(t *testing.T) { eachKind(t, testEgressByABridge) }

func testEgressByABridge(t *testing.T, b backend) {
	for _, uplink := range []bool{false, true} {
		t.Run(fmt.Sprintf("uplink=%t", uplink), func(t *testing.T) {
			s := b.site(t)
			b.policyDrop(t, s.host)
			lan := testnet.New(t, "lan")
			testnet.Connect(t, s.host, "eth1", lan, "lan1")
			ip(t, s.host, "link add br1 type bridge", "link set br1 up", "link set eth1 master br1", "addr add 203.0.113.1/24 dev br1", "addr add 2001:db8:f::1/64 nodad dev br1")
			ip(t, lan, "addr add 203.0.113.9/24 dev lan1", "addr add 2001:db8:f::9/64 nodad dev lan1", "route add default via 2001:db8:f::1")
			listen(t, lan, "tcp", ":80")
			if uplink {
				s.config.Parents = append(s.config.Parents, "br1")
			}
			apply(t, s.open(t), s.config)
			s.wantReached(t, s.c["web2"], "tcp", "203.0.113.9:80", uplink)
			s.wantReached(t, s.c["web2"], "tcp", "[2001:db8:f::9]:80", uplink)
			s.wantReached(t, lan, "tcp", "[2001:db8:1::2]:80", true)
			s.wantReached(t, lan, "tcp", "[2001:db8:1::2]:81", false)
		})
	}
}
