package spec

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
)

func TestModesHaveTheirDefaults(t *testing.T) {
	for _, tc := range []struct {
		raw  map[string]string
		mac  MacvlanMode
		ip   IPvlanMode
		flag IPvlanFlag
		l3   bool
	}{
		{raw: map[string]string{"mode": "macvlan"}, mac: MacvlanBridge},
		{raw: map[string]string{"mode": "macvlan", "macvlan_mode": "passthru", "inbound": "open", "isolate": "off", "masquerade": "auto", "ra": "off"}, mac: MacvlanPassthru},
		{raw: map[string]string{"mode": "ipvlan"}, ip: IPvlanL2, flag: IPvlanBridge},
		{raw: map[string]string{"mode": "ipvlan", "ipvlan_mode": "l3s", "ipvlan_flag": "private", "ndproxy": "on"}, ip: IPvlanL3S, flag: IPvlanPrivate, l3: true},
		{raw: map[string]string{"mode": "macvlan", "com.docker.network.bridge.name": "", "com.docker.network.driver.mtu": "1400"}, mac: MacvlanBridge},
	} {
		o, err := ParseOptions(tc.raw)
		if err != nil {
			t.Errorf("%v: %v", tc.raw, err)
			continue
		}
		if o.MacvlanMode != tc.mac || o.IPvlanMode != tc.ip || o.IPvlanFlag != tc.flag || o.L3() != tc.l3 || !o.OnParent() {
			t.Errorf("%v: %+v", tc.raw, o)
		}
		// What the kernel does, whether or not we like it.
		if o.Inbound != InboundOpen || o.Isolate || o.Masquerade != SwitchOff || o.Masquerade4 || o.GatewayMode4 != GatewayRouted {
			t.Errorf("%v: says that packets are filtered or translated: %+v", tc.raw, o)
		}
	}
}

// What a mode cannot honour is refused: who closes a network must not find it open.
func TestModesRefuseWhatTheyCannotHonour(t *testing.T) {
	macvlan, ipvlan := map[string]string{"mode": "macvlan"}, map[string]string{"mode": "ipvlan"}
	l3 := map[string]string{"mode": "ipvlan", "ipvlan_mode": "l3"}
	for _, tc := range []struct {
		base       map[string]string
		key, value string
		says       string
	}{
		{macvlan, "inbound", "published", "open"},
		{macvlan, "inbound", "none", "firewall"},
		{ipvlan, "inbound", "none", "firewall"},
		{macvlan, "isolate", "on", "off"},
		{macvlan, "masquerade", "on", "own addresses"},
		{macvlan, "com.docker.network.bridge.enable_icc", "false", "mode=bridge"},
		{macvlan, "com.docker.network.bridge.gateway_mode_ipv6", "routed", "mode=bridge"},
		{macvlan, "ra.dns", "2001:db8::53", "upstream"},
		{macvlan, "ra.announce", "on", "upstream"},
		{macvlan, "ndproxy", "on", "answer for themselves"},
		{ipvlan, "ndproxy", "on", "answer for themselves"},
		{macvlan, "log_denied", "on", "pass this host's firewall by"},
		{macvlan, "ndproxy", "prefix", "answer for themselves"},
		{ipvlan, "ndproxy", "prefix", "answer for themselves"},
		{l3, "ndproxy", "prefix", "auto, on, off; with ipvlan_mode=l3"},
		{l3, "ra", "on", "ipvlan_mode=l3"},
		{macvlan, "ipvlan_mode", "l2", "mode=ipvlan"},
		{ipvlan, "macvlan_mode", "bridge", "mode=macvlan"},
		{map[string]string{"mode": "macvlan", "macvlan_mode": "private"}, "host_access", "on", "macvlan_mode=bridge"},
		{map[string]string{"mode": "ipvlan", "ipvlan_flag": "vepa"}, "host_access", "on", "ipvlan_flag=bridge"},
		{macvlan, "macvlan_mode", "tree", "bridge, private, vepa, passthru"},
		{ipvlan, "ipvlan_mode", "l4", "l2, l3, l3s"},
		{ipvlan, "ipvlan_flag", "flag", "bridge, private, vepa"},
	} {
		raw := maps.Clone(tc.base)
		raw[tc.key] = tc.value
		_, err := ParseOptions(raw)
		var option *OptionError
		if !errors.As(err, &option) || option.Key != tc.key || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: error %v, want one about %s that says %q", raw, err, tc.key, tc.says)
		}
	}
}

func TestInternalNetworkHasNoParent(t *testing.T) {
	o, err := ParseOptions(map[string]string{"mode": "macvlan", "parent": "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	n := Network{ID: strings.Repeat("a", 64), Options: o, Internal: true, IPv6: []Subnet{{}}}
	if err := n.validateMode(); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("error %v, want one that names the parent", err)
	}
}

// What means nothing without a parent is refused and not ignored.
func TestInternalNetworkRefusesWhatItCannotKeep(t *testing.T) {
	for key, raw := range map[string]map[string]string{
		"ra=on":      {"mode": "macvlan", "ra": "on"},
		"ndproxy=on": {"mode": "ipvlan", "ipvlan_mode": "l3", "ndproxy": "on"},
	} {
		o, err := ParseOptions(raw)
		if err != nil {
			t.Fatal(err)
		}
		n := Network{ID: strings.Repeat("a", 64), Options: o, IPv6: []Subnet{{Prefix: netip.MustParsePrefix("fd00::/64")}}}
		if err := n.Validate(); err != nil {
			t.Errorf("with a parent: %v", err)
		}
		n.Internal = true
		if err := n.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v, want one about %s", err, key)
		}
	}
}

// That a parent is not there is said with the reason where its name is one of no VLAN.
func TestNoParent(t *testing.T) {
	for name, vlans := range map[string]bool{"eth0": false, "eth0.50": false, "eth0.5000": true, "eth0.0": true, "eth0.x": false, ".5000": false, "5000": false} {
		if text := NoParent(name).Error(); !strings.HasPrefix(text, "parent "+name+" does not exist") || strings.Contains(text, "1 to 4094") != vlans {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestParseVLAN(t *testing.T) {
	for name, want := range map[string]struct {
		parent string
		id     int
	}{
		"eth0.50": {"eth0", 50}, "eth0.1": {"eth0", 1}, "bond0.4094": {"bond0", 4094}, "a.b.7": {"a.b", 7},
		"eth0": {}, "eth0.0": {}, "eth0.4095": {}, "eth0.050": {}, "eth0.": {}, ".50": {}, "eth0.x": {}, "eth0.-1": {}, "eth0.+5": {},
	} {
		parent, id, ok := ParseVLAN(name)
		if parent != want.parent || id != want.id || ok != (want.id != 0) {
			t.Errorf("%s: %q, %d, %t, want %+v", name, parent, id, ok, want)
		}
	}
}
