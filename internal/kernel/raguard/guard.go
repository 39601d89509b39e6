// Package raguard keeps router advertisements away from a link, on the link
// itself (RA-Guard is RFC 6105's word for a switch that does).
//
// A container's link is made on the host and moved into the container's network
// namespace, which makes its IPv6 settings anew: no accept_ra survives. An eBPF
// program at the link's ingress (tcx) does, so that there is no moment at which
// an advertisement could get in, and no namespace need be entered.
//
// At the host's end of a container's cable such a program keeps the container from
// posing as a router, or as a DHCP server, before its neighbours, and from getting past
// the bridge: where nothing else can judge what a port of a bridge receives.
package raguard

import (
	"context"
	"errors"
	"fmt"
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
	// at after all. Whoever must not adds one, until there are some.
	Port bool

	mu      sync.Mutex
	program *ebpf.Program
}

// Attach puts the guard on a link of this thread's network namespace, if it is
// not there: before the programs of others, of which one that lets a packet through
// (TCX_PASS) lets it by all that follow. It stays until the link is deleted. The error matches
// [ErrUnsupported] where that cannot be.
func (g *Guard) Attach(ctx context.Context, name string) error {
	index, err := indexOf(ctx, name)
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.program == nil {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: g.name(), Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: guard(g.Port),
		})
		if err != nil {
			return fmt.Errorf("RA guard on %s: load program: %w", name, unsupported(err))
		}
		g.program = program
	}
	var former []*ebpf.Program
	if g.Port {
		var current bool
		if current, former, err = g.on(index); err != nil {
			return fmt.Errorf("RA guard on %s: %w", name, err)
		}
		defer closeAll(former)
		if current {
			return nil
		}
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: index, Program: g.program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("RA guard on %s: %w", name, unsupported(err))
	}
	return detach(index, name, former)
}

// Detach takes the guard of a port away, whichever daemon's it is, where this process may
// know of it.
func (g *Guard) Detach(ctx context.Context, name string) error {
	index, err := indexOf(ctx, name)
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, there, err := g.on(index)
	if err != nil {
		return fmt.Errorf("RA guard on %s: %w", name, err)
	}
	defer closeAll(there)
	return detach(index, name, there)
}

func detach(index int, name string, programs []*ebpf.Program) error {
	for _, p := range programs {
		if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXIngress}); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("RA guard on %s: detach a former one: %w", name, err)
		}
	}
	return nil
}

func closeAll(programs []*ebpf.Program) {
	for _, p := range programs {
		_ = p.Close()
	}
}

// indexOf asks for one link: package net reads all of them.
func indexOf(ctx context.Context, name string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, fmt.Errorf("ask for its index: %w", err)
	}
	return int(request.Uint32()), nil
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

// enough programs are at a port whose names cannot be read: each daemon adds one until
// then, since the kernel has room for 64 (BPF_MPROG_MAX) and they are others' to use.
const enough = 4

// on reports whether a link has the guard as it is now, and the former ones that it has,
// another version's: those whose program has another tag, which the kernel makes of the
// instructions. Without a program of our own all are former ones. Who must not look takes
// several programs for the guard, since one may be another's.
func (g *Guard) on(index int) (current bool, former []*ebpf.Program, err error) {
	attached, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return false, nil, nil // a kernel without tcx has none
	}
	tag, unknown := "", 0
	if g.program != nil {
		own, err := g.program.Info()
		if err != nil {
			return false, nil, fmt.Errorf("read the program's tag: %w", err)
		}
		tag = own.Tag
	}
	for _, a := range attached.Programs {
		program, err := ebpf.NewProgramFromID(a.ID)
		if errors.Is(err, unix.EPERM) {
			unknown++
		}
		if err != nil {
			continue
		}
		info, err := program.Info()
		switch {
		case err != nil || info.Name != g.name():
			_ = program.Close()
		case info.Tag == tag:
			current = true
			_ = program.Close()
		default:
			former = append(former, program)
		}
	}
	return current || unknown >= enough, former, nil
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
