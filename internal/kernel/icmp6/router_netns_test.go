//go:build netns

package icmp6

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/ra"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

var _ ra.Conn = (*RouterConn)(nil)

// routerLab is the host under test with a network's bridge br0, and a container.
type routerLab struct {
	self, container *testnet.Host
	advertisers     *ra.Supervisor
}

const (
	gateway   = "fe80::1:aaaa:bbbb:cccc"
	assigned  = "2001:db8:2:1::2"
	webPrefix = "2001:db8:2:1::/64"
)

// newRouterLab sets up what the engine sets up, but for the advertisements: a
// container whose address and default route are static.
func newRouterLab(t *testing.T) *routerLab {
	l := &routerLab{self: testnet.Self(t), container: testnet.New(t, "container")}
	l.self.Run(t, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	t.Cleanup(func() { _ = l.self.Command(context.Background(), "ip", "link", "del", "br0").Run() })
	l.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	l.self.Sysctl(t, "net/ipv6/conf/br0/accept_ra", "0")
	l.self.Sysctl(t, "net/ipv6/conf/br0/accept_dad", "0")
	l.self.Run(t, "ip", "link", "set", "br0", "up")
	l.self.Run(t, "ip", "addr", "add", gateway+"/64", "dev", "br0", "nodad")
	l.self.Run(t, "ip", "addr", "add", "2001:db8:2:1::1/64", "dev", "br0", "nodad")
	l.advertisers = ra.NewSupervisor(func(ctx context.Context, link string, source netip.Addr) (ra.Conn, error) {
		return DialRouter(ctx, link, source)
	}, time.Now, slog.New(slog.NewTextHandler(t.Output(), nil)))
	testnet.Running(t, "the advertisers", l.advertisers.Run)
	return l
}

// attach plugs the container in, as the engine does, with or without what it sets.
func (l *routerLab) attach(t *testing.T, static bool) {
	testnet.Connect(t, l.self, "port0", l.container, "eth0")
	l.container.Sysctl(t, "net/ipv6/conf/eth0/forwarding", "0")
	l.container.Sysctl(t, "net/ipv6/conf/eth0/accept_ra", "1")
	if static {
		l.container.Run(t, "ip", "addr", "add", assigned+"/64", "dev", "eth0", "nodad")
		l.container.Run(t, "ip", "route", "add", "default", "via", gateway, "dev", "eth0")
	}
	l.self.Run(t, "ip", "link", "set", "port0", "master", "br0")
	l.advertisers.LinkChanged("br0")
}

// auto is what ra=auto says, on what ra=on and ra.autonomous=on say.
func auto() spec.Advertisement {
	return spec.Advertisement{
		Link: "br0", Source: netip.MustParseAddr(gateway), HopLimit: 64, MTU: 1400,
		Prefixes: []spec.AdvertisedPrefix{{Prefix: netip.MustParsePrefix(webPrefix), OnLink: true, Valid: 5400, Preferred: 2700}},
	}
}

func on() spec.Advertisement {
	a := auto()
	a.RouterLifetime, a.Preference, a.Prefixes[0].Autonomous = 1800, spec.PreferenceLow, true
	return a
}

func (l *routerLab) routes(t *testing.T) string {
	return l.container.Run(t, "ip", "-6", "route", "show", "default")
}

func (l *routerLab) global(t *testing.T) string {
	return l.container.Run(t, "ip", "-6", "-oneline", "addr", "show", "dev", "eth0", "scope", "global")
}

func (l *routerLab) sysctl(t *testing.T, key string) string {
	var value []byte
	l.container.Do(t, func() { value, _ = os.ReadFile("/proc/sys/net/ipv6/conf/eth0/" + key) })
	return strings.TrimSpace(string(value))
}

// A container as Docker makes it takes the MTU, and keeps the default route and
// the address that it was given: one of each.
func TestContainerTakesNoSurprises(t *testing.T) {
	l := newRouterLab(t)
	l.attach(t, true)
	routes := l.routes(t)
	l.advertisers.Advertise(auto())
	eventually(t, "the container takes the MTU", func() bool { return l.sysctl(t, "mtu") == "1400" })
	if got := l.routes(t); got != routes {
		t.Errorf("default routes are now\n%s\nwere\n%s", got, routes)
	}
	if got := l.global(t); strings.Count(got, "inet6") != 1 || !strings.Contains(got, assigned) {
		t.Errorf("addresses: %s, want %s alone", got, assigned)
	}
	onLink := l.container.Run(t, "ip", "-6", "route", "show", webPrefix)
	if strings.Count(onLink, "dev eth0") != 1 || strings.Contains(onLink, "expires") {
		t.Errorf("on-link routes %q, want the address's own, for ever", onLink)
	}
	// What the container engine does when the container changes its gateway.
	l.container.Run(t, "ip", "route", "del", "default", "via", gateway, "dev", "eth0")
	l.container.Run(t, "ip", "route", "add", "default", "via", gateway, "dev", "eth0")
	// The end of the network's advertisements is no end for its containers.
	l.advertisers.Withdraw(t.Context(), "br0")
	time.Sleep(200 * time.Millisecond)
	if got := l.routes(t); got != routes || l.container.Run(t, "ip", "-6", "route", "show", webPrefix) != onLink {
		t.Errorf("after the farewell: %s", got)
	}
}

// A host without any configuration gets all by SLAAC, and the way out: it is what
// a nested container, or a virtual machine on the bridge is.
func TestSLAACHost(t *testing.T) {
	l := newRouterLab(t)
	a := on()
	a.Routes = []spec.AdvertisedRoute{{Prefix: netip.MustParsePrefix("2001:db8:9::/48"), Preference: spec.PreferenceHigh, Lifetime: 1800}}
	l.advertisers.Advertise(a)
	l.attach(t, false)
	l.container.Sysctl(t, "net/ipv6/conf/eth0/accept_ra_rt_info_max_plen", "64")
	eventually(t, "an address by SLAAC", func() bool { return strings.Contains(l.global(t), "2001:db8:2:1:") })
	if got := l.routes(t); !strings.Contains(got, "via "+gateway) || !strings.Contains(got, "pref low") || !strings.Contains(got, "proto ra") {
		t.Errorf("default route %q, want one by %s with preference low", got, gateway)
	}
	l.container.Run(t, "ping", "-c", "1", "-W", "2", "2001:db8:2:1::1")
	eventually(t, "the route information", func() bool {
		return strings.Contains(l.container.Run(t, "ip", "-6", "route", "show", "2001:db8:9::/48"), "via "+gateway)
	})
	if life := l.global(t); !strings.Contains(life, "valid_lft 5") || !strings.Contains(life, "preferred_lft 2") {
		t.Errorf("lifetimes %s, want 5400 and 2700 s (RFC 9096 §3.4)", life)
	}

	// Renumbering: the old prefix is not used for anything new, at once.
	b := on()
	b.Prefixes[0].Valid, b.Prefixes[0].Preferred, b.Prefixes[0].Until = 0, 0, time.Now().Add(time.Hour)
	b.Prefixes = append(b.Prefixes, spec.AdvertisedPrefix{Prefix: netip.MustParsePrefix("2001:db8:2:2::/64"), OnLink: true, Autonomous: true, Valid: 5400, Preferred: 2700})
	l.advertisers.Advertise(b)
	eventually(t, "the new prefix", func() bool { return strings.Contains(l.global(t), "2001:db8:2:2:") })
	for line := range strings.Lines(l.global(t)) {
		if strings.Contains(line, "2001:db8:2:1:") && !strings.Contains(line, "deprecated") && !strings.Contains(line, "preferred_lft 0sec") {
			t.Errorf("the old address is still preferred (RFC 9096 §3.5): %s", line)
		}
	}

	l.advertisers.Withdraw(t.Context(), "br0")
	eventually(t, "the default route goes with the router (RFC 4861 §6.2.5)", func() bool { return l.routes(t) == "" })
}

// RFC 4861 §6.2.6: a solicitation is answered by unicast. How soon, the tests of package ra
// say, which have a clock of their own.
func TestRouterConnAnswersKernelsSolicitation(t *testing.T) {
	l := newRouterLab(t)
	l.advertisers.Advertise(on())
	l.attach(t, false)
	eventually(t, "the initial advertisement", func() bool { return l.routes(t) != "" })
	out := l.container.Run(t, "rdisc6", "-1", "-w", "10000", "eth0")
	for _, want := range []string{"from " + gateway, "64 (      0x40)", "low", "1800", webPrefix, "1400 bytes"} {
		if !strings.Contains(out, want) {
			t.Errorf("rdisc6 does not say %q:\n%s", want, out)
		}
	}
	l.container.Run(t, "rdisc6", "-1", "-w", "10000", "eth0") // one may meet a multicast advertisement
	if c := l.advertisers.Status()[0].Counters; c["sent_unicast"] == 0 || c[string(ra.Solicited)] < 2 {
		t.Errorf("counters %v, want a unicast answer", c)
	}
}

// What a hostile container sends neither stops nor feeds the advertiser.
func TestRouterConnSurvivesBadPackets(t *testing.T) {
	l := newRouterLab(t)
	l.advertisers.Advertise(on())
	l.attach(t, false)
	eventually(t, "the initial advertisement", func() bool { return l.routes(t) != "" })
	// Hop limit, checksum, code, fragments, length, options: 20 of each.
	l.container.Run(t, "/usr/bin/python3", "-c", `
from scapy.all import *
conf.verb = 0
base = Ether(src="02:00:00:00:00:01", dst="33:33:00:00:00:02")/IPv6(src="fe80::6", dst="ff02::2", hlim=255)
lla = ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
bad = [
  Ether(src="02:00:00:00:00:01", dst="33:33:00:00:00:02")/IPv6(src="fe80::6", dst="ff02::2", hlim=64)/ICMPv6ND_RS()/lla,
  base/ICMPv6ND_RS(cksum=0x1234)/lla,
  base/ICMPv6ND_RS(code=1)/lla,
  base/IPv6ExtHdrFragment(m=0, offset=0, nh=58, id=7)/ICMPv6ND_RS()/lla,
  *fragment6(base/IPv6ExtHdrFragment(nh=58, id=8)/ICMPv6ND_RS()/ICMPv6NDOptUnknown(type=253, len=175, data=b"x"*1398), 1280),
  base/ICMPv6ND_RS()/Raw(b"\x01\x00\x00\x00\x00\x00\x00\x00"),
  base/ICMPv6ND_RS()/Raw(b"\x01\x09\x00\x00\x00\x00\x00\x00"),
  Ether(src="02:00:00:00:00:01", dst="33:33:00:00:00:02")/IPv6(src="::", dst="ff02::2", hlim=255)/ICMPv6ND_RS()/lla,
]
sendp(bad * 20, iface="eth0")
`)
	counters := func() map[string]uint64 { return l.advertisers.Status()[0].Counters }
	for _, v := range []ra.Verdict{ra.WrongHopLimit, ra.WrongCode, ra.WrongOption, ra.WrongSource} {
		eventually(t, "counted: "+string(v), func() bool { return counters()[string(v)] >= 20 })
	}
	// RFC 6980 §5: in one fragment, and in several.
	eventually(t, "counted: fragments", func() bool { return counters()[string(ra.Fragmented)] >= 40 })
	if out := l.container.Run(t, "rdisc6", "-1", "-w", "10000", "eth0"); !strings.Contains(out, gateway) {
		t.Errorf("after bad packets:\n%s", out)
	}
	if s := l.advertisers.Status()[0]; s.Error != "" {
		t.Errorf("the advertiser is degraded: %s", s.Error)
	}
}

func TestDialRouterRefuses(t *testing.T) {
	l := newRouterLab(t)
	if _, err := DialRouter(t.Context(), "nothere0", netip.Addr{}); err == nil {
		t.Error("a link that is not there: no error")
	}
	if _, err := DialRouter(t.Context(), "br0", netip.MustParseAddr("fe80::dead")); err == nil || !strings.Contains(err.Error(), "fe80::dead") {
		t.Errorf("a source that the link does not have: %v", err)
	}
	c, err := DialRouter(t.Context(), "br0", netip.Addr{})
	if err != nil || !c.Source().IsLinkLocalUnicast() {
		t.Fatalf("source %v, error %v", c, err)
	}
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 100))
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a read that waited ended with %v", err)
	}
	_ = l
}
