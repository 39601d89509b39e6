//go:build netns

package nft

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// docker are the chains as Docker has them.
var docker = []string{
	"-P FORWARD DROP", "-N DOCKER-FORWARD", "-N DOCKER-USER",
	"-A FORWARD -j DOCKER-USER", "-A FORWARD -j DOCKER-FORWARD",
	"-A DOCKER-USER -j RETURN", "-A DOCKER-FORWARD -i docker0 -j ACCEPT",
}

// small is a configuration with rules in every table.
func small() firewall.Config { return firewall.Config{Networks: []firewall.Network{smallNetwork()}} }

func smallNetwork() firewall.Network {
	return firewall.Network{ID: "aaaaaaaaaaaa", Bridge: "v6naaaaaaaaaaaa", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
		Pools: prefixes("2001:db8:1::/64", "172.18.0.0/16"), Masquerade: prefixes("172.18.0.0/16"),
		Published: []firewall.Published{{Protocol: "tcp", Container: prefixes("172.18.0.5/32")[0].Addr(), Port: 80, HostPort: 8080}}}
}

// snapshot is all that there is, without what is counted, and when.
func (b backend) snapshot(t testing.TB, host *testnet.Host) string {
	t.Helper()
	out := host.Run(t, "nft", "--stateless", "list", "ruleset") + "\n"
	for _, program := range b.programs {
		out += host.Run(t, program+"-save") + "\n"
	}
	return regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`).ReplaceAllString(out, "")
}

// makeTables has the host's iptables make the tables that it may need: what is made
// for them, and is empty, stays.
func (b backend) makeTables(t testing.TB, host *testnet.Host) {
	t.Helper()
	if !b.frames {
		for _, chain := range []string{"raw PREROUTING", "mangle FORWARD", "mangle INPUT", "nat PREROUTING", "nat OUTPUT", "nat POSTROUTING"} {
			table, base, _ := strings.Cut(chain, " ")
			b.rules(t, host, "-t "+table+" -A "+base+" -j ACCEPT", "-t "+table+" -F "+base)
		}
		b.rules(t, host, "-t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu")
	}
}

// wantAccept checks that our rule is in the forward chain after so many others, and nowhere else.
func (b backend) wantAccept(t testing.TB, host *testnet.Host, after int) {
	t.Helper()
	for _, iptables := range b.programs {
		all := host.Run(t, iptables, "-S")
		if n := strings.Count(all, "v6net"); n != 1 {
			t.Errorf("%s -S: want exactly one rule of ours:\n%s", iptables, all)
		}
		rules := strings.Split(host.Run(t, iptables, "-S", "FORWARD"), "\n")
		rules = slices.DeleteFunc(rules, func(s string) bool { return !strings.HasPrefix(s, "-A") })
		if i := slices.Index(rules, "-A FORWARD "+acceptRule); i != after {
			t.Errorf("%s -S FORWARD: our rule is after %d others, want %d:\n%s", iptables, i, after, all)
		}
	}
}

func TestAcceptIsPlaced(t *testing.T) { eachBackend(t, testAcceptIsPlaced) }

func testAcceptIsPlaced(t *testing.T, b backend) {
	for _, tc := range []struct {
		name  string
		rules []string
		after int
	}{
		{"forward chain alone", []string{"-P FORWARD DROP"}, 0},
		{"an administrator's rules", []string{"-A FORWARD -p udp --dport 25 -j DROP", "-A FORWARD -p tcp --dport 25 -m comment --comment mail -j REJECT"}, 2},
		{"a drop of everything", []string{"-A FORWARD -p tcp --dport 25 -j DROP", "-A FORWARD -j DROP"}, 1},
		{"a rejection of everything", []string{"-A FORWARD -p tcp --dport 25 -j DROP", "-A FORWARD -m comment --comment last -j REJECT", "-A FORWARD -j DROP"}, 1},
		{"docker", docker, 2},
		{"docker, and rules of an administrator", slices.Concat(docker, []string{
			"-I DOCKER-USER -p tcp --dport 25 -j DROP", "-I FORWARD -p tcp --dport 26 -j DROP", "-A FORWARD -p tcp --dport 27 -j DROP"}), 4},
		{"ufw, and a route that it denies", []string{
			"-N ufw-before-forward", "-N ufw-user-forward", "-N ufw-after-forward", "-N ufw-after-logging-forward", "-N ufw-reject-forward", "-N ufw-track-forward",
			"-A FORWARD -j ufw-before-forward", "-A FORWARD -j ufw-after-forward", "-A FORWARD -j ufw-after-logging-forward", "-A FORWARD -j ufw-reject-forward", "-A FORWARD -j ufw-track-forward",
			"-A ufw-before-forward -j ufw-user-forward", "-A ufw-user-forward -p tcp --dport 25 -j DROP",
			"-A ufw-after-logging-forward -m limit --limit 3/min --limit-burst 10 -j LOG", "-A ufw-reject-forward -j REJECT"}, 1},
		{"docker's chain, not reached", slices.Concat(docker, []string{"-F FORWARD"}), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := b.host(t, "host")
			b.rules(t, host, tc.rules...)
			b.makeTables(t, host)
			before := b.snapshot(t, host)
			f := b.open(t, host)
			for range 2 {
				apply(t, f, small())
				b.wantAccept(t, host, tc.after)
			}
			apply(t, b.open(t, host), small()) // the daemon starts anew
			b.wantAccept(t, host, tc.after)
			for range 2 {
				if err := f.Remove(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, b.snapshot(t, host)); diff != "" {
					t.Errorf("Remove leaves the ruleset different (-before +after):\n%s", diff)
				}
			}
		})
	}
}

// Docker's chain appears after ours was put into the forward chain: one rule, there.
func TestAcceptFollowsDocker(t *testing.T) { eachBackend(t, testAcceptFollowsDocker) }

func testAcceptFollowsDocker(t *testing.T, b backend) {
	host := b.host(t, "host")
	b.policyDrop(t, host)
	f := b.open(t, host)
	apply(t, f, small())
	b.wantAccept(t, host, 0)
	b.dockerUser(t, host)
	apply(t, f, small())
	b.wantAccept(t, host, 1)
	b.rules(t, host, "-N DOCKER-FORWARD", "-A DOCKER-FORWARD -i docker0 -j ACCEPT", "-I FORWARD -j DOCKER-FORWARD", "-D FORWARD -j DOCKER-USER", "-I FORWARD -j DOCKER-USER")
	apply(t, f, small())
	b.wantAccept(t, host, 2)
}

// Earlier versions had another bit, and their rule at the top of Docker's chain.
func TestAcceptOfEarlierVersionsGoes(t *testing.T) {
	eachKind(t, testAcceptOfEarlierVersionsGoes)
}

func testAcceptOfEarlierVersionsGoes(t *testing.T, b backend) {
	host := b.host(t, "host")
	b.rules(t, host, slices.Concat(docker, []string{
		"-I DOCKER-USER -m mark --mark 0x10000000/0x10000000 -m comment --comment v6net -j ACCEPT",
		"-I FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment v6net -j ACCEPT"})...)
	apply(t, b.open(t, host), small())
	b.wantAccept(t, host, 2)
}

// What an administrator, fail2ban or CrowdSec drops stays dropped, whatever is
// published; and who returns from DOCKER-USER early is not cut off.
func TestAcceptComesAfterTheAdministrators(t *testing.T) {
	eachKind(t, testAcceptComesAfterTheAdministrators)
}

func testAcceptComesAfterTheAdministrators(t *testing.T, b backend) {
	for _, tc := range []struct {
		name  string
		rules []string
	}{
		{"in DOCKER-USER", slices.Concat(docker, []string{
			"-I DOCKER-USER -p tcp --dport 80 -i eth0 -j DROP",
			"-I DOCKER-USER -p udp -j RETURN"})},
		{"in FORWARD", []string{"-P FORWARD DROP", "-A FORWARD -p tcp --dport 80 -i eth0 -j DROP", "-A FORWARD -j REJECT"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := b.site(t)
			b.rules(t, s.host, tc.rules...)
			apply(t, s.open(t), s.config)
			for _, call := range []struct {
				from    *testnet.Host
				network string
				to      string
				reached bool
			}{
				{s.outside, "tcp", "[2001:db8:1::2]:80", false},
				{s.outside, "tcp", host4 + ":8080", false},
				{s.outside, "udp", "[2001:db8:1::2]:53", true},
				{s.outside, "udp", host4 + ":5353", true},
				{s.c["web2"], "tcp", outside4 + ":80", true},
			} {
				s.wantReached(t, call.from, call.network, call.to, call.reached)
			}
		})
	}
}

// iptables can save and restore everything; the rule is still known as ours.
func TestAcceptSurvivesSaveAndRestore(t *testing.T) {
	eachBackend(t, testAcceptSurvivesSaveAndRestore)
}

func testAcceptSurvivesSaveAndRestore(t *testing.T, b backend) {
	host := b.host(t, "host")
	b.policyDrop(t, host)
	b.dockerUser(t, host)
	b.makeTables(t, host)
	listed := func() (out string) {
		for _, table := range b.tables {
			for _, program := range b.programs {
				out += host.Run(t, program, "-t", table, "-S") + "\n"
			}
		}
		return out
	}
	before := listed()
	f := b.open(t, host)
	apply(t, f, small())
	applied := listed()
	for _, iptables := range b.programs {
		saved := host.Run(t, iptables+"-save")
		if strings.Contains(saved, "incompatible") {
			t.Errorf("%s-save: %s", iptables, saved)
		}
		file := t.TempDir() + "/saved"
		if err := os.WriteFile(file, []byte(saved+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		host.Run(t, iptables+"-restore", file)
	}
	b.wantAccept(t, host, 1)
	apply(t, f, small())
	b.wantAccept(t, host, 1)
	if diff := cmp.Diff(applied, listed()); diff != "" {
		t.Errorf("restored (-before +after):\n%s", diff)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, listed()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// The same rule without our comment is the administrator's: it will do, and it stays.
func TestAcceptOfOthersIsRespected(t *testing.T) { eachKind(t, testAcceptOfOthersIsRespected) }

func testAcceptOfOthersIsRespected(t *testing.T, b backend) {
	host := b.host(t, "host")
	b.makeTables(t, host)
	b.rules(t, host, "-P FORWARD DROP",
		"-I FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT",
		// Others that look alike will not do.
		"-I FORWARD -m mark --mark 0x1000/0x3000 -j ACCEPT",
		"-I FORWARD -m mark --mark 0x1000/0x1000 -j DROP",
		"-I FORWARD -m mark --mark 0x1000/0x1000 -p tcp -j ACCEPT")
	before := b.snapshot(t, host)
	f := b.open(t, host)
	apply(t, f, small())
	for _, iptables := range b.programs {
		if out := host.Run(t, iptables, "-S"); strings.Contains(out, "v6net") {
			t.Errorf("a second rule was added:\n%s", out)
		}
	}
	b.rules(t, host, "-D FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT")
	apply(t, f, small())
	b.wantAccept(t, host, 3)
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.rules(t, host, "-A FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT")
	if diff := cmp.Diff(before, b.snapshot(t, host)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}
