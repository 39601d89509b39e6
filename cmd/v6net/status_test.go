package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

func TestPrintStatus(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	options := spec.DefaultOptions()
	for _, tc := range []struct {
		name   string
		status spec.Status
		want   []string
	}{
		{"nothing yet", spec.Status{Version: "1.2.3"}, []string{
			"v6net 1.2.3",
			"no networks (make one: docker network create -d DRIVER --ipam-driver DRIVER --ipv6 NAME, DRIVER being v6net:latest for the managed plugin, v6net for the service; or podman network create -d v6net NAME)",
		}},
		{"another firewall in the way", spec.Status{Version: "1.2.3", Obstacles: []spec.Obstacle{{Table: "inet filter", Chain: "forward", Why: "policy drop", Fix: "nft insert rule inet filter forward …"}}}, []string{
			"v6net 1.2.3",
			"OBSTACLE table inet filter, chain forward refuses what v6net lets through (policy drop). Mend it: nft insert rule inet filter forward …",
			"no networks (make one: docker network create -d DRIVER --ipam-driver DRIVER --ipv6 NAME, DRIVER being v6net:latest for the managed plugin, v6net for the service; or podman network create -d v6net NAME)",
		}},
		{"networks on a parent", spec.Status{Version: "1.2.3", Networks: []spec.NetworkStatus{
			{Network: spec.Network{ID: strings.Repeat("a", 64), Options: spec.Options{Mode: spec.ModeMacvlan, MacvlanMode: spec.MacvlanBridge, Inbound: spec.InboundOpen},
				IPv6: []spec.Subnet{{Prefix: prefix("2001:db8:1::/64"), Source: spec.SourceStatic, Reason: "named by --subnet", Host: addr("2001:db8:1::9")}}}, Parent: "eth0"},
			{Network: spec.Network{ID: strings.Repeat("b", 64), Options: spec.Options{Mode: spec.ModeIPvlan, IPvlanMode: spec.IPvlanL3, Inbound: spec.InboundOpen}}, Parent: "eth0.50"},
		}}, []string{
			"v6net 1.2.3",
			"NETWORK aaaaaaaaaaaa macvlan bridge on eth0, inbound open",
			"prefix 2001:db8:1::/64 static named by --subnet",
			"this host 2001:db8:1::9",
			"NETWORK bbbbbbbbbbbb ipvlan l3 on eth0.50, inbound open",
		}},
		{"sources that lend", spec.Status{Version: "1.2.3", Networks: []spec.NetworkStatus{{Network: spec.Network{ID: strings.Repeat("a", 64), Options: options}, Bridge: "v6naaaaaaaaaaaa"}},
			Delegations: []spec.DelegationStatus{
				{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}, State: "renewing", Error: "no DHCPv6 server on eth0 answers",
					Since: time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC), Delegations: []spec.Delegation{
						{Prefix: prefix("2001:db8:a::/56"), Parent: "eth0", Preferred: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Valid: time.Date(2036, 11, 27, 2, 0, 0, 0, time.UTC), Origin: "DHCPv6 server 0003"},
						{Prefix: prefix("2001:db8:b::/124"), Parent: "eth0", OnLink: true, Origin: "a cloud"},
						{Prefix: prefix("2001:db8:c::/64"), Parent: "eth0", OnLink: true, Evidence: "2001:db8:c::7 was solicited", Origin: "another cloud"},
					}},
			}}, []string{
			"v6net 1.2.3",
			"NETWORK aaaaaaaaaaaa bridge v6naaaaaaaaaaaa, inbound published",
			"SOURCE pd on eth0 renewing since 2026-11-27 01:02:03",
			"ERROR no DHCPv6 server on eth0 answers",
			"lent 2001:db8:a::/56 routed to this host, until 2036-11-27 02:00:00 (deprecated), by DHCPv6 server 0003",
			"lent 2001:db8:b::/124 on-link at eth0, without end, by a cloud",
			"lent 2001:db8:c::/64 on-link at eth0 (2001:db8:c::7 was solicited), without end, by another cloud",
		}},
		{"renumbered", spec.Status{Version: "1.2.3", Networks: []spec.NetworkStatus{renumbered(time.Date(2026, 11, 27, 12, 0, 0, 0, time.Local))}}, []string{
			"v6net 1.2.3",
			"NETWORK aaaaaaaaaaaa bridge v6naaaaaaaaaaaa, inbound published",
			"prefix 2001:db8:a000::/64 pd part of 2001:db8:a000::/56",
			"in use 2001:db8:b000::/64 server 00:03, preferred until 2026-11-27 13:00:00, valid until 2026-11-27 14:00:00",
			"former 2001:db8:a000::/64 valid until 2026-11-27 12:00:00",
			"NOTE endpoint eeeeeeeeeeee keeps the addresses that it had",
			"endpoint eeeeeeeeeeee 2001:db8:b000::2, 2001:db8:a000::2 (former), 172.16.0.2",
			"endpoint ffffffffffff web 2001:db8:b000::3",
		}},
		{"everything", spec.Status{
			Version: "1.2.3",
			Networks: []spec.NetworkStatus{
				{
					Network: spec.Network{ID: strings.Repeat("a", 64), Options: options,
						IPv6: []spec.Subnet{{Prefix: prefix("2001:db8:1:0:2::/80"), Source: spec.SourceParent, Reason: "free part of 2001:db8:1::/64, the on-link prefix of eth0"}},
						IPv4: []spec.Subnet{{Prefix: prefix("172.16.0.0/24"), Source: spec.SourcePrivate, Reason: "free part of 172.16.0.0/12"}}},
					Bridge: "v6naaaaaaaaaaaa",
					RA: &spec.AdvertiserStatus{
						Advertisement: spec.Advertisement{
							RouterLifetime: 1800, Preference: spec.PreferenceLow, MTU: 1400, DNS: []spec.Lasting[netip.Addr]{{Value: addr("2001:db8::53"), Lifetime: 1800}},
							Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8:1:0:2::/80"), OnLink: true, Valid: 5400, Preferred: 2700}},
						},
						Sent: time.Now(), Error: "network is down", Notes: []string{"router fe80::9 advertises MTU 1280, this host 1400"},
						Routers:  []spec.HeardRouter{{Advertisement: spec.Advertisement{Source: addr("fe80::9"), MTU: 1280}}},
						Counters: map[string]uint64{"sent_multicast": 3},
					},
					Endpoints: []spec.Endpoint{{ID: strings.Repeat("e", 64), IPv6: prefix("2001:db8:1:0:2::2/80"), IPv4: prefix("172.16.0.2/24"),
						Ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}, {Protocol: "udp", Port: 53}}}},
				},
				{
					Network: spec.Network{ID: strings.Repeat("b", 64), Options: options, Internal: true,
						IPv6: []spec.Subnet{{Prefix: prefix("fd00::/64"), Source: spec.SourceULA, Reason: "unique local prefix made by RFC 4193"}}},
					Bridge: "br-b", Error: "parent eth1: no such link",
					RA: &spec.AdvertiserStatus{Error: "network is down"},
				},
			},
			Pools: []spec.PoolStatus{
				{Pool: spec.Pool{Prefix: prefix("2001:db8:1:0:2::/80"), Source: spec.SourceParent}, Leases: 2, Used: true},
				{Pool: spec.Pool{Prefix: prefix("fd00:0:0:1::/64"), Source: spec.SourceULA}, Leases: 1},
			},
			Proxies: []spec.ProxyStatus{{Parent: "eth0", Path: "packet", Error: "eth0 is down", PathError: "eBPF needs CAP_BPF", AllMulticast: true, Leases: 1, Prefixes: []netip.Prefix{prefix("2001:db8:1:0:3::/80")},
				Conflicts: []spec.ProxyConflict{{Address: addr("2001:db8:1:0:2::2"), HardwareAddr: "02:00:00:00:00:09", Seen: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}}, Addresses: []netip.Addr{addr("2001:db8:1:0:2::2")},
				Counters: map[string]uint64{"unknown": 2, "answered": 7, "limited": 0}}},
			Parents: []spec.AdvertiserStatus{{
				Advertisement: spec.Advertisement{Link: "eth0", Managed: true, Routes: []spec.AdvertisedRoute{
					{Prefix: prefix("2001:db8:2::/64"), Lifetime: 1800}, {Prefix: prefix("2001:db8:3::/64"), Until: time.Now()}}},
				Sent: time.Now(),
				Routers: []spec.HeardRouter{{Advertisement: spec.Advertisement{Source: addr("fe80::9"), RouterLifetime: 1800, Managed: true,
					DNS: []spec.Lasting[netip.Addr]{{Value: addr("2001:db8::53")}}, Search: []spec.Lasting[string]{{Value: "a\x1b[2J\tb", Lifetime: 60}}}}},
			}},
			Sysctls: []spec.SysctlStatus{{Key: "net/ipv6/conf/all/forwarding", Original: "0"}},
		}, []string{
			"v6net 1.2.3",
			"NETWORK aaaaaaaaaaaa bridge v6naaaaaaaaaaaa, inbound published",
			"prefix 2001:db8:1:0:2::/80 parent free part of 2001:db8:1::/64, the on-link prefix of eth0",
			"prefix 172.16.0.0/24 private free part of 172.16.0.0/12",
			"advertises default router for 30m0s, preference low, MTU 1400, sent_multicast 3",
			"prefix 2001:db8:1:0:2::/80, on-link (L), valid 1h30m0s, preferred 45m0s",
			"DNS server 2001:db8::53 for 30m0s",
			"not advertised now: network is down",
			"NOTE router fe80::9 advertises MTU 1280, this host 1400",
			"router fe80::9 no default router, MTU 1280",
			"endpoint eeeeeeeeeeee 2001:db8:1:0:2::2, 172.16.0.2 8080->80/tcp, 53/udp",
			"NETWORK bbbbbbbbbbbb bridge br-b, inbound published, internal",
			"DEGRADED parent eth1: no such link",
			"prefix fd00::/64 ula unique local prefix made by RFC 4193",
			"advertises nothing yet",
			"not advertised now: network is down",
			"POOL fd00:0:0:1::/64 ula, not used by a v6net network, 1 leases",
			"NDP PROXY on eth0 not answering, 1 addresses, all multicast, answered 7, unknown 2",
			"DEGRADED eth0 is down",
			"not by eBPF eBPF needs CAP_BPF",
			"CONFLICT 2001:db8:1:0:2::2 is used by 02:00:00:00:00:09, too, last at 2026-11-26 12:00:00",
			"all of 2001:db8:1:0:3::/80",
			"2001:db8:1:0:2::2",
			"PARENT eth0 1 routes announced with managed (M) as its routers say, 1 routers",
			"route 2001:db8:2::/64 for 30m0s",
			"route 2001:db8:3::/64, withdrawn",
			"router fe80::9 default router for 30m0s, managed (M)",
			"DNS server 2001:db8::53, withdrawn",
			`DNS search domain "a\x1b[2J\tb" for 1m0s`,
			"SYSCTL net/ipv6/conf/all/forwarding was 0, put back with the last network",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			if err := printStatus(&out, tc.status, screen{}); err != nil {
				t.Fatal(err)
			}
			var got []string // without the columns' padding
			for line := range strings.Lines(out.String()) {
				if words := strings.Fields(line); len(words) > 0 {
					got = append(got, strings.Join(words, " "))
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

// full is a terminal that has gone.
type full struct{}

var errFull = errors.New("broken pipe")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestPrintStatusReportsTheWriter(t *testing.T) {
	if err := printStatus(full{}, spec.Status{}, screen{}); !errors.Is(err, errFull) {
		t.Errorf("printStatus = %v, want the writer's error", err)
	}
}
