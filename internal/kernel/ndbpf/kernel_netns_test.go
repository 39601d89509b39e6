//go:build netns

package ndbpf

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// childEnv makes a child of the test binary dial eth0 and attach, say how that
// went, and stay.
const childEnv = "V6NET_NDBPF_CHILD"

func child() {
	conn, err := Dial(context.Background(), "eth0")
	if err == nil {
		if err = conn.Add(netip.MustParseAddr(leased)); err == nil {
			err = conn.Attach(ndproxy.Station{HardwareAddr: conn.HardwareAddr(), LinkLocal: conn.LinkLocal()}, ndproxy.Knobs{})
		}
	}
	if errors.Is(err, ErrUnavailable) {
		fmt.Println("unavailable:", err)
		os.Exit(1)
	}
	fmt.Println("attached:", err)
	select {}
}

// start runs a child, under a command if there is one, and returns its first line.
func start(t *testing.T, h *testnet.Host, under ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := h.Command(t.Context(), append(under, os.Args[0])...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	return cmd, strings.TrimSpace(line)
}

// attachedPrograms are those at tcx ingress of eth0.
func attachedPrograms(t *testing.T) int {
	t.Helper()
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: device.Index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	return len(found.Programs)
}

// Nothing is left on the link when the process is killed.
func TestKilledProcessLeavesNothing(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	cmd, line := start(t, testnet.Self(t))
	if line != "attached: <nil>" || attachedPrograms(t) != 1 {
		t.Fatalf("child says %q; %d programs", line, attachedPrograms(t))
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	eventually(t, "the program is gone", func() bool { return attachedPrograms(t) == 0 })
}

// What the managed plugin may do is enough, and without CAP_BPF the error says so.
func TestCapabilities(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	for set, want := range map[string]string{
		"-all,+net_admin,+net_raw,+bpf": "attached: <nil>",
		"-all,+net_admin,+net_raw":      "unavailable: no eBPF: eBPF needs CAP_BPF",
	} {
		if _, line := start(t, testnet.Self(t), "setpriv", "--bounding-set="+set, "--inh-caps=-all"); !strings.HasPrefix(line, want) {
			t.Errorf("with capabilities %s: %q, want %q", set, line, want)
		}
	}
}

// The filter by clsact is ours alone: what others have there stays, and what an
// earlier run has left goes.
func TestClsactIsShared(t *testing.T) {
	self := testnet.Self(t)
	testnet.Connect(t, self, "eth0", testnet.New(t, "up"), "lan0")
	show := func() string {
		return self.Run(t, "tc", "qdisc", "show", "dev", "eth0") + "\n" + self.Run(t, "tc", "filter", "show", "dev", "eth0", "ingress")
	}
	before := show()
	var objects programObjects
	if err := load(&objects); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = objects.Close() }()
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	at := attachPoint{"eth0", device.Index}
	attachIt := func() attachment {
		t.Helper()
		a, err := attachClsact(at, objects.NdproxyAnswer)
		if err != nil {
			t.Fatal(err)
		}
		if got := show(); !strings.Contains(got, filterName) || !strings.Contains(got, "direct-action") {
			t.Errorf("attached, and tc shows\n%s", got)
		}
		return a
	}
	if err := attachIt().Close(); err != nil || show() != before {
		t.Errorf("after Close (%v) tc shows\n%s\nwant\n%s", err, show(), before)
	}

	a := attachIt()
	self.Run(t, "tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "ipv6", "prio", "7", "u32", "match", "u32", "0", "0", "flowid", "1:1")
	if err := a.Close(); err != nil || !strings.Contains(show(), "u32") || strings.Contains(show(), filterName) {
		t.Errorf("after Close (%v) with another's filter tc shows\n%s", err, show())
	}

	attachIt() // by a process that is killed then
	if again := attachIt(); again.(*clsactFilter).qdisc != nil {
		t.Error("takes a qdisc for its own that was there")
	}
	if n := strings.Count(show(), filterName); n != 1 {
		t.Errorf("%d filters of ours, want one in the place of the other:\n%s", n, show())
	}
	if err := Sweep("eth0"); err != nil || strings.Contains(show(), filterName) || !strings.Contains(show(), "u32") {
		t.Errorf("after Sweep (%v) tc shows\n%s", err, show())
	}
	if err := errors.Join(Sweep("eth0"), Sweep("nothere0"), Sweep("lo")); err != nil {
		t.Errorf("nothing to sweep: %v", err)
	}
}

// Dial says what is wrong with a link, and that this is not for want of eBPF.
func TestDialRefuses(t *testing.T) {
	self := testnet.Self(t)
	testnet.Connect(t, self, "eth0", testnet.New(t, "up"), "lan0")
	self.Run(t, "ip", "link", "set", "eth0", "down")
	for name, want := range map[string]string{"lo": "Ethernet", "nothere0": "not found", "eth0": "network is down"} {
		if _, err := Dial(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrUnavailable) {
			t.Errorf("Dial(%s): %v, want an error about %q", name, err, want)
		}
	}
}
