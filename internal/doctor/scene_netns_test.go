//go:build netns

package doctor_test

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/facts"
	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/nft"
	"github.com/v6net/v6net/internal/kernel/sysctl"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// scene is a host with one network of v6net's, on which nothing is wrong until the
// test breaks it. Its eth0 leads to a router, to which the network's prefix is known.
type scene struct {
	self, up  *testnet.Host
	container *testnet.Host // behind the bridge, without addresses
	bridge    string
	look      facts.Host
	status    *spec.Status
	rules     func() // puts v6net's own in place
	firewall  *nft.Firewall
}

const routerAddress = "2001:db8::1"

func newScene(t *testing.T) *scene {
	t.Helper()
	id := strings.Repeat("d0", 32)
	s := &scene{self: testnet.Self(t), up: testnet.New(t, "up"), bridge: spec.BridgeName(id), look: facts.New()}
	s.up.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	for _, key := range []string{"net/ipv6/conf/all/forwarding", "net/ipv4/ip_forward"} {
		s.self.Sysctl(t, key, "1")
		t.Cleanup(func() { s.self.Sysctl(t, key, "0") })
	}
	testnet.Connect(t, s.self, "eth0", s.up, "lan0")
	s.up.AddAddress(t, routerAddress+"/64", "lan0")
	s.self.AddAddress(t, "2001:db8::2/64", "eth0")
	s.self.Run(t, "ip", "-6", "route", "add", "default", "via", s.up.LinkLocal(t, "lan0"), "dev", "eth0")
	s.up.Run(t, "ip", "-6", "route", "add", "2001:db8:1::/64", "via", s.self.LinkLocal(t, "eth0"), "dev", "lan0")

	links, err := link.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(links.Close)
	prefix := netip.MustParsePrefix("2001:db8:1::/64")
	gateway := netip.MustParseAddr("2001:db8:1::1")
	bridge := spec.Bridge{Name: s.bridge, Alias: spec.NetworkAlias(id), Addresses: []netip.Prefix{netip.PrefixFrom(gateway, 64), spec.LinkLocalGateway(id)}}
	if err := links.EnsureBridge(t.Context(), bridge); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := links.Remove(context.Background(), bridge.Name, bridge.Alias); err != nil {
			t.Error(err)
		}
	})
	s.container = testnet.New(t, "container")
	testnet.Connect(t, s.self, "v6nvd0", s.container, "eth0")
	s.self.Run(t, "ip", "link", "set", "dev", "v6nvd0", "master", s.bridge)
	s.useFirewall(t, id, prefix)
	s.status = &spec.Status{Networks: []spec.NetworkStatus{{
		Network: spec.Network{
			ID: id, Name: "web", Options: spec.DefaultOptions(),
			IPv6: []spec.Subnet{{Prefix: prefix, Gateway: gateway, Source: spec.SourceStatic}},
			IPv4: []spec.Subnet{{Prefix: netip.MustParsePrefix("172.16.0.0/24"), Source: spec.SourcePrivate}},
		},
		Bridge: s.bridge, Parent: "eth0",
	}}}
	return s
}

// useFirewall puts v6net's own rules in place.
func (s *scene) useFirewall(t *testing.T, id string, prefix netip.Prefix) {
	t.Helper()
	f, err := nft.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ruleset, err := firewall.Build(firewall.Config{Parents: []string{"eth0"}, Networks: []firewall.Network{
		{ID: id, Bridge: s.bridge, Isolate: true, ICC: true, Inbound: spec.InboundPublished, Pools: []netip.Prefix{prefix}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.firewall = f
	s.rules = func() {
		t.Helper()
		if err := f.Apply(t.Context(), ruleset); err != nil {
			t.Fatal(err)
		}
	}
	s.rules()
	t.Cleanup(func() {
		if err := f.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// facts are what is found out about the host now.
func (s *scene) facts(t *testing.T) doctor.Facts {
	t.Helper()
	f := doctor.Facts{Status: s.status}
	if s.status == nil {
		f.NoDaemon = "no v6net daemon answers"
	} else if s.firewall != nil {
		var err error
		if s.status.Obstacles, err = s.firewall.Obstacles(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.look.Gather(t.Context(), &f)
	for _, u := range f.Unknown {
		t.Errorf("%s could not be found out: %s", u.What, u.Why)
	}
	return f
}

// findings are those of one check.
func (s *scene) findings(t *testing.T, check string) []doctor.Finding {
	t.Helper()
	return of(doctor.Examine(s.facts(t)), check)
}

// finds wants one finding of a check, of that level, with those words in it.
func (s *scene) finds(t *testing.T, check string, level doctor.Level, words ...string) doctor.Finding {
	t.Helper()
	return one(t, s.findings(t, check), level, words...)
}

func one(t *testing.T, found []doctor.Finding, level doctor.Level, words ...string) doctor.Finding {
	t.Helper()
	if len(found) != 1 {
		t.Fatalf("found %+v, want one %s with %q", found, level, words)
	}
	f := found[0]
	if f.Level != level || f.Expected == "" || f.Why == "" || f.Fix == "" {
		t.Errorf("found %+v, want a %s that says what is expected, why, and how to fix it", f, level)
	}
	for _, word := range words {
		if !strings.Contains(f.On+": "+f.Found, word) {
			t.Errorf("found %q on %q, want %q in it", f.Found, f.On, word)
		}
	}
	return f
}

// mended wants no finding of a check any more.
func (s *scene) mended(t *testing.T, check string) {
	t.Helper()
	if found := s.findings(t, check); len(found) != 0 {
		t.Errorf("after the fix there is still %+v", found)
	}
}

// set does what `v6net doctor --fix` does for a finding.
func (s *scene) set(t *testing.T, f doctor.Finding) {
	t.Helper()
	if len(f.Settings) == 0 {
		t.Fatalf("%+v: there is nothing to set", f)
	}
	for _, setting := range f.Settings {
		if err := sysctl.New("").Set(t.Context(), setting.Key, setting.Value); err != nil {
			t.Fatal(err)
		}
	}
}

// later runs a program at the end of the test, when its context has ended.
func (s *scene) later(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		if out, err := s.self.Command(context.Background(), args...).CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	})
}

// run does what a finding says.
func (s *scene) run(t *testing.T, f doctor.Finding) {
	t.Helper()
	s.self.Run(t, "sh", "-ec", f.Fix)
}

// On a host where all is as it should be, there is nothing but what somebody else
// decides who keeps the machine's clock.
func TestASoundHostHasNoFindings(t *testing.T) {
	s := newScene(t)
	found := slices.DeleteFunc(doctor.Examine(s.facts(t)), func(f doctor.Finding) bool { return f.Check == "clock" && f.Level == doctor.Note })
	if len(found) != 0 {
		t.Errorf("a sound host has %+v", found)
	}
}

// Nor has one without networks, where they could be made.
func TestAHostWithoutNetworksHasNoFindings(t *testing.T) {
	self, up := testnet.Self(t), testnet.New(t, "up")
	testnet.Connect(t, self, "eth0", up, "lan0")
	self.AddAddress(t, "2001:db8::2/64", "eth0")
	self.Run(t, "ip", "-6", "route", "add", "default", "via", up.LinkLocal(t, "lan0"), "dev", "eth0")
	s := &scene{self: self, up: up, look: facts.New(), status: &spec.Status{}}
	found := slices.DeleteFunc(doctor.Examine(s.facts(t)), func(f doctor.Finding) bool { return f.Check == "clock" && f.Level == doctor.Note })
	if len(found) != 0 {
		t.Errorf("a sound host has %+v", found)
	}
}
