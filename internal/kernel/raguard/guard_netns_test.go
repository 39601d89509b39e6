//go:build netns

package raguard_test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// sendAdvertisement has scapy send a router advertisement with a prefix, behind
// what is given: VLAN tags without a VLAN, extension headers.
const sendAdvertisement = `
from scapy.all import *
import sys
local, prefix, *before = sys.argv[1:]
packet, layers = Ether(dst="33:33:00:00:00:01"), [
    {"tag": Dot1Q(vlan=0), "service-tag": Dot1AD(vlan=0)}[b] for b in before if "tag" in b
] + [IPv6(src=local, dst="ff02::1", hlim=255)] + [
    {"hop": IPv6ExtHdrHopByHop(), "dest": IPv6ExtHdrDestOpt()}[b] for b in before if "tag" not in b
]
for layer in layers: packet = packet/layer
ra = ICMPv6ND_RA(routerlifetime=1800)/ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64)
sendp(packet/ra, iface="eth0", verbose=False)
`

// Of two containers, the one whose link is guarded never takes an advertisement,
// though its kernel would: not when the link was moved into its namespace either.
// All else gets through.
func TestGuard(t *testing.T) {
	self, wire := testnet.Self(t), testnet.New(t, "wire")
	testnet.Connect(t, self, "eth0", wire, "eth0")
	wire.Run(t, "ip", "addr", "add", "2001:db8:1::1/64", "dev", "eth0", "nodad")
	containers := map[string]*testnet.Host{}
	for i, name := range []string{"guarded", "open"} {
		c := testnet.New(t, name)
		containers[name] = c
		self.Run(t, "ip", "link", "add", "mv0", "link", "eth0", "type", "macvlan", "mode", "bridge")
		if name == "guarded" {
			if err := open(t).Attach(t.Context(), "mv0"); err != nil {
				t.Fatal(err)
			}
		}
		self.Run(t, "ip", "link", "set", "mv0", "netns", name, "name", "eth0")
		for _, command := range []string{
			"sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.forwarding=0 net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.router_solicitations=0",
			"ip link set eth0 up",
			"ip addr add 2001:db8:1::" + string(rune('8'+i)) + "/64 dev eth0 nodad",
		} {
			c.Run(t, strings.Fields(command)...)
		}
	}
	local := ""
	for _, field := range strings.Fields(wire.Run(t, "ip", "-brief", "-6", "addr", "show", "dev", "eth0", "scope", "link")) {
		if strings.HasPrefix(field, "fe80:") {
			local, _, _ = strings.Cut(field, "/")
		}
	}
	took := func(c *testnet.Host, prefix string) bool {
		return strings.Contains(c.Run(t, "ip", "addr", "show", "dev", "eth0"), prefix)
	}
	for i, before := range []string{
		"", "hop", "dest", "hop dest", "dest dest dest", "dest dest dest dest dest", "hop dest dest dest dest dest",
		"tag", "tag tag", "service-tag tag", "tag tag tag tag tag tag", "tag tag hop dest",
	} {
		prefix := fmt.Sprintf("2001:db8:bad:%x:", i+1)
		wire.Run(t, append([]string{"/usr/bin/python3", "-c", sendAdvertisement, local, prefix + ":"}, strings.Fields(before)...)...)
		for deadline := time.Now().Add(20 * time.Second); !took(containers["open"], prefix); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("behind %q the open container takes no advertisement: the test would prove nothing", before)
			}
		}
		// This takes the way of the advertisement, behind it: it is for a group, of
		// which the guarded container is the one member.
		wire.Run(t, "ping", "-c", "1", "-W", "10", "ff02::1:ff00:8%eth0")
		if took(containers["guarded"], prefix) {
			t.Errorf("an advertisement got in behind %q", before)
		}
	}
	if routes := containers["guarded"].Run(t, "ip", "-6", "route", "show", "default"); routes != "" {
		t.Errorf("the guarded container has a default route: %s", routes)
	}
}

// With the plugin's capabilities alone a link gets the guard once, however often
// it is asked for, and once more for each daemon that finds it.
func TestAttachTwice(t *testing.T) {
	self, wire := testnet.Self(t), testnet.New(t, "wire")
	testnet.Connect(t, self, "eth0", wire, "eth0")
	self.Run(t, "ip", "link", "add", "mv0", "link", "eth0", "type", "macvlan", "mode", "bridge")
	for daemon := range 2 {
		g := open(t)
		asPlugin(t, func() error {
			for range 3 {
				if err := g.Attach(t.Context(), "mv0"); err != nil {
					return err
				}
			}
			return nil
		})
		if got := programs(t, "mv0"); got != daemon+1 {
			t.Errorf("the guard is there %d times, want %d", got, daemon+1)
		}
	}
}

func open(t *testing.T) *raguard.Guard {
	t.Helper()
	g := new(raguard.Guard)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// asPlugin calls f on a thread that has the capabilities in config.json and no
// others, and ends with f.
func asPlugin(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		const allowed uint64 = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_BPF
		data := [2]unix.CapUserData{}
		for i := range data {
			set := uint32(allowed >> (32 * i))
			data[i] = unix.CapUserData{Effective: set, Permitted: set}
		}
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// programs counts what sees the packets that a link receives.
func programs(t *testing.T, name string) int {
	t.Helper()
	device, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := link.QueryPrograms(link.QueryOptions{Target: device.Index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	return len(attached.Programs)
}
