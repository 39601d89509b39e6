//go:build netns

package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// sees has the world outside say under which address it sees who connects to it.
func (o outside) sees(t *testing.T) (from func(*testnet.Host) string) {
	t.Helper()
	const where = "[2001:db8:ffff::1]:81"
	listen(t, o.up, where, func(c net.Conn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		_, _ = io.WriteString(c, host)
	})
	return func(container *testnet.Host) string {
		c, err := container.DialContext(t.Context(), "tcp", where)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		said, err := io.ReadAll(c)
		if err != nil {
			return err.Error()
		}
		return string(said)
	}
}

// ownAddress is this host's, under which containers are masqueraded.
const ownAddress = "2001:db8:ffff:1::2"

func (s *site) giveOwnAddress(t *testing.T) {
	t.Helper()
	s.up.AddAddress(t, "2001:db8:ffff:1::1/64", "lan0")
	testnet.Self(t).AddAddress(t, ownAddress+"/64", "eth0")
}

// What is lent ends, and there is no other: the network is on a unique local prefix, from
// which it reaches the outside, and where its ports are found at this host. When something is lent
// again it has a part of that, by itself.
func TestFallback(t *testing.T) {
	s := newSite(t)
	s.giveOwnAddress(t)
	from := s.sees(t)
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	container, addr := s.runOn(t, 1, spec.DefaultOptions(), spec.PoolRequest{V6: true, Source: spec.SourcePD, Allocation: spec.Sequential, Fallback: spec.FallbackULA})
	s.answers(t, addr.String())
	if got := from(container); got != addr.String() {
		t.Errorf("outside the container is %s, want %s", got, addr)
	}

	lost := func(when string) {
		t.Helper()
		within(t, when+": the container is on a unique local prefix alone", func() bool {
			has := globals(t, container)["eth0"]
			return len(has) == 1 && strings.HasPrefix(has[0], "fd")
		})
		within(t, when+": it reaches the outside under the host's address", func() bool { return from(container) == ownAddress })
		s.answers(t, ownAddress)
		if s.connects(t, addr.String()) {
			t.Errorf("%s: the address that has ended answers", when)
		}
		n := s.engine.Status(t.Context()).Networks[0]
		if n.Error != "" || len(n.Notes) != 1 || !strings.Contains(n.Notes[0], "lends no prefix on eth0 now; until there is one the network has fd") {
			t.Errorf("%s: error %q, notes %q", when, n.Error, n.Notes)
		}
	}
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Second, 2*time.Second)) // and the source falls silent
	lost("ended")
	s.lend(t)
	lost("said to have ended")
	s.stop()
	s.start()
	lost("after a restart")

	for _, again := range []string{"2001:db8:a000::", "2001:db8:b000::"} {
		s.lend(t, lentUntil(again+"/56", time.Hour, 2*time.Hour))
		s.answers(t, again+"2")
		within(t, "it reaches the outside under an address of its own again", func() bool { return from(container) == again+"2" })
		if has := globals(t, container)["eth0"]; slices.ContainsFunc(has, func(a string) bool { return strings.HasPrefix(a, "fd") && !strings.Contains(a, "former") }) {
			t.Errorf("lent %s, the container has %q", again, has)
		}
		if s.connects(t, ownAddress) {
			t.Errorf("lent %s, the host's port is translated", again)
		}
		if n := s.engine.Status(t.Context()).Networks[0]; n.Error != "" || len(n.Notes) > 0 {
			t.Errorf("lent %s: error %q, notes %q", again, n.Error, n.Notes)
		}
		s.lend(t, lentUntil(again+"/56", time.Second, 2*time.Second))
		s.lend(t)
	}
}

