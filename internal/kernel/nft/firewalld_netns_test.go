//go:build netns

package nft

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/v6net/v6net/internal/firewall"
	keeper "github.com/v6net/v6net/internal/firewalld"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// zoned is a host with firewalld and a Keeper.
type zoned struct {
	*testnet.Firewalld

	mu   sync.Mutex
	says strings.Builder // of the Keeper's warnings
}

// said are the Keeper's warnings up to now.
func (z *zoned) said() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.says.String()
}

func newZoned(t *testing.T, host *testnet.Host) *zoned {
	t.Helper()
	return &zoned{Firewalld: testnet.NewFirewalld(t, host, filepath.Join(t.TempDir(), "bus"))}
}

// keep runs a Keeper of the bridges until the end of the test.
func (z *zoned) keep(t *testing.T, s *site) *keeper.Keeper {
	t.Helper()
	k := keeper.NewKeeper(z.Bus(), slog.New(slog.NewTextHandler(lines(func(line string) {
		z.mu.Lock()
		defer z.mu.Unlock()
		if strings.Contains(line, "level=WARN") {
			z.says.WriteString(line)
		}
	}), nil)))
	z.bridges(s, k)
	testnet.Running(t, "firewalld's Keeper", k.Run)
	return k
}

func (z *zoned) bridges(s *site, k *keeper.Keeper) {
	var plain, names []string
	for _, n := range s.config.Networks {
		if n.Asked {
			names = append(names, n.Bridge)
		} else {
			plain = append(plain, n.Bridge)
		}
	}
	k.Keep(plain, names)
}

func (z *zoned) zone(t *testing.T, zone string) []string {
	t.Helper()
	if !slices.Contains(strings.Fields(z.Cmd(t, "--get-zones")), zone) {
		return nil
	}
	its := slices.DeleteFunc(strings.Fields(z.Cmd(t, "--zone="+zone, "--list-interfaces")), func(link string) bool { return strings.HasPrefix(link, "v6net-no") })
	slices.Sort(its)
	return its
}

// passes reports whether one of so many calls is answered. A rejection is no answer.
func (s *site) passes(t *testing.T, from *testnet.Host, network, to string, attempts int) bool {
	t.Helper()
	for range attempts {
		if seen, err := call(t.Context(), from, network, to); err == nil && seen != "" {
			return true
		}
	}
	return false
}

