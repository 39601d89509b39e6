//go:build engine

package engine_test

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// What cannot be is refused in words that reach the user of the docker command,
// and leaves nothing behind.
func testRefusals(t *testing.T, l *lab) {
	l.network(t, "base", "--subnet", "2001:db8:2:1::/64", "--subnet", "10.79.0.0/24")
	l.container(t, "web", "--network", "base", "--ip6", "2001:db8:2:1::77", "-p", "8080:80")
	l.network(t, "egress", "--subnet", "2001:db8:2:2::/64", "-o", "inbound=none")
	var busy net.Listener
	l.host.Do(t, func() {
		var err error
		if busy, err = net.Listen("tcp", ":8081"); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = busy.Close() }()

	create := func(args ...string) []string {
		return append(append([]string{"network", "create", "-d", pluginName, "--ipam-driver", pluginName, "--ipv6"}, args...), "refused")
	}
	run := func(args ...string) []string {
		return append(append([]string{"run", "-d", "--name", "refused"}, args...), l.image)
	}
	const free = "--subnet=2001:db8:2:3::/64"
	for _, tc := range []struct {
		name    string
		command []string
		want    []string // in what docker says
	}{
		{"unknown option", create(free, "-o", "colour=red"), []string{`unknown option "colour"`, "masquerade"}},
		{"unknown IPAM option", create("--ipam-opt", "colour=red"), []string{`unknown option "colour"`, "prefix_length"}},
		{"bad value", create(free, "-o", "inbound=maybe"), []string{"inbound", `"maybe"`, "published, open, none"}},
		{"translation without a prefix", create(free, "-o", "masquerade=nptv6"), []string{"masquerade", `"nptv6"`, "nptv6=PREFIX"}},
		{"what macvlan cannot honour", create(free, "-o", "mode=macvlan", "-o", "inbound=none"), []string{"inbound", `"none"`, "mode=macvlan"}},
		{"no parent for macvlan", create(free, "-o", "mode=macvlan", "-o", "parent=eth7"), []string{"parent eth7 does not exist"}},
		{"a prefix that leads nowhere", create("--ipam-opt", "source=ula", "-o", "mode=macvlan"), []string{"leads nowhere", "--subnet"}},
		{"nobody lends", create("--ipam-opt", "source=pd"), []string{"source=pd", "no answer on eth0 within"}},
		{"fallback of a prefix that stays", create("--ipam-opt", "source=ula", "--ipam-opt", "fallback=ula"), []string{"option fallback", "only with source=pd"}},
		{"no VLAN", create(free, "-o", "mode=macvlan", "-o", "parent=eth0.5000"), []string{"parent eth0.5000 does not exist", "VLANs are 1 to 4094"}},
		{"subnet-router anycast address", create(free, "--gateway", "2001:db8:2:3::"), []string{"pool 2001:db8:2:3::/64: address 2001:db8:2:3:: is reserved: it is the subnet-router anycast address"}},
		{"IPv4 for future use", create(free, "--subnet", "240.0.0.0/24"), []string{"subnet 240.0.0.0/24 cannot be used"}},
		{"no such parent", create(free, "-o", "parent=eth7"), []string{"parent eth7 does not exist"}},
		{"no such parent for the prefix", create("--ipam-opt", "parent=eth7"), []string{"eth7"}},
		{"bridge of another", create(free, "-o", "com.docker.network.bridge.name=docker0"), []string{"docker0"}},
		{"second network on a pool", create("--subnet", "2001:db8:2:1::/64"), []string{"2001:db8:2:1::/64", "in use"}},
		{"overlapping subnet", create("--subnet", "2001:db8:2:1:8000::/80"), []string{"2001:db8:2:1:8000::/80 overlaps", "2001:db8:2:1::/64"}},
		{"overlapping IPv4 subnet", create("--subnet", "10.79.0.128/25"), []string{"10.79.0.128/25 overlaps", "10.79.0.0/24"}},
		{"around the host's address", create("--subnet", "198.51.100.0/25"), []string{"198.51.100.0/25 is a part of 198.51.100.0/24", "eth0"}},
		{"part of the host's network", create("--subnet", "198.51.100.128/25"), []string{"198.51.100.128/25 is a part of 198.51.100.0/24", "eth0"}},
		{"too short for SLAAC", create("--subnet", "2001:db8:2::/56"), []string{"prefix length 56 cannot work", "SLAAC", "64"}},
		{"too long for a container", create("--subnet", "2001:db8:2:3::/127"), []string{"prefix length 127 cannot work"}},
		{"prefix_length", create("--ipam-opt", "prefix_length=48"), []string{"prefix_length", `"48"`, "SLAAC"}},
		{"the whole on-link prefix", create("--subnet", linkPrefix), []string{linkPrefix + " is the whole on-link prefix of eth0"}},
		{"static without a subnet", create("--ipam-opt", "source=static"), []string{"--subnet"}},
		{"no IPv6", []string{"network", "create", "-d", pluginName, "--ipam-driver", pluginName, "refused"}, []string{"--ipv6"}},
		{"no addresses", []string{"network", "create", "-d", pluginName, "--ipam-driver", "null", "--ipv6", "refused"}, []string{"null ipam driver"}},

		{"multicast MAC", run("--network", "base", "--mac-address", "01:00:5e:00:00:01"), []string{"01:00:5e:00:00:01"}},
		{"endpoint option", run("--network", "name=base,driver-opt=colour=red"), []string{`unknown endpoint option "colour"`}},
		{"host port published already", run("--network", "base", "-p", "8080:80"), []string{"8080/tcp", "published", "already"}},
		{"host port in use", run("--network", "base", "-p", "8081:80"), []string{"8081/tcp"}},
		{"host address that cannot be meant", run("--network", "base", "-p", "["+hostIPv6+"]:8083:80"), []string{hostIPv6, "not translated"}},
		{"port where nobody may enter", run("--network", "egress", "-p", "8082:80"), []string{"inbound=none"}},
	} {
		l.traceless(t, tc.name, func(t *testing.T) {
			out, err := l.cli.Try(t.Context(), tc.command...)
			if err == nil {
				t.Errorf("docker %s is not refused", strings.Join(tc.command, " "))
			}
			for _, want := range tc.want {
				if !strings.Contains(out, want) {
					t.Errorf("docker does not say %q but:\n%s", want, out)
				}
			}
			// The engine keeps a container that it could not start.
			l.discard(t, "rm", "-f", "refused")
			if slices.Contains(strings.Fields(l.docker(t, "network", "ls", "--format", "{{.Name}}")), "refused") {
				t.Error("the engine has the network")
				l.discard(t, "network", "rm", "refused")
			}
		})
	}
	// Not traceless: an engine that does not get the IPv6 address keeps the IPv4
	// one it already had (moby libnetwork/network.go, createEndpoint). v6net
	// releases that when it starts.
	for address, want := range map[string]string{
		"2001:db8:2:1::77": "already leased",
		"2001:db8:2:1::1":  "already leased", // by the gateway
		"2001:db8:2:9::77": "",               // outside; newer engines say so themselves
	} {
		out, err := l.cli.Try(t.Context(), run("--network", "base", "--ip6", address)...)
		if err == nil || !strings.Contains(out, address) || !strings.Contains(out, want) {
			t.Errorf("address %s: %v, want %q", address, err, want)
		}
		l.discard(t, "rm", "-f", "refused")
	}
	mustFetch(t, l.host, bracket(l.ipv6(t, "web", "base"))) // it has not noticed
}