// What else is of a prefix follows it: each is there for the former one as long as that is
// valid, for the next one at once, and for none that has ended.
func TestWhatFollows(t *testing.T) {
	const former, next = "2001:db8:a000::", "2001:db8:b000::"
	type scene struct {
		*site
		container *testnet.Host
		from      func(*testnet.Host) string
	}
	for name, follows := range map[string]struct {
		options map[string]string
		onLink  bool
		first   func(s scene) error
		both    func(s scene) error
		then    func(s scene) error
	}{
		"masquerade": {options: map[string]string{"masquerade": "on"},
			first: func(s scene) error { return s.masqueraded(t, s.container, s.from, former+"2") },
			both:  func(s scene) error { return s.masqueraded(t, s.container, s.from, next+"2") },
			then:  func(s scene) error { return s.masqueraded(t, s.container, s.from, next+"2") },
		},
		"NDP proxy": {onLink: true,
			first: func(s scene) error { return s.found(t, former) },
			both:  func(s scene) error { return s.found(t, former, next) },
			then:  func(s scene) error { return s.found(t, next) },
		},
		"NDP proxy for a whole prefix": {onLink: true, options: map[string]string{"ndproxy": "prefix"},
			first: func(s scene) error { return s.found(t, former) },
			both:  func(s scene) error { return s.found(t, former, next) },
			then:  func(s scene) error { return s.found(t, next) },
		},
		"router advertisements": {
			first: func(s scene) error { return told(t, s.container, former, "") },
			both:  func(s scene) error { return told(t, s.container, next, former) },
			then:  func(s scene) error { return told(t, s.container, next, "") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scene{site: newSite(t)}
			s.giveOwnAddress(t)
			s.from = s.sees(t)
			bits := "/56"
			if follows.onLink {
				bits = "/80" // what a cloud has assigned of the link's
				for _, p := range []string{former, next} {
					s.up.Run(t, "ip", "-6", "route", "add", p+"/64", "dev", "lan0")
				}
			}
			lent := func(prefix string, preferred, valid time.Duration) spec.Delegation {
				d := lentUntil(prefix+bits, preferred, valid)
				d.OnLink = follows.onLink
				return d
			}
			options, err := spec.ParseOptions(follows.options)
			if err != nil {
				t.Fatal(err)
			}
			s.lend(t, lent(former, time.Hour, 2*time.Hour))
			bitsOfPool := 64
			if follows.onLink {
				bitsOfPool = 80
			}
			s.container, _ = s.runOn(t, 1, options, spec.PoolRequest{V6: true, Source: spec.SourcePD, Allocation: spec.Sequential, Bits: bitsOfPool})
			step := func(when string, holds func(scene) error) {
				t.Helper()
				var err error
				defer func() {
					if err != nil {
						t.Error(err)
					}
				}()
				testnet.Eventually(t, patience, when, func() bool { err = holds(s); return err == nil })
			}
			step("at first", follows.first)
			s.lend(t, lent(former, 0, time.Hour), lent(next, time.Hour, 2*time.Hour))
			step("while both are valid", follows.both)
			s.stop()
			s.start()
			s.lend(t, lent(former, 0, time.Hour), lent(next, time.Hour, 2*time.Hour))
			step("while both are valid, after a restart", follows.both)
			s.lend(t, lent(former, 0, time.Second), lent(next, time.Hour, 2*time.Hour))
			step("when the former one has ended", follows.then)
		})
	}
}

// masqueraded reports whether the container is the host outside, and the host's port leads to
// that address of its.
func (s *site) masqueraded(t *testing.T, container *testnet.Host, from func(*testnet.Host) string, to string) error {
	if got := from(container); got != ownAddress {
		return fmt.Errorf("outside the container is %s, want %s", got, ownAddress)
	}
	if !s.connects(t, ownAddress) {
		return fmt.Errorf("the host's port leads nowhere")
	}
	rules := testnet.Self(t).Run(t, "nft", "list", "table", "inet", "v6net")
	if !strings.Contains(rules, to+" . 80") {
		return fmt.Errorf("the host's port does not lead to %s", to)
	}
	return nil
}

// found reports whether the container is found on the parent's link by these prefixes, and
// by no others.
func (s *site) found(t *testing.T, prefixes ...string) error {
	mac := testnet.Self(t).MAC(t, "eth0")
	for _, p := range []string{"2001:db8:a000::", "2001:db8:b000::"} {
		want := ""
		if slices.Contains(prefixes, p) {
			want = mac
		}
		if got := s.up.Resolve(t, p+"2", "lan0"); got != want {
			return fmt.Errorf("%s2 is at %q, want %q", p, got, want)
		}
	}
	return nil
}

// told reports whether the container is told that one prefix is to be used, and that the
// other one is not to be used any more; empty: it is not mentioned as one that is valid.
func told(t *testing.T, container *testnet.Host, current, former string) error {
	// On a busy machine the kernel's table of neighbours, which all namespaces share, may be full.
	out, err := container.Command(t.Context(), "rdisc6", "-1", "-w", "3000", "eth0").CombinedOutput()
	if err != nil {
		return fmt.Errorf("rdisc6: %w\n%s", err, out)
	}
	lifetimes := map[string][2]string{} // valid and preferred
	var at string
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		switch {
		case strings.Contains(line, "Prefix  "):
			p, err := netip.ParsePrefix(words[2])
			if err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			at = p.Addr().String()
		case strings.Contains(line, "Valid time"):
			lifetimes[at] = [2]string{words[3], lifetimes[at][1]}
		case strings.Contains(line, "Pref. time"):
			lifetimes[at] = [2]string{lifetimes[at][0], words[3]}
		}
	}
	if l := lifetimes[current]; l[0] == "" || l[0] == "0" || l[1] == "" || l[1] == "0" {
		return fmt.Errorf("told of %s: %q", current, lifetimes)
	}
	for p, l := range lifetimes {
		switch p {
		case current:
		case former:
			if l[0] == "0" || l[1] != "0" {
				return fmt.Errorf("told of %s, which is former: %q", p, l)
			}
		default:
			if l != [2]string{"0", "0"} {
				return fmt.Errorf("told of %s, which has ended: %q", p, l)
			}
		}
	}
	if _, mentioned := lifetimes[former]; former != "" && !mentioned {
		return fmt.Errorf("not told that %s is former: %q", former, lifetimes)
	}
	return nil
}