// Beside firewalld, whichever starts first: what we let through passes, what we do not
// does not, and what containers send to the host is firewalld's to judge, but for names.
func TestFirewalld(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		t.Run(map[bool]string{true: "it is first", false: "it is second"}[first], func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.config.Networks[0].Asked = true
			var bridges []string
			for _, n := range s.config.Networks {
				bridges = append(bridges, n.Bridge)
			}
			z := newZoned(t, s.host)
			f := open(t, s.host)
			watch(t, f)
			apply(t, f, s.config)
			if first {
				z.Start(t)
				if s.passes(t, s.outside, "tcp", "[2001:db8:1::2]:80", 1) {
					t.Error("firewalld lets everything through: the test proves nothing")
				}
				if found, err := f.Obstacles(t.Context()); err != nil || len(found) != 2 || found[0].Table != "inet firewalld" {
					t.Errorf("obstacles %v, %v, want firewalld's two chains", found, err)
				}
			}
			if first {
				z.Cmd(t, "--zone=public", "--add-port=8443/tcp")
				z.Cmd(t, "--zone=dmz", "--add-interface=theirs")
			}
			k := z.keep(t, s)
			if first {
				// What was set at run time alone is not reloaded away; links are put back.
				if !eventually(func() bool { return strings.Contains(z.Cmd(t, "--permanent", "--get-policies"), "v6net-out") }) {
					t.Fatal("no policies are made")
				}
				if !eventually(func() bool { return strings.Contains(z.said(), "zone public (ports)") }) {
					t.Errorf("it is not said what a reload would lose: %s", z.said())
				}
				if got := z.Cmd(t, "--zone=public", "--list-ports"); got != "8443/tcp" || strings.Contains(z.Cmd(t, "--get-zones"), "v6net") {
					t.Errorf("firewalld was reloaded: its run-time ports are %q", got)
				}
				z.Cmd(t, "--zone=public", "--remove-port=8443/tcp")
				k.Keep(nil, nil)
				z.bridges(s, k)
			} else {
				z.Start(t)
			}
			check := func(when string) {
				t.Helper()
				if !eventually(func() bool {
					return len(z.zone(t, "v6net")) == len(s.config.Networks)-1 && len(z.zone(t, "v6net-names")) == 1
				}) {
					t.Fatalf("%s: zone v6net has %q, v6net-names %q", when, z.zone(t, "v6net"), z.zone(t, "v6net-names"))
				}
				s.wantWays(t, when, f, []way{
					{s.outside, "tcp", "[2001:db8:1::2]:80", true},
					{s.outside, "tcp", host4 + ":8080", true},
					{s.c["web2"], "tcp", "[" + outside6 + "]:80", true},
					{s.c["web2"], "tcp", outside4 + ":80", true},
					{s.c["mutual2"], "tcp", "[2001:db8:7::2]:81", true},
					{s.c["web2"], "udp", "[2001:db8:1::1]:53", true},
					{s.outside, "tcp", "[2001:db8:1::2]:81", false},
					{s.c["web2"], "tcp", "[2001:db8:7::2]:81", false},
					{s.c["mutual2"], "tcp", "[2001:db8:6::1]:7070", false}, // the host's own services are firewalld's to judge
					{s.c["web2"], "tcp", "[2001:db8:1::1]:7070", false},
				})
			}
			check("at first")
			if !first {
				return
			}
			if got := z.zone(t, "dmz"); !slices.Equal(got, []string{"theirs"}) {
				t.Errorf("zone dmz has %q after v6net's reload, want what was put there at run time", got)
			}
			z.Cmd(t, "--reload")
			check("reloaded")
			z.Stop(t)
			z.Start(t)
			check("restarted")
			// An administrator's decision is left alone, and said where it cuts a bridge off.
			z.Cmd(t, "--zone=trusted", "--change-interface=web2nd")
			s.config.Networks = append(s.config.Networks, firewall.Network{ID: "555555555555", Bridge: "web2nd", Inbound: spec.InboundPublished})
			apply(t, f, s.config)
			z.bridges(s, k)
			if !eventually(func() bool { return strings.Contains(z.said(), "bridge=web2nd zone=trusted") }) {
				t.Errorf("it is not said that a bridge is in another's zone: %s", z.said())
			}
			found, err := f.Obstacles(t.Context())
			if err != nil || len(found) != 1 || !strings.HasSuffix(found[0].Why, " of web2nd") {
				t.Errorf("obstacles %v, %v, want firewalld's for bridge web2nd, which is in zone trusted", found, err)
			} else {
				z.Cmd(t, strings.Fields(strings.Split(found[0].Fix, ";")[0])[1:]...)
				if found, err := f.Obstacles(t.Context()); err != nil || len(found) != 0 {
					t.Errorf("mended, and obstacles %v, %v", found, err)
				}
			}
			mine := "mutual7"
			s.config.Networks = slices.DeleteFunc(s.config.Networks, func(n firewall.Network) bool { return n.Bridge == mine })
			z.bridges(s, k)
			if !eventually(func() bool { return !slices.Contains(z.zone(t, "v6net"), mine) }) {
				t.Error("a bridge that is gone stays in the zone")
			}
			// The last network with a name server goes: the others' stay what they are.
			s.config.Networks[0].Asked = false
			z.bridges(s, k)
			if !eventually(func() bool { return len(z.zone(t, "v6net-names")) == 0 && slices.Contains(z.zone(t, "v6net"), "web") }) {
				t.Error("a bridge without a name server stays in the zone of those that have one")
			}
			if !s.passes(t, s.outside, "tcp", "[2001:db8:1::2]:80", 10) || !s.passes(t, s.c["mutual2"], "tcp", outside4+":80", 10) {
				t.Error("with the last name server the networks are cut off")
			}
			if n := strings.Count(z.said(), "bridge=web2nd"); n != 1 {
				t.Errorf("it is said %d times that a bridge is in another's zone: %s", n, z.said())
			}
			z.Cmd(t, "--zone=public", "--add-port=8443/tcp")
			k.Keep(nil, nil)
			if !eventually(func() bool { return len(z.zone(t, "v6net"))+len(z.zone(t, "v6net-names")) == 0 }) {
				t.Fatal("bridges are left behind")
			}
			rules := s.host.Run(t, "nft", "list", "table", "inet", "firewalld")
			for _, bridge := range append(bridges, "web2nd") {
				if strings.Contains(rules, fmt.Sprintf("%q", bridge)) {
					t.Errorf("firewalld's rules still name %s", bridge)
				}
			}
			if got := z.Cmd(t, "--zone=public", "--list-ports"); got != "8443/tcp" {
				t.Errorf("the last network has taken run-time settings along: ports %q", got)
			}
		})
	}
}
