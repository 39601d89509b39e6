//go:build netns

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"         //nolint:depguard // plantDeadFilter
	"github.com/cilium/ebpf/asm"     //nolint:depguard // plantDeadFilter
	"github.com/vishvananda/netlink" //nolint:depguard // plantDeadFilter

	"github.com/v6net/v6net/internal/testnet"
)

// alone is `v6net ndproxy` on a host whose eth0 leads to a Linux host upstream.
type alone struct {
	self, up *testnet.Host
	*program
}

func newAlone(t *testing.T, args ...string) *alone {
	a := newAloneLink(t)
	a.start(t, args...)
	return a
}

func newAloneLink(t *testing.T) *alone {
	a := &alone{self: testnet.Self(t), up: testnet.New(t, "up")}
	testnet.Connect(t, a.self, "eth0", a.up, "lan0")
	a.up.Run(t, "ip", "addr", "add", "2001:db8::2/64", "dev", "lan0", "nodad")
	return a
}

func (a *alone) start(t *testing.T, args ...string) {
	a.program = startProgram(t, a.self, "ndproxy "+strings.Join(args, " "))
	t.Cleanup(func() { a.end(t) })
}

func (a *alone) resolves(t *testing.T, addr string) bool {
	t.Helper()
	_ = a.up.Command(t.Context(), "ip", "neigh", "del", addr, "dev", "lan0").Run() // there may be none
	_ = a.up.Command(t.Context(), "ping", "-c", "1", "-W", "0.2", addr).Run()      // makes Linux ask
	return strings.Contains(a.up.Run(t, "ip", "neigh", "show", addr, "dev", "lan0"), "lladdr")
}

// patience is longer than another test's flood lasts: all namespaces of a kernel share one
// limit of neighbours (net.ipv6.neigh.default.gc_thresh3), and while that is reached no
// address is resolved.
const patience = 45 * time.Second

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testnet.Eventually(t, patience, what, ok)
}

func TestNDProxyAlone(t *testing.T) {
	list := filepath.Join(t.TempDir(), "addresses")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("2001:db8::5 # web\n")
	a := newAlone(t, "--interface", "eth0", "--prefix", "2001:db8::/64", "--addresses", list)
	within(t, "the address is answered for", func() bool { return a.resolves(t, "2001:db8::5") })
	if a.resolves(t, "2001:db8::6") {
		t.Error("an address that is not in the list is answered for")
	}
	write("2001:db8::6\n")
	within(t, "the changed list is read", func() bool { return a.resolves(t, "2001:db8::6") })
	if a.resolves(t, "2001:db8::5") {
		t.Error("an address that is no longer in the list is answered for")
	}
	write("2001:db8::7\nfoo\n")
	within(t, "a wrong list is refused", func() bool { return a.said("line 2: foo: allowed is one IPv6 address") > 0 })
	within(t, "an address of the list of before is answered for", func() bool { return a.resolves(t, "2001:db8::6") })
	if a.resolves(t, "2001:db8::7") {
		t.Error("a wrong list has changed something")
	}
	read := a.said("answering for")
	a.signal(syscall.SIGHUP)
	within(t, "SIGHUP has it read again", func() bool { return a.said("not read again") > 1 || a.said("answering for") > read })
	a.signal(syscall.SIGUSR1)
	within(t, "SIGUSR1 prints counters", func() bool { return a.said("NDP PROXY on eth0", "ebpf path, 1 addresses", "solicited") == 1 })
	// What the proxy sets on the link is no reason to dial it again.
	if n := a.said("proxying neighbor discovery"); n != 1 {
		t.Errorf("the link was dialed %d times, want once", n)
	}
}

func TestNDProxyAllOfAPrefix(t *testing.T) {
	a := newAlone(t, "--interface", "eth0", "--prefix", "2001:db8::a:0/112", "--path", "packet")
	within(t, "its addresses are answered for", func() bool { return a.resolves(t, "2001:db8::a:1234") })
	if a.resolves(t, "2001:db8::b:1") {
		t.Error("an address that is not in the prefix is answered for")
	}
	a.signal(syscall.SIGUSR1)
	within(t, "the path is shown", func() bool { return a.said("packet path") == 1 && a.said("all of 2001:db8::a:0/112") == 1 })
	// All multicast is received now, which the kernel tells as a change of the link.
	if n := a.said("proxying neighbor discovery"); n != 1 {
		t.Errorf("the link was dialed %d times, want once", n)
	}
}

