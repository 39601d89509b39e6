//go:build netns

package icmp6

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

func TestProbe(t *testing.T) {
	l := newLab(t)
	l.up.AddAddress(t, leased+"/64", "lan0")
	l.self.AddAddress(t, "2001:db8::8/64", "eth0")
	inUse, free, own := netip.MustParseAddr(leased), netip.MustParseAddr(unknown), netip.MustParseAddr("2001:db8::8")

	began := time.Now()
	taken, err := Probe(t.Context(), "eth0", []netip.Addr{free, inUse, own})
	if err != nil || !slices.Equal(taken, []netip.Addr{inUse, own}) {
		t.Errorf("taken %v, error %v; want %v and %v", taken, err, inUse, own)
	}
	if took := time.Since(began); took < retransTimer {
		t.Errorf("a free address was passed after %v, want %v (RFC 4862 §5.4)", took, retransTimer)
	}
	// Where nothing is left to wait for it does not; a busy machine may take its time all the same.
	shortest := time.Hour
	for range 10 {
		began = time.Now()
		if taken, err = Probe(t.Context(), "eth0", []netip.Addr{inUse}); err != nil || len(taken) != 1 {
			t.Errorf("taken %v, error %v; want %v", taken, err, inUse)
		}
		if shortest = min(shortest, time.Since(began)); shortest < retransTimer/2 {
			break
		}
	}
	if shortest >= retransTimer {
		t.Errorf("waited %v at the least when every address was known to be taken", shortest)
	}
	if got := allmulti(t, l.self); got != "0" {
		t.Errorf("allmulti %s after the probe, want 0", got)
	}
	if _, err := Probe(t.Context(), "nothere0", []netip.Addr{free}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("probe on a link that is not there: %v, want fs.ErrNotExist", err)
	}
}

// RFC 4862 §5.4.3: of two hosts that probe for one address at the same time, both
// find it taken.
func TestProbesCollide(t *testing.T) {
	l := newLab(t)
	free := []netip.Addr{netip.MustParseAddr(unknown)}
	// The first to ask hears the second, who may have asked too late to hear the first. On a
	// busy machine the second may be too late for the first one, too, but not each time.
	for range 5 {
		other := make(chan []netip.Addr, 1)
		go func() {
			defer close(other)
			l.up.Do(t, func() {
				taken, _ := Probe(t.Context(), "lan0", free)
				other <- taken
			})
		}()
		eventually(t, "the other one begins", func() bool {
			return strings.Contains(l.up.Run(t, "ip", "-6", "maddr", "show", "dev", "lan0"), solicitedNode(free[0]).String())
		})
		mine, err := Probe(t.Context(), "eth0", free)
		if err != nil {
			t.Fatal(err)
		}
		if theirs := <-other; len(theirs)+len(mine) > 0 {
			return
		}
	}
	t.Error("neither has found it taken")
}

// The proxy of another host defends its lease against our probe.
func TestProbeMeetsProxy(t *testing.T) {
	l := newLab(t)
	l.add(t, leased)
	l.up.Do(t, func() {
		taken, err := Probe(t.Context(), "lan0", []netip.Addr{netip.MustParseAddr(leased)})
		if err != nil || len(taken) != 1 {
			t.Errorf("taken %v, error %v; want %s", taken, err, leased)
		}
	})
}

// The containers of a bridge forget where an address was before.
func TestAnnounce(t *testing.T) {
	self := testnet.Self(t)
	self.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	t.Cleanup(func() { _ = self.Command(context.Background(), "ip", "link", "del", "br0").Run() })
	self.Run(t, "ip", "link", "set", "br0", "up")
	containers := map[string]*testnet.Host{"port1": testnet.New(t, "c1"), "port2": testnet.New(t, "c2")}
	const addr4 = "192.0.2.5"
	for port, c := range containers {
		testnet.Connect(t, self, port, c, "eth0")
		self.Run(t, "ip", "link", "set", port, "master", "br0")
		c.Run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
		for _, addr := range []string{leased, addr4} {
			c.Run(t, "ip", "neigh", "add", addr, "lladdr", "02:00:00:00:00:aa", "nud", "stale", "dev", "eth0")
		}
	}
	mac, err := net.ParseMAC("02:00:00:00:00:bb")
	if err != nil {
		t.Fatal(err)
	}
	knows := func(c *testnet.Host, addr, mac string) bool {
		return strings.Contains(c.Run(t, "ip", "neigh", "show", addr, "dev", "eth0"), mac)
	}
	announcer, err := NewAnnouncer()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = announcer.Close() }()
	for _, addr := range []string{leased, addr4} {
		if err := announcer.Announce(t.Context(), []string{"port1", "gone"}, netip.MustParseAddr(addr), mac); err != nil {
			t.Errorf("announce %s: %v", addr, err)
		}
		eventually(t, "the container learns of "+addr, func() bool { return knows(containers["port1"], addr, "02:00:00:00:00:bb") })
		if !knows(containers["port2"], addr, "02:00:00:00:00:aa") {
			t.Errorf("%s was announced on a port that was not asked for", addr)
		}
	}
	if err := announcer.Announce(t.Context(), nil, netip.MustParseAddr(leased), mac[:4]); err == nil {
		t.Error("a MAC of 4 bytes: no error")
	}
}
