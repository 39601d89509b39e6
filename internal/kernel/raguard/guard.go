// Package raguard keeps router advertisements away from a link, on the link
// itself (RA-Guard is RFC 6105's word for a switch that does).
//
// A container's link is made on the host and moved into the container's network
// namespace, which makes its IPv6 settings anew: no accept_ra survives. An eBPF
// program at the link's ingress (tcx) does, so that there is no moment at which
// an advertisement could get in, and no namespace need be entered.
package raguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ErrUnsupported says that this kernel, or this process's privileges, do not
// allow a guard.
var ErrUnsupported = errors.New("router advertisements cannot be kept away here: that takes Linux 6.6 or newer and CAP_BPF")

// Guard is the program, which is loaded once and attached to every link. The
// kernel refuses to attach one program to a link twice, which is how a link that
// has the guard is told: to look at programs by their IDs would take
// CAP_SYS_ADMIN. So a link that another process has guarded, the daemon before
// this one, has one more guard afterwards; that is a link whose container was
// about to start when the daemon ended.
type Guard struct {
	mu      sync.Mutex
	program *ebpf.Program
}

// Attach puts the guard on a link of this thread's network namespace, if it is
// not there. It stays until the link is deleted. The error matches
// [ErrUnsupported] where that cannot be.
func (g *Guard) Attach(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.program == nil {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "v6net_ra_guard", Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: guard(),
		})
		if err != nil {
			return fmt.Errorf("RA guard on %s: %w: load program: %w", name, ErrUnsupported, err)
		}
		g.program = program
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: device.Index, Program: g.program, Attach: ebpf.AttachTCXIngress})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("RA guard on %s: %w: %w", name, ErrUnsupported, err)
	}
	return nil
}

// Close gives the program back. The links that have it keep it.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.program == nil {
		return nil
	}
	err := g.program.Close()
	g.program = nil
	if err != nil {
		return fmt.Errorf("close RA guard: %w", err)
	}
	return nil
}

// Offsets in an Ethernet frame and in the IPv6 packet there, and what is looked for.
const (
	offsetEtherType  = 12
	offsetNextHeader = 8 // behind the EtherType
	offsetPayload    = 42
	etherTypeIPv6    = 0x86dd
	etherType8021Q   = 0x8100
	etherType8021AD  = 0x88a8
	maskVID          = 0x0fff // IEEE 802.1Q §9.6
	icmpv6           = 58
	advertisement    = 134 // RFC 4861 §4.2
)

// extensions is how many extension headers are looked behind (RFC 7113 §3: a
// guard that does not look behind them is passed by whoever sends one), and tags
// is how many VLAN tags without a VLAN: to the kernel a frame with any number of
// them is one without (__netif_receive_skb_core). More of either has no use, and
// does not pass. Fragments are left to the kernel, which drops such
// advertisements (RFC 6980).
const (
	extensions = 4
	tags       = 4
)

// What tcx makes of a packet (include/uapi/linux/bpf.h).
const (
	tcxNext = -1 // the next program, or on to the stack
	tcxDrop = 2
)

// guard is the program: frames with a router advertisement are dropped. A load
// beyond the packet's end ends the program with 0, TCX_PASS.
func guard() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), // as LoadInd wants it
		asm.Mov.Imm(asm.R8, offsetEtherType),
	}
	for i := range tags {
		tag := fmt.Sprint("tag", i)
		p = append(p,
			asm.LoadInd(asm.R0, asm.R8, 0, asm.Half), // R8: where the EtherType is
			asm.JEq.Imm(asm.R0, etherTypeIPv6, "ipv6"),
			asm.JEq.Imm(asm.R0, etherType8021Q, tag),
			asm.JNE.Imm(asm.R0, etherType8021AD, "pass"),
			asm.LoadInd(asm.R0, asm.R8, 2, asm.Half).WithSymbol(tag),
			asm.And.Imm(asm.R0, maskVID),
			asm.JNE.Imm(asm.R0, 0, "pass"), // another link's
			asm.Add.Imm(asm.R8, 4),
		)
	}
	p = append(p,
		asm.LoadInd(asm.R0, asm.R8, 0, asm.Half),
		asm.JEq.Imm(asm.R0, etherTypeIPv6, "ipv6"),
		asm.JEq.Imm(asm.R0, etherType8021Q, "drop"),
		asm.JEq.Imm(asm.R0, etherType8021AD, "drop"),
		asm.Ja.Label("pass"),
		asm.LoadInd(asm.R0, asm.R8, offsetNextHeader, asm.Byte).WithSymbol("ipv6"),
		asm.Mov.Reg(asm.R7, asm.R0), // R7: kind of the header at R8
		asm.Add.Imm(asm.R8, offsetPayload),
	)
	for i := range extensions {
		ext := fmt.Sprint("extension", i)
		p = append(p,
			asm.JEq.Imm(asm.R7, icmpv6, "icmpv6"),
			asm.JEq.Imm(asm.R7, 0, ext),     // hop-by-hop options
			asm.JEq.Imm(asm.R7, 43, ext),    // routing
			asm.JNE.Imm(asm.R7, 60, "pass"), // destination options
			asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte).WithSymbol(ext),
			asm.Mov.Reg(asm.R7, asm.R0),
			asm.LoadInd(asm.R0, asm.R8, 1, asm.Byte), // its length in units of 8, without the first
			asm.Add.Imm(asm.R0, 1),
			asm.LSh.Imm(asm.R0, 3),
			asm.Add.Reg(asm.R8, asm.R0),
		)
	}
	return append(p,
		asm.JEq.Imm(asm.R7, 0, "drop"),
		asm.JEq.Imm(asm.R7, 43, "drop"),
		asm.JEq.Imm(asm.R7, 60, "drop"),
		asm.JNE.Imm(asm.R7, icmpv6, "pass"),
		asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte).WithSymbol("icmpv6"),
		asm.JNE.Imm(asm.R0, advertisement, "pass"),
		asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("drop"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
		asm.Return(),
	)
}
