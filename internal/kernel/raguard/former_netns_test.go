//go:build netns

package raguard_test

import (
	"net"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/testnet"
)

// attach puts another program at a port, which ends with code.
func attach(t *testing.T, port, name string, code int32) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, code), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	device, err := net.InterfaceByName(port)
	if err != nil {
		t.Fatal(err)
	}
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: device.Index, Program: p, Attach: ebpf.AttachTCXIngress}); err != nil {
		t.Fatal(err)
	}
}

// ids are the programs at a port, by name.
func ids(t *testing.T, port string) map[string][]ebpf.ProgramID {
	t.Helper()
	device, err := net.InterfaceByName(port)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := link.QueryPrograms(link.QueryOptions{Target: device.Index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	named := map[string][]ebpf.ProgramID{}
	for _, a := range attached.Programs {
		p, err := ebpf.NewProgramFromID(a.ID)
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Info()
		_ = p.Close()
		if err != nil {
			t.Fatal(err)
		}
		named[info.Name] = append(named[info.Name], a.ID)
	}
	return named
}

// A former version's guard is replaced by this one's, and where ports are judged otherwise
// the guard goes, whichever daemon's it is. Programs of others stay.
func TestFormerGuard(t *testing.T) {
	self, wire := testnet.Self(t), testnet.New(t, "wire")
	testnet.Connect(t, self, "v6nvx", wire, "eth0")
	attach(t, "v6nvx", "theirs", -1)
	attach(t, "v6nvx", "v6net_port", -1) // a former version's
	former := ids(t, "v6nvx")
	first, second := &raguard.Guard{Port: true}, &raguard.Guard{Port: true}
	t.Cleanup(func() { _, _ = first.Close(), second.Close() })
	for range 2 {
		if err := first.Attach(t.Context(), "v6nvx"); err != nil {
			t.Fatal(err)
		}
	}
	now := ids(t, "v6nvx")
	if len(now["v6net_port"]) != 1 || !slices.Equal(now["theirs"], former["theirs"]) || slices.Equal(now["v6net_port"], former["v6net_port"]) {
		t.Errorf("there were %v, and are %v", former, now)
	}
	for range 2 {
		if err := second.Detach(t.Context(), "v6nvx"); err != nil {
			t.Fatal(err)
		}
	}
	if now = ids(t, "v6nvx"); len(now) != 1 || len(now["theirs"]) != 1 {
		t.Errorf("after Detach there are %v", now)
	}
}

// Another's program that lets everything through keeps nothing from the guard, whether the
// daemon may ask whose it is or not; and daemons that may not do not fill the port.
func TestForeignProgram(t *testing.T) {
	self, wire := testnet.Self(t), testnet.New(t, "wire")
	testnet.Connect(t, self, "v6nvx", wire, "eth0")
	attach(t, "v6nvx", "theirs", 0) // TCX_PASS
	for daemon := range 6 {
		g := &raguard.Guard{Port: true}
		for range 2 {
			asPlugin(t, func() error { return g.Attach(t.Context(), "v6nvx") })
		}
		if got, want := programs(t, "v6nvx"), min(daemon+2, 4); got != want {
			t.Errorf("after %d daemons there are %d programs, want %d", daemon+1, got, want)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	device, err := net.InterfaceByName("v6nvx")
	if err != nil {
		t.Fatal(err)
	}
	attached, err := link.QueryPrograms(link.QueryOptions{Target: device.Index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	if last := attached.Programs[len(attached.Programs)-1].ID; last != ids(t, "v6nvx")["theirs"][0] {
		t.Errorf("the other's program is not the last one: %v", attached.Programs)
	}
}