func TestNDProxyReadsNDPPDConf(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "ndppd.conf")
	if err := os.WriteFile(conf, []byte("proxy eth0 {\n  router yes\n  rule 2001:db8::a:0/112 {\n    static\n  }\n  rule 2001:db8::5 { static }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAlone(t, "--ndppd-config", conf)
	within(t, "its rules are followed", func() bool { return a.resolves(t, "2001:db8::a:1") && a.resolves(t, "2001:db8::5") })
	if a.resolves(t, "2001:db8::b:1") {
		t.Error("an address without a rule is answered for")
	}
}

// A SIGHUP while the list is read for the first time does not end the program, and
// a list that is replaced meanwhile is read again. A pipe in its place says when it
// is being read.
func TestNDProxyIsToldWhileItStarts(t *testing.T) {
	list := filepath.Join(t.TempDir(), "addresses")
	if err := syscall.Mkfifo(list, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list+".new", []byte("2001:db8::6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAlone(t, "--interface", "eth0", "--addresses", list)
	pipe, err := os.OpenFile(list, os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGHUP)
	a.signal(syscall.SIGUSR1)
	if err := os.Rename(list+".new", list); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.WriteString("2001:db8::5\n"); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the list of then is answered for", func() bool { return a.resolves(t, "2001:db8::6") })
	if a.resolves(t, "2001:db8::5") {
		t.Error("an address of the first list is answered for")
	}
	within(t, "SIGUSR1 prints counters", func() bool { return a.said("NDP PROXY on eth0") == 1 })
}

// A prefix that a router comes into is answered for no more: its hosts would look
// for the router here.
func TestNDProxyLeavesRouters(t *testing.T) {
	a := newAlone(t, "--interface", "eth0", "--prefix", "2001:db8::a:0/112", "--prefix", "2001:db8::b:0/112")
	within(t, "its addresses are answered for", func() bool { return a.resolves(t, "2001:db8::a:2") && a.resolves(t, "2001:db8::b:2") })
	a.self.Run(t, "ip", "route", "add", "default", "via", "2001:db8::a:1", "dev", "eth0", "onlink")
	within(t, "the prefix is left", func() bool { return a.said("answered for no more", "2001:db8::a:1, the router on eth0") == 1 })
	within(t, "the other one is answered for", func() bool { return a.resolves(t, "2001:db8::b:2") })
	if a.resolves(t, "2001:db8::a:1") {
		t.Error("the router's prefix is answered for")
	}
}

// Nor is an address that becomes a router's.
func TestNDProxyLeavesAnAddressToARouter(t *testing.T) {
	list := filepath.Join(t.TempDir(), "addresses")
	if err := os.WriteFile(list, []byte("2001:db8::5\n2001:db8::6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAlone(t, "--interface", "eth0", "--addresses", list)
	within(t, "its addresses are answered for", func() bool { return a.resolves(t, "2001:db8::5") && a.resolves(t, "2001:db8::6") })
	a.self.Run(t, "ip", "route", "add", "default", "via", "2001:db8::5", "dev", "eth0", "onlink")
	within(t, "the address is left", func() bool { return a.said("answered for no more", "2001:db8::5") == 1 })
	within(t, "the other one is answered for", func() bool { return a.resolves(t, "2001:db8::6") })
	if a.resolves(t, "2001:db8::5") {
		t.Error("the router's address is answered for")
	}
}

// Who may not open a link is told at once what it takes.
func TestNDProxyWithoutPrivileges(t *testing.T) {
	a := newAloneLink(t)
	cmd := a.self.Command(t.Context(), "setpriv", "--bounding-set=-all", "--inh-caps=-all", os.Args[0])
	cmd.Env = append(os.Environ(), argsEnv+"=ndproxy --interface eth0 --prefix 2001:db8::a:0/112")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "as root, or with CAP_NET_ADMIN") {
		t.Errorf("without privileges: %v, %s", err, out)
	}
}

// What a proxy by clsact that was killed has left goes at the start, whatever the
// path and the links of this one.
func TestNDProxySweeps(t *testing.T) {
	a := newAloneLink(t)
	a.self.Run(t, "ip", "link", "add", "other0", "type", "bridge")
	defer a.self.Run(t, "ip", "link", "del", "other0")
	plantDeadFilter(t, "other0")
	show := func() string {
		return a.self.Run(t, "tc", "qdisc", "show", "dev", "other0") + a.self.Run(t, "tc", "filter", "show", "dev", "other0", "ingress")
	}
	if got := show(); !strings.Contains(got, "v6net_ndproxy") {
		t.Fatalf("tc shows\n%s", got)
	}
	a.start(t, "--interface", "eth0", "--prefix", "2001:db8::a:0/112", "--path", "packet")
	within(t, "the filter has gone, and its qdisc", func() bool { return !strings.Contains(show(), "v6net_ndproxy") && !strings.Contains(show(), "clsact") })
}

// plantDeadFilter leaves on a link what a process that is no more would have.
func plantDeadFilter(t *testing.T, link string) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, -1), asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	device, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: device.Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 0x76366e70, Priority: 0x7636, Protocol: syscall.ETH_P_IPV6},
		Fd:          program.FD(), Name: "v6net_ndproxy:00000000000000aa:qdisc", DirectAction: true,
	}); err != nil {
		t.Fatal(err)
	}
}
