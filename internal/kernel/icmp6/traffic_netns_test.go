//go:build netns

package icmp6

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// What comes in for a prefix is heard, whether it is asked for, and by whom it is
// answered; what goes out, or to others, is not.
func TestTraffic(t *testing.T) {
	l := newLab(t)
	l.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	l.add(t, leased)
	var traffic *Traffic
	l.self.Do(t, func() {
		var err error
		prefixes := []netip.Prefix{netip.MustParsePrefix("2001:db8:7::/48"), netip.MustParsePrefix("2001:db8::/123"), netip.MustParsePrefix("2001:db8:8:1::/64")}
		if traffic, err = ListenFor(t.Context(), "eth0", prefixes); err != nil {
			t.Fatal(err)
		}
	})
	// hears waits until something is heard, among other things, or for a moment in vain.
	hears := func(what string, packets bool, most time.Duration) bool {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), most)
		defer cancel()
		for {
			to, solicited, err := traffic.Next(ctx, packets)
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				return false
			}
			if solicited && what == to.String()+" solicited" || !solicited && what == to.String() {
				return true
			}
		}
	}
	want := func(what string, packets bool) {
		t.Helper()
		if !hears(what, packets, patience) {
			t.Errorf("%s is not heard", what)
		}
	}
	// send has the host upstream send a packet, which it has no answer to.
	send := func(to string) {
		t.Helper()
		c, err := l.up.DialContext(t.Context(), "udp", net.JoinHostPort(to, "9"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	send(unknown)
	want(unknown+" solicited", false)
	for _, routed := range []string{"2001:db8:7::/48", "2001:db8:8::/48"} {
		l.up.Run(t, "ip", "-6", "route", "add", routed, "via", linkLocalOf(t, l.self, "eth0"), "dev", "lan0")
	}
	hears("", true, 10*time.Millisecond) // packets, from now on
	send("2001:db8:8:2::1")
	send("2001:db8:7:9::1")
	want("2001:db8:7:9::1", true)
	send("2001:db8:8:2::1")
	if hears("2001:db8:8:2::1", true, 300*time.Millisecond) {
		t.Error("what is for no prefix is heard")
	}
	send("2001:db8:8:1::1")
	want("2001:db8:8:1::1", true)
	if hears("2001:db8:8:1::1", false, 10*time.Millisecond) {
		t.Error("heard twice")
	}
	send("2001:db8:7:9::1")
	if hears("2001:db8:7:9::1", false, 300*time.Millisecond) {
		t.Error("a packet is heard while only questions are asked for")
	}
	hears("", true, 10*time.Millisecond)
	l.self.Run(t, "ip", "-6", "route", "add", "2001:db8:7::/48", "dev", "eth0")
	l.self.Do(t, func() {
		if c, err := net.Dial("udp", "[2001:db8:7::1]:9"); err == nil {
			_, _ = c.Write([]byte("hello"))
			_ = c.Close()
		}
	})
	if hears("2001:db8:7::1 solicited", true, 300*time.Millisecond) {
		t.Error("what this host asks is heard")
	}
	send(leased) // which the proxy answers for
	want(leased+" solicited", true)
	l.self.Run(t, "ip", "link", "set", "eth0", "down")
	if _, _, err := traffic.Next(t.Context(), true); err == nil {
		for err == nil {
			_, _, err = traffic.Next(t.Context(), true)
		}
	} else if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a link that went down: %v", err)
	}
	if err := traffic.Close(); err != nil {
		t.Error(err)
	}
	l.self.Run(t, "ip", "link", "set", "eth0", "up")
}

func linkLocalOf(t *testing.T, h *testnet.Host, link string) string {
	t.Helper()
	addr := ""
	eventually(t, "a link-local address", func() bool {
		h.Do(t, func() {
			l, err := net.InterfaceByName(link)
			if err != nil {
				t.Fatal(err)
			}
			addrs, _ := l.Addrs()
			for _, a := range addrs {
				if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsLinkLocalUnicast() {
					addr = p.Addr().String()
				}
			}
		})
		return addr != ""
	})
	return addr
}
