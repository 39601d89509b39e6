//go:build netns

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// lan is a machine on a link whose router says by radvd which prefixes it has.
type lan struct {
	*machine
	config string // of radvd
	radvd  *exec.Cmd
	has    []string
}

const (
	firstOfLan  = "2001:db8:aaaa:1::"
	secondOfLan = "2001:db8:bbbb:1::"
)

func newLan(t *testing.T) *lan {
	t.Helper()
	l := &lan{machine: &machine{outside: newOutside(t)}, config: filepath.Join(t.TempDir(), "radvd.conf")}
	testnet.Self(t).Run(t, "ip", "-6", "route", "del", "default") // or the kernel drops what its router advertises
	l.up.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	l.has = []string{prefixOfLan(firstOfLan, 1800)}
	l.boot(t)
	t.Cleanup(func() { l.halt() })
	l.hears(t, firstOfLan)
	l.open(t)
	return l
}

// prefixOfLan is a prefix of radvd's configuration, that is valid for an hour.
func prefixOfLan(prefix string, preferred int) string {
	return fmt.Sprintf("prefix %s/64 { AdvValidLifetime 3600; AdvPreferredLifetime %d; DeprecatePrefix on; };", prefix, preferred)
}

// boot starts the router's radvd.
func (l *lan) boot(t *testing.T) {
	t.Helper()
	l.configure(t)
	l.radvd = l.up.Command(context.Background(), "radvd", "-C", l.config, "-n", "-m", "stderr", "-u", "root", "-p", l.config+".pid")
	if err := l.radvd.Start(); err != nil {
		t.Fatal(err)
	}
}

// halt ends it, with its farewell.
func (l *lan) halt() {
	_ = l.radvd.Process.Signal(syscall.SIGTERM)
	_ = l.radvd.Wait()
}

