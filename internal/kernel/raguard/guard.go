// Package raguard keeps router advertisements away from a link, on the link
// itself (RA-Guard is RFC 6105's word for a switch that does).
//
// A container's link is made on the host and moved into the container's network
// namespace, which makes its IPv6 settings anew: no accept_ra survives. An eBPF
// program at the link's ingress (tcx) does, so that there is no moment at which
// an advertisement could get in, and no namespace need be entered.
//
// At the host's end of a container's cable such a program keeps the container from
// posing as a router, or as a DHCP server, before its neighbours: where nothing else
// can judge what a port of a bridge receives.
package raguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
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
	// Port is whether links are the host's ends of cables. They are guarded again by
	// every daemon, for as long as the container lives, and so what is there is looked
	// at after all. Whoever must not is content with any program.
	Port bool

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
	if g.Port && g.isOn(device.Index) {
		return nil
	}
	if g.program == nil {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: g.name(), Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: guard(g.Port),
		})
		if err != nil {
			return fmt.Errorf("RA guard on %s: load program: %w", name, unsupported(err))
		}
		g.program = program
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: device.Index, Program: g.program, Attach: ebpf.AttachTCXIngress})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("RA guard on %s: %w", name, unsupported(err))
	}
	return nil
}

// unsupported has an error match [ErrUnsupported] where it is the answer of a kernel
// without tcx or bpf(2), or to a process that must not. Anything else, memory that is short
// or a link that has gone, is another time's to mend.
func unsupported(err error) error {
	for _, answer := range []error{unix.ENOSYS, unix.EINVAL, unix.EOPNOTSUPP, unix.EPERM, ebpf.ErrNotSupported} {
		if errors.Is(err, answer) {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return err
}

func (g *Guard) name() string {
	if g.Port {
		return "v6net_port" // of 15 characters at the most
	}
	return "v6net_ra_guard"
}

// isOn reports whether a link has the guard.
func (g *Guard) isOn(index int) bool {
	attached, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return false
	}
	for _, a := range attached.Programs {
		program, err := ebpf.NewProgramFromID(a.ID)
		if err != nil {
			return errors.Is(err, unix.EPERM)
		}
		info, err := program.Info()
		_ = program.Close()
		if err == nil && info.Name == g.name() {
			return true
		}
	}
	return false
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
