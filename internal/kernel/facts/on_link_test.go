package facts

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// Tried are prefixes on the parent's link that containers are known by there, under the
// address of one that runs.
func TestOnLinkTries(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	running := spec.Endpoint{ID: "e1", Joined: true, Sandbox: "/run/netns/web", IPv6: prefix("2001:db8:0:0:1::5/80")}
	here := spec.Subnet{Prefix: prefix("2001:db8:0:0:1::/80"), OnLink: true}
	lent := func(p spec.LentPrefix) spec.Subnet {
		return spec.Subnet{Prefix: here.Prefix, Lent: &spec.Lent{Prefixes: []spec.LentPrefix{p}}}
	}
	for name, tc := range map[string]struct {
		change func(*spec.NetworkStatus)
		want   string
	}{
		"one that runs":   {func(*spec.NetworkStatus) {}, "2001:db8:0:0:1::/80 2001:db8::1:0:0:5"},
		"none that runs":  {func(n *spec.NetworkStatus) { n.Endpoints[0].Joined = false }, "2001:db8:0:0:1::/80 invalid IP"},
		"macvlan":         {func(n *spec.NetworkStatus) { n.Options.Mode = spec.ModeMacvlan }, "2001:db8:0:0:1::/80 2001:db8::1:0:0:5 by its own MAC in /run/netns/web"},
		"ipvlan":          {func(n *spec.NetworkStatus) { n.Options.Mode = spec.ModeIPvlan }, "2001:db8:0:0:1::/80 2001:db8::1:0:0:5"},
		"routed":          {func(n *spec.NetworkStatus) { n.IPv6[0].OnLink = false }, ""},
		"internal":        {func(n *spec.NetworkStatus) { n.Internal = true }, ""},
		"masqueraded":     {func(n *spec.NetworkStatus) { n.Options.Masquerade = spec.SwitchOn }, ""},
		"no router there": {func(n *spec.NetworkStatus) { n.Parent = "eth1" }, ""},
		"lent, routed":    {func(n *spec.NetworkStatus) { n.IPv6[0] = lent(spec.LentPrefix{Prefix: prefix("2001:db8:9::/80")}) }, ""},
		"lent, no more": {func(n *spec.NetworkStatus) {
			n.IPv6[0] = lent(spec.LentPrefix{Prefix: here.Prefix, OnLink: true, Former: true})
		}, ""},
		"lent, as it was": {func(n *spec.NetworkStatus) { n.IPv6[0] = lent(spec.LentPrefix{Prefix: here.Prefix, OnLink: true}) }, "2001:db8:0:0:1::/80 2001:db8::1:0:0:5"},
		"lent, on the link": {func(n *spec.NetworkStatus) {
			n.IPv6[0] = lent(spec.LentPrefix{Prefix: prefix("2001:db8:9::/80"), OnLink: true})
		}, "2001:db8:9::/80 invalid IP"},
	} {
		n := spec.NetworkStatus{Network: spec.Network{ID: "aaaa", Options: spec.DefaultOptions(), IPv6: []spec.Subnet{here}}, Parent: "eth0", Endpoints: []spec.Endpoint{running}}
		tc.change(&n)
		f := doctor.Facts{
			Status:   &spec.Status{Networks: []spec.NetworkStatus{n}},
			Links:    []doctor.Link{{Name: "eth0", Neighbors: true}, {Name: "eth1", Neighbors: true}},
			Defaults: []doctor.Default{{Link: "eth0", Router: addr("fe80::1"), Usable: true}},
		}
		var got []string
		for _, try := range onLinkTries(f) {
			words := fmt.Sprint(try.Prefix, " ", try.Address)
			if try.OwnMAC {
				words += " by its own MAC in " + try.sandbox
			}
			if got = append(got, words); try.Router != addr("fe80::1") || try.Link != "eth0" {
				t.Errorf("%s: %+v", name, try)
			}
		}
		if strings.Join(got, "; ") != tc.want {
			t.Errorf("%s: tried are %q, want %q", name, got, tc.want)
		}
	}
}

// No provider is to blame where v6net answers nobody: with ndproxy=off that is said, and where the
// proxy has failed, or another host has the address, other checks say so.
func TestOnLinkBlamesWhoeverIsSilent(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for name, tc := range map[string]struct {
		ndproxy spec.Switch
		mode    spec.Mode
		proxy   spec.ProxyStatus
		want    string
	}{
		"the proxy answers":       {spec.SwitchAuto, spec.ModeBridge, spec.ProxyStatus{Parent: "eth0"}, "have the provider"},
		"it is off":               {spec.SwitchOff, spec.ModeBridge, spec.ProxyStatus{Parent: "eth1"}, "ndproxy=auto"},
		"it has failed":           {spec.SwitchAuto, spec.ModeBridge, spec.ProxyStatus{Parent: "eth0", Error: "no such device"}, ""},
		"another has the address": {spec.SwitchAuto, spec.ModeBridge, spec.ProxyStatus{Parent: "eth0", Conflicts: []spec.ProxyConflict{{Address: addr("2001:db8::1:0:0:5")}}}, ""},
		"another has some other":  {spec.SwitchAuto, spec.ModeBridge, spec.ProxyStatus{Parent: "eth0", Conflicts: []spec.ProxyConflict{{Address: addr("2001:db8::1:0:0:6")}}}, "have the provider"},
		"macvlan needs none":      {spec.SwitchOff, spec.ModeMacvlan, spec.ProxyStatus{Parent: "eth0", Error: "no such device"}, "mode=bridge"},
	} {
		o := spec.DefaultOptions()
		o.NDProxy, o.Mode = tc.ndproxy, tc.mode
		n := spec.NetworkStatus{
			Network: spec.Network{ID: "aaaa", Options: o, IPv6: []spec.Subnet{{Prefix: prefix("2001:db8:0:0:1::/80"), OnLink: true}}}, Parent: "eth0",
			Endpoints: []spec.Endpoint{{ID: "e1", Joined: true, Sandbox: "/run/netns/web", IPv6: prefix("2001:db8:0:0:1::5/80")}},
		}
		f := doctor.Facts{
			Status:   &spec.Status{Networks: []spec.NetworkStatus{n}, Proxies: []spec.ProxyStatus{tc.proxy}},
			Links:    []doctor.Link{{Name: "eth0", Neighbors: true}},
			Defaults: []doctor.Default{{Link: "eth0", Router: addr("fe80::1"), Usable: true}},
		}
		for _, try := range onLinkTries(f) { // as it ends where nobody answers
			try.Control = true
			f.OnLinks = append(f.OnLinks, try.OnLink)
		}
		var fixes []string
		for _, found := range doctor.Examine(f) {
			if found.Check == "on_link" {
				fixes = append(fixes, found.Fix)
			}
		}
		if got := strings.Join(fixes, "; "); !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%s: the fix is %q, want %q", name, got, tc.want)
		}
	}
}
