//go:build netns

package ndbpf

import (
	"bufio"
	"context"
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

// childEnv makes a child of the test binary dial eth0 and attach, by tcx or clsact,
// say how that went, and stay.
const childEnv = "V6NET_NDBPF_CHILD"

var attachments = map[string]func(attachPoint, *ebpf.Program) (attachment, error){"tcx": attach, "clsact": attachClsact}

func child() {
	conn, err := dial(context.Background(), "eth0", attachments[os.Getenv(childEnv)], load)
	if err == nil {
		err = conn.Load()
	}
	if err != nil {
		fmt.Println("unavailable:", err)
		os.Exit(1)
	}
	if err = conn.Add(netip.MustParseAddr(leased)); err == nil {
		err = conn.Attach(ndproxy.Station{HardwareAddr: conn.HardwareAddr(), LinkLocal: conn.LinkLocal()}, ndproxy.Knobs{})
	}
	fmt.Println("attached:", err)
	select {}
}

// start runs a child that attaches so, under a command if there is one, and returns
// its first line.
func start(t *testing.T, h *testnet.Host, attach string, under ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := h.Command(t.Context(), append(under, os.Args[0])...)
	cmd.Env = append(os.Environ(), childEnv+"="+attach)
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

// Nothing is left on the link when the process is killed; TestSweep is for clsact.
func TestKilledProcessLeavesNothing(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	cmd, line := start(t, testnet.Self(t), "tcx")
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
		if _, line := start(t, testnet.Self(t), "tcx", "setpriv", "--bounding-set="+set, "--inh-caps=-all"); !strings.HasPrefix(line, want) {
			t.Errorf("with capabilities %s: %q, want %q", set, line, want)
		}
	}
}

// Dial says what is wrong with a link.
func TestDialRefuses(t *testing.T) {
	self := testnet.Self(t)
	testnet.Connect(t, self, "eth0", testnet.New(t, "up"), "lan0")
	self.Run(t, "ip", "link", "set", "eth0", "down")
	for name, want := range map[string]string{"lo": "Ethernet", "nothere0": "not found", "eth0": "network is down"} {
		if _, err := Dial(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Dial(%s): %v, want an error about %q", name, err, want)
		}
	}
}
