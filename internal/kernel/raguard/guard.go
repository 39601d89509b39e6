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

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// ErrUnsupported says that this kernel, or this process's privileges, do not
// allow a guard.
var ErrUnsupported = errors.New("router advertisements cannot be kept away here: that takes Linux 6.6 or newer and CAP_BPF")

// programName tells the guard from other programs at the same place; the kernel
// has room for 15 characters.
const programName = "v6net_ra_guard"

// Attach puts the guard on a link of this thread's network namespace, if it is
// not there. It stays until the link is deleted. The error matches
// [ErrUnsupported] where that cannot be.
func Attach(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	if present, err := isGuarded(device.Index); err != nil || present {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: programName, Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: guard(),
	})
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w: load program: %w", name, ErrUnsupported, err)
	}
	// The link holds the program from then on.
	defer func() { _ = program.Close() }()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: device.Index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w: %w", name, ErrUnsupported, err)
	}
	return nil
}

func isGuarded(index int) (bool, error) {
	attached, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return false, fmt.Errorf("RA guard: %w: programs of link %d: %w", ErrUnsupported, index, err)
	}
	for _, p := range attached.Programs {
		program, err := ebpf.NewProgramFromID(p.ID)
		if err != nil {
			continue // unloaded since, or not for us to see: so not ours
		}
		info, err := program.Info()
		_ = program.Close()
		if err == nil && info.Name == programName {
			return true, nil
		}
	}
	return false, nil
}

// Offsets in an Ethernet frame with an IPv6 packet, and what is looked for there.
const (
	offsetEtherType  = 12
	offsetNextHeader = 20
	offsetPayload    = 54
	etherTypeIPv6    = 0x86dd
	icmpv6           = 58
	advertisement    = 134 // RFC 4861 §4.2
)

// extensions is how many extension headers are looked behind (RFC 7113 §3: a
// guard that does not look behind them is passed by whoever sends one).
// Fragments are left to the kernel, which drops such advertisements (RFC 6980).
const extensions = 4

// What tcx makes of a packet (include/uapi/linux/bpf.h).
const (
	tcxNext = -1 // the next program, or on to the stack
	tcxDrop = 2
)

// guard is the program: frames with a router advertisement are dropped. A load
// beyond the packet's end ends the program with 0, TCX_PASS.
func guard() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1), // as LoadAbs and LoadInd want it
		asm.LoadAbs(offsetEtherType, asm.Half),
		asm.JNE.Imm(asm.R0, etherTypeIPv6, "pass"),
		asm.LoadAbs(offsetNextHeader, asm.Byte),
		asm.Mov.Reg(asm.R7, asm.R0), // R7: kind of the header at R8
		asm.Mov.Imm(asm.R8, offsetPayload),
	}
	for i := range extensions {
		here, ext := fmt.Sprint("header", i), fmt.Sprint("extension", i)
		p = append(p,
			asm.JEq.Imm(asm.R7, icmpv6, "icmpv6").WithSymbol(here),
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
		asm.JNE.Imm(asm.R7, icmpv6, "pass"),
		asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte).WithSymbol("icmpv6"),
		asm.JNE.Imm(asm.R0, advertisement, "pass"),
		asm.Mov.Imm(asm.R0, tcxDrop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
		asm.Return(),
	)
}
