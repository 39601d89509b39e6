package ndbpf

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attachPoint is a link whose ingress a program is attached to.
type attachPoint struct {
	name  string
	index int
}

// attachment is a program at its place; Close takes it away, and can be called
// again when that has failed.
type attachment = io.Closer

// attach uses tcx, whose attachments go with the process, or, before Linux 6.6,
// clsact.
func attach(at attachPoint, program *ebpf.Program) (attachment, error) {
	tcx, err := attachTCX(at, program)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return attachClsact(at, program)
	}
	return tcx, err
}

// attachTCX puts the program behind those of others, whose verdicts come first.
func attachTCX(at attachPoint, program *ebpf.Program) (attachment, error) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: at.index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, fmt.Errorf("attach eBPF to ingress of link %s: %w", at.name, explain(err))
	}
	return l, nil
}

// explain says what is wanting.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("eBPF needs CAP_BPF and CAP_NET_ADMIN: %w", err)
	}
	if verifier := (*ebpf.VerifierError)(nil); errors.As(err, &verifier) {
		return fmt.Errorf("the kernel's verifier refuses the eBPF program, for which Linux 5.11 is the oldest: %w", err)
	}
	return fmt.Errorf("load eBPF: %w", err)
}