func (l *lan) configure(t *testing.T) {
	t.Helper()
	text := "interface lan0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; " + strings.Join(l.has, " ") + " };"
	if err := os.WriteFile(l.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{firstOfLan, secondOfLan} {
		l.up.Run(t, "ip", "-6", "route", "replace", prefix+"/64", "dev", "lan0")
	}
}

// advertise has the router say this from now on.
func (l *lan) advertise(t *testing.T, prefixes ...string) {
	t.Helper()
	l.has = prefixes
	l.configure(t)
	if err := l.radvd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// hears waits until this host has an address in a prefix of the link's.
func (l *lan) hears(t *testing.T, prefix string) {
	t.Helper()
	within(t, "this host has an address in "+prefix, func() bool {
		return slices.ContainsFunc(globals(t, testnet.Self(t))["eth0"], func(a string) bool {
			return strings.HasPrefix(a, strings.TrimSuffix(prefix, ":")) && !strings.Contains(a, "former")
		})
	})
}

// asksAnew has the router forget its neighbours.
func (l *lan) asksAnew(t *testing.T) { l.up.Run(t, "ip", "-6", "neigh", "flush", "dev", "lan0") }

func onParentOfLan() spec.PoolRequest {
	return spec.PoolRequest{V6: true, Source: spec.SourceParent, Allocation: spec.Sequential}
}

// The link's router gives it another prefix: a container that runs has an address in that,
// which the router finds, and keeps the former one, with its connections, until it ends. So
// does one that is on the link itself.
func TestRouterRenumbersItsLink(t *testing.T) {
	l := newLan(t)
	self := testnet.Self(t)
	container, addr := l.runOn(t, 1, onParentOfLan())
	next := spec.Renumbered(addr, netip.MustParsePrefix(secondOfLan+"/64"))
	if !strings.HasPrefix(addr.String(), strings.TrimSuffix(firstOfLan, ":")) {
		t.Fatalf("the container has %s, want an address of %s", addr, firstOfLan)
	}
	l.answers(t, addr.String())
	talk := l.stream(t, addr.String())
	beside, addrBeside := l.runOn(t, 2, onParentOfLan(), "mode", "macvlan", "parent", "eth0")
	nextBeside := spec.Renumbered(addrBeside, netip.MustParsePrefix(secondOfLan+"/64"))
	l.answers(t, addrBeside.String())
	talkBeside := l.stream(t, addrBeside.String())

	l.advertise(t, prefixOfLan(firstOfLan, 0), prefixOfLan(secondOfLan, 1800))
	l.hears(t, secondOfLan)
	l.answers(t, next.String())
	l.answers(t, nextBeside.String())
	wanted := []string{addr.String() + "/80 former", next.String() + "/80"}
	if got := globals(t, container)["eth0"]; !slices.Equal(got, wanted) {
		t.Errorf("the container has %q, want %q", got, wanted)
	}
	if route := container.Run(t, "ip", "-6", "route", "get", "2001:db8:ffff::1"); !strings.Contains(route, "src "+next.String()) {
		t.Errorf("what the container begins comes from another address: %s", route)
	}
	mac := self.MAC(t, "eth0")
	for _, a := range []string{addr.String(), next.String()} {
		if got := l.up.Find(t, a, "lan0", mac); got != mac {
			t.Errorf("the router is told %q for %s, want %s", got, a, mac)
		}
	}
	if a := spec.Renumbered(netip.MustParseAddr("::99"), netip.PrefixFrom(next, 80).Masked()); l.up.Resolve(t, a.String(), "lan0") != "" {
		t.Errorf("somebody answers for %s, which is nobody's", a)
	}

	// The daemon is killed and comes back, and the conversation goes on.
	l.signal(os.Kill)
	_ = l.wait()
	l.begin(t)
	l.asksAnew(t)
	l.answers(t, next.String())
	l.answers(t, addr.String())
	if talk.end(t) == 0 || talkBeside.end(t) == 0 {
		t.Error("nothing went to and fro")
	}

	// The former prefix ends.
	l.halt() // it would prolong what is to end
	within(t, "the former address leaves the container, and its gateway the bridge", func() bool {
		endSoon(t, self, firstOfLan)
		return len(globals(t, container)["eth0"]) == 1 && len(globals(t, beside)["eth0"]) == 1 && len(globals(t, self)[spec.BridgeName(number("a", 1))]) == 1
	})
	l.has = []string{prefixOfLan(secondOfLan, 1800)}
	l.boot(t)
	l.hears(t, secondOfLan)
	l.asksAnew(t)
	if l.up.Resolve(t, addr.String(), "lan0") != "" {
		t.Errorf("somebody answers for %s, which has ended", addr)
	}
	l.answers(t, next.String())
	l.answers(t, nextBeside.String())

	// What changes while no daemon runs is found at its start.
	l.signal(os.Kill)
	_ = l.wait()
	l.advertise(t, prefixOfLan(secondOfLan, 0), prefixOfLan(firstOfLan, 1800))
	l.hears(t, firstOfLan)
	l.begin(t)
	l.answers(t, addr.String())
	l.answers(t, addrBeside.String())
	status := l.status(t)
	for _, n := range status.Networks {
		if n.Error != "" || len(n.Notes) > 0 {
			t.Errorf("network %s: error %q, notes %q", n.Name, n.Error, n.Notes)
		}
	}
}

// endSoon has the former addresses of a prefix on a host's eth0 end in two seconds. The router cannot say
// that (RFC 4862 §5.5.3 e), and an advertisement of before may yet prolong them again.
func endSoon(t *testing.T, host *testnet.Host, prefix string) {
	t.Helper()
	for line := range strings.Lines(host.Run(t, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global", "deprecated")) {
		words := strings.Fields(line)
		at := slices.Index(words, "valid_lft") // 3600sec
		if at < 0 || !strings.HasPrefix(words[3], strings.TrimSuffix(prefix, ":")) || len(words[at+1]) <= len("9sec") {
			continue
		}
		host.Run(t, "ip", "-6", "addr", "change", words[3], "dev", "eth0", "valid_lft", "2", "preferred_lft", "0")
	}
}

// A link that loses its prefix for a moment, whatever the reason, changes nothing in any
// container.
func TestLinkLosesItsPrefixForAMoment(t *testing.T) {
	l := newLan(t)
	self := testnet.Self(t)
	container, addr := l.runOn(t, 1, onParentOfLan())
	l.answers(t, addr.String())
	changes := container.Command(context.Background(), "ip", "monitor", "address")
	var heard strings.Builder
	changes.Stdout = &heard
	if err := changes.Start(); err != nil {
		t.Fatal(err)
	}
	lost := func() {
		t.Helper()
		within(t, "this host has lost its address, and status says so", func() bool {
			d := l.status(t).Delegations
			return len(globals(t, self)["eth0"]) == 0 && len(d) == 1 && strings.Contains(d[0].State, "kept")
		})
	}
	down := func() {
		self.Run(t, "ip", "link", "set", "eth0", "down")
		lost()
	}
	up := func() {
		self.Run(t, "ip", "link", "set", "eth0", "up")
		l.hears(t, firstOfLan)
	}
	for name, flap := range map[string]func(){
		"the link goes down and comes up": func() { down(); up() },
		"the router is booted, with a farewell that deprecates its prefix": func() {
			l.halt()
			within(t, "this host's address is deprecated", func() bool {
				return slices.ContainsFunc(globals(t, self)["eth0"], func(a string) bool { return strings.Contains(a, "former") })
			})
			l.boot(t)
			l.hears(t, firstOfLan)
		},
		"its address is removed and comes back": func() {
			self.Run(t, "ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global") // the route stays, until it expires
			l.hears(t, firstOfLan)
		},
		"the daemon is killed, and starts while the link is down": func() {
			l.signal(os.Kill)
			_ = l.wait()
			self.Run(t, "ip", "link", "set", "eth0", "down")
			l.begin(t)
			lost()
			up()
		},
	} {
		flap()
		l.asksAnew(t)
		l.answers(t, addr.String())
		if got, want := globals(t, container)["eth0"], []string{addr.String() + "/80"}; !slices.Equal(got, want) {
			t.Errorf("%s: the container has %q, want %q", name, got, want)
		}
	}
	_ = changes.Process.Kill()
	_ = changes.Wait()
	if heard.Len() > 0 {
		t.Errorf("the container's addresses were changed:\n%s", heard.String())
	}
	if now, inUse := l.status(t).Networks[0].IPv6[0].Lent.Current(); !inUse || !now.Prefix.Contains(addr) {
		t.Errorf("the network uses %+v", now)
	}
}

// renameUplink gives this host's link another name, which it has to be down for.
func renameUplink(t *testing.T, from, to string) {
	t.Helper()
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "set", from, "down")
	self.Run(t, "ip", "link", "set", from, "name", to)
	self.Run(t, "ip", "link", "set", to, "up")
}

// The uplink gets another name as people do it: down, renamed, up. It has no prefix then until
// its router advertises it again, and the container on a part of that is found behind it.
func TestUplinkIsRenamedWhileDown(t *testing.T) {
	l := newLan(t)
	self := testnet.Self(t)
	_, addr := l.runOn(t, 1, onParentOfLan())
	l.answers(t, addr.String())
	renameUplink(t, "eth0", "lan9")
	defer renameUplink(t, "lan9", "eth0")
	// udev keeps the former name as another one of the link, by which it is found still.
	self.Run(t, "ip", "link", "property", "add", "dev", "lan9", "altname", "eth0")
	defer self.Run(t, "ip", "link", "property", "del", "dev", "lan9", "altname", "eth0")
	within(t, "the router finds the container by the uplink's new name", func() bool {
		l.asksAnew(t)
		return l.up.Resolve(t, addr.String(), "lan0") == self.MAC(t, "lan9")
	})
	if follows := l.status(t).Networks[0].IPv6[0].Lent.Link; follows != "lan9" {
		t.Errorf("the network follows %s, want lan9", follows)
	}
}
