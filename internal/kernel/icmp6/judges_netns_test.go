//go:build netns

package icmp6

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/ra"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// full is an advertisement with all that radvd 2.19 knows, too.
func full() spec.Advertisement {
	a := on()
	a.Prefixes = append(a.Prefixes, spec.AdvertisedPrefix{Prefix: netip.MustParsePrefix("2001:db8:2:2::1/64"), Router: true, Valid: 0xffffffff, Preferred: 0xffffffff})
	a.Routes = []spec.AdvertisedRoute{
		{Prefix: netip.MustParsePrefix("2001:db8:3::/48"), Preference: spec.PreferenceHigh, Lifetime: 1800},
		{Prefix: netip.MustParsePrefix("2001:db8:4:0:5::/80"), Preference: spec.PreferenceLow, Lifetime: 600},
	}
	a.DNS = lasting(netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("2001:db8::54"))
	a.Search = lasting("example.org", "b.example")
	return a
}

func lasting[T comparable](values ...T) (all []spec.Lasting[T]) {
	for _, v := range values {
		all = append(all, spec.Lasting[T]{Value: v, Lifetime: 1800})
	}
	return all
}

const radvdConfig = `interface br0 {
	AdvSendAdvert on;
	MinRtrAdvInterval 3;
	MaxRtrAdvInterval 4;
	AdvDefaultLifetime 1800;
	AdvDefaultPreference low;
	AdvCurHopLimit 64;
	AdvLinkMTU 1400;
	AdvRASrcAddress { ` + gateway + `; };
	prefix 2001:db8:2:1::/64 { AdvOnLink on; AdvAutonomous on; AdvValidLifetime 5400; AdvPreferredLifetime 2700; };
	prefix 2001:db8:2:2::1/64 { AdvOnLink off; AdvAutonomous off; AdvRouterAddr on; AdvValidLifetime infinity; AdvPreferredLifetime infinity; };
	route 2001:db8:3::/48 { AdvRoutePreference high; AdvRouteLifetime 1800; RemoveRoute off; };
	route 2001:db8:4:0:5::/80 { AdvRoutePreference low; AdvRouteLifetime 600; RemoveRoute off; };
	RDNSS 2001:db8::53 2001:db8::54 { AdvRDNSSLifetime 1800; FlushRDNSS off; };
	DNSSL example.org b.example { AdvDNSSLLifetime 1800; FlushDNSSL off; };
};
`

