//go:build netns

package raguard_test

import (
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
// the given extension headers, and then a ping.
const sendAdvertisement = `
from scapy.all import *
import sys
ip = Ether(dst="33:33:00:00:00:01")/IPv6(src=sys.argv[1], dst="ff02::1", hlim=255)
ra = ICMPv6ND_RA(routerlifetime=1800)/ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
headers = {"none": [], "hop": [IPv6ExtHdrHopByHop()], "dest": [IPv6ExtHdrDestOpt()], "both": [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()]}[sys.argv[2]]
packet = ip
for h in headers: packet = packet/h
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
	took := func(c *testnet.Host) bool {
		return strings.Contains(c.Run(t, "ip", "addr", "show", "dev", "eth0"), "2001:db8:bad:")
	}
	for _, headers := range []string{"none", "hop", "dest", "both"} {
		wire.Run(t, "/usr/bin/python3", "-c", sendAdvertisement, local, headers)
		for deadline := time.Now().Add(20 * time.Second); !took(containers["open"]) && headers == "none"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the open container takes no advertisement: the test would prove nothing")
			}
		}
		// Whatever was sent before has arrived when this is answered.
		wire.Run(t, "ping", "-c", "1", "-W", "5", "2001:db8:1::8")
		if took(containers["guarded"]) {
			t.Errorf("an advertisement got in behind extension headers: %s", headers)
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