// Side by side with radvd: the same configuration is the same on the wire, but
// for the order of the options, of which RFC 4861 says nothing, and padding.
func TestSameAsRadvd(t *testing.T) {
	l := newRouterLab(t)
	l.self.Run(t, "ip", "addr", "add", "2001:db8:2:2::1/64", "dev", "br0", "nodad")
	l.attach(t, true)
	heard := l.watch(t)

	config := filepath.Join(t.TempDir(), "radvd.conf")
	if err := os.WriteFile(config, []byte(radvdConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	radvd := l.self.Command(t.Context(), "radvd", "-C", config, "-n", "-m", "stderr", "-u", "root", "-p", config+".pid")
	theirs := l.first(t, radvd, heard)

	l.advertisers.Advertise(full())
	var ours []byte
	eventually(t, "our advertisement", func() bool { ours = heard(); return ours != nil })
	if diff := cmp.Diff(words(theirs), words(ours)); diff != "" {
		t.Errorf("options in hex (-radvd +v6net):\n%s", diff)
	}
}

// What corerad sent for testdata/corerad.toml is what v6net sends for the same,
// by the same measure. It is recorded: see there how.
func TestSameAsCorerad(t *testing.T) {
	text, err := os.ReadFile("testdata/corerad.hex")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	l := newRouterLab(t)
	l.self.Run(t, "ip", "link", "set", "br0", "address", "02:00:00:00:00:c0")
	l.attach(t, true)
	heard := l.watch(t)
	a := full()
	a.Prefixes[1] = spec.AdvertisedPrefix{Prefix: netip.MustParsePrefix("2001:db8:2:3::/64"), OnLink: true, Valid: spec.Infinity, Preferred: spec.Infinity}
	a.PREF64 = lasting(netip.MustParsePrefix("64:ff9b::/96"))
	a.CaptivePortal = "https://portal.example/"
	l.advertisers.Advertise(a)
	var ours []byte
	eventually(t, "our advertisement", func() bool { ours = heard(); return ours != nil })
	if diff := cmp.Diff(words(theirs), words(ours)); diff != "" {
		t.Errorf("options in hex (-corerad +v6net):\n%s", diff)
	}
}

// A route that radvd announces on the link is left to it.
func TestYieldsToRadvd(t *testing.T) {
	l := newRouterLab(t)
	l.attach(t, false)
	config := filepath.Join(t.TempDir(), "radvd.conf")
	err := os.WriteFile(config, []byte(`interface eth0 {
		AdvSendAdvert on;
		AdvDefaultLifetime 0;
		AdvManagedFlag on;
		route 2001:db8:3::/48 { AdvRouteLifetime 1800; };
	};`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	l.container.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	var out testnet.Output
	radvd := l.container.Command(t.Context(), "radvd", "-C", config, "-n", "-m", "stderr", "-u", "root", "-p", config+".pid")
	radvd.Stderr = &out
	if err := radvd.Start(); err != nil {
		t.Fatal(err)
	}
	defer stop(radvd)
	time.Sleep(500 * time.Millisecond)
	l.advertisers.Listen([]string{"br0"})
	eventually(t, "radvd is heard", func() bool { return len(l.advertisers.Status()[0].Routers) == 1 })

	heard := l.watch(t)
	l.advertisers.Advertise(spec.Advertisement{Link: "br0", Routes: []spec.AdvertisedRoute{
		{Prefix: netip.MustParsePrefix("2001:db8:3::/48"), Lifetime: 1800},
		{Prefix: netip.MustParsePrefix("2001:db8:4::/48"), Lifetime: 1800},
	}})
	// Sent by the host: in the container's own direction radvd is seen, too.
	testnet.Eventually(t, 2*patience, "our advertisement, after the others were listened for", func() bool {
		m := heard()
		if m == nil {
			return false
		}
		d := ra.Decode(m)
		return len(d.Routes) == 1 && d.Routes[0].Prefix == netip.MustParsePrefix("2001:db8:4::/48")
	})
	if notes := l.advertisers.Status()[0].Notes; len(notes) != 1 || !strings.Contains(notes[0], "2001:db8:3::/48 is not announced") {
		t.Errorf("notes %q, radvd says\n%s", notes, out.String())
	}
}

// A radvd on this very host and link is asked before anything is announced, and
// its default route is not taken back by an advertisement of ours.
func TestKeepsQuietBesideRadvd(t *testing.T) {
	l := newRouterLab(t)
	l.attach(t, false)
	config := filepath.Join(t.TempDir(), "radvd.conf")
	err := os.WriteFile(config, []byte(`interface br0 {
		AdvSendAdvert on;
		AdvDefaultLifetime 1800;
	};`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var out testnet.Output
	radvd := l.self.Command(t.Context(), "radvd", "-C", config, "-n", "-m", "stderr", "-u", "root", "-p", config+".pid")
	radvd.Stderr = &out
	if err := radvd.Start(); err != nil {
		t.Fatal(err)
	}
	defer stop(radvd)
	eventually(t, "radvd's default route", func() bool { return strings.Contains(l.routes(t), "proto ra") })
	time.Sleep(time.Second) // what it sends by itself comes again within 16 s

	l.advertisers.Advertise(spec.Advertisement{Link: "br0", Routes: []spec.AdvertisedRoute{
		{Prefix: netip.MustParsePrefix("2001:db8:3::/48"), Lifetime: 1800},
	}})
	eventually(t, "why nothing is announced", func() bool {
		notes := l.advertisers.Status()[0].Notes
		return len(notes) == 1 && strings.Contains(notes[0], "another program of this host")
	})
	time.Sleep(15 * time.Second) // the others have been listened for
	if s := l.advertisers.Status()[0]; !s.Sent.IsZero() || s.Counters["sent_multicast"] != 0 || s.Counters[string(ra.Solicited)] != 0 {
		t.Errorf("status %+v, radvd says\n%s", s, out.String())
	}
	l.advertisers.Withdraw(t.Context(), "br0")
	time.Sleep(200 * time.Millisecond)
	if got := l.routes(t); !strings.Contains(got, "proto ra") {
		t.Errorf("default route %q, want radvd's still", got)
	}
}

// radvdump reads from the wire what it would take as a configuration.
func TestRadvdumpReadsOurs(t *testing.T) {
	l := newRouterLab(t)
	l.attach(t, true)
	dump := l.container.Command(t.Context(), "stdbuf", "-oL", "radvdump")
	var out testnet.Output
	dump.Stdout, dump.Stderr = &out, &out
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	defer stop(dump)
	time.Sleep(200 * time.Millisecond)
	l.advertisers.Advertise(full())
	for _, want := range []string{
		"AdvDefaultLifetime 1800;", "AdvDefaultPreference low;", "AdvCurHopLimit 64;", "AdvLinkMTU 1400;",
		"prefix 2001:db8:2:1::/64", "AdvValidLifetime 5400;", "AdvPreferredLifetime 2700;", "AdvRouterAddr on;", "AdvValidLifetime infinity;",
		"route 2001:db8:3::/48", "AdvRoutePreference high;", "route 2001:db8:4:0:5::/80", "AdvRouteLifetime 600;",
		"RDNSS 2001:db8::53 2001:db8::54", "AdvRDNSSLifetime 1800;", "DNSSL example.org b.example",
	} {
		eventually(t, "radvdump says "+want, func() bool { return strings.Contains(out.String(), want) })
	}
	if strings.Contains(strings.ToLower(out.String()), "invalid") {
		t.Errorf("radvdump complains:\n%s", out.String())
	}
}

// watch hears in the container, as `v6net ra watch` does. What it returns takes
// the last advertisement to all nodes that has come since.
func (l *routerLab) watch(t *testing.T) (heard func() []byte) {
	t.Helper()
	var mu sync.Mutex
	var last []byte
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go l.container.Do(t, func() {
		ended <- WatchAdvertisements(ctx, "eth0", func(from ra.Received, message []byte) {
			if v := ra.Judge(message, from); v != ra.Heard {
				t.Errorf("an advertisement is %s", v)
			}
			mu.Lock()
			defer mu.Unlock()
			last = bytes.Clone(message)
		})
	})
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	time.Sleep(100 * time.Millisecond) // until it listens
	return func() []byte {
		mu.Lock()
		defer mu.Unlock()
		defer func() { last = nil }()
		return last
	}
}

// first runs another daemon until its first advertisement was heard.
func (l *routerLab) first(t *testing.T, daemon *exec.Cmd, heard func() []byte) (message []byte) {
	t.Helper()
	var out testnet.Output
	daemon.Stdout, daemon.Stderr = &out, &out
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("%s says\n%s", daemon.Path, out.String())
		}
	}()
	eventually(t, "its advertisement", func() bool { message = heard(); return message != nil })
	// radvd sends its first before it minds signals, and a second one after that.
	eventually(t, "its next advertisement", func() bool { return heard() != nil })
	stop(daemon)
	eventually(t, "its farewell", func() bool { return heard() != nil })
	return message
}

func stop(c *exec.Cmd) {
	_ = c.Process.Signal(syscall.SIGTERM)
	_ = c.Wait()
}

// words are a message's header without its checksum, and its options in order.
func words(message []byte) []string {
	header := bytes.Clone(message[:16])
	header[2], header[3] = 0, 0
	var options []string
	for o := message[16:]; len(o) > 0; o = o[int(o[1])*8:] {
		if o[0] == 24 && o[1] == 3 && o[2] <= 64 { // RFC 4191 §2.3: padding is allowed, and radvd pads
			options = append(options, fmt.Sprintf("1802%x", o[2:16]))
			continue
		}
		options = append(options, fmt.Sprintf("%x", o[:int(o[1])*8]))
	}
	slices.Sort(options)
	return append([]string{fmt.Sprintf("%x", header)}, options...)
}
