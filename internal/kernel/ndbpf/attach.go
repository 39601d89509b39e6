package ndbpf

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/rtnl"
)

// attachPoint is a link whose ingress a program is attached to.
type attachPoint struct {
	name  string
	index int
}

// attachment is a program at its place; Close takes it away.
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

// The handle and the priority by which a filter is known to be ours.
const (
	filterHandle   = 0x76366e70 // "v6np"
	filterPriority = 0x7636
	filterName     = "v6net_ndproxy"
)

// clsactFilter is a filter on a link's clsact qdisc, and that qdisc if it is ours.
type clsactFilter struct {
	filter *netlink.BpfFilter
	qdisc  *netlink.Clsact // nil: it was there
}

func clsactOf(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
}

func filterOf(index int) *netlink.BpfFilter {
	return &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS,
		Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_IPV6,
	}}
}

// attachClsact replaces a filter that a process which was killed has left.
func attachClsact(at attachPoint, program *ebpf.Program) (attachment, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	c := &clsactFilter{filter: filterOf(at.index), qdisc: clsactOf(at.index)}
	if err := h.QdiscAdd(c.qdisc); errors.Is(err, os.ErrExist) {
		c.qdisc = nil
	} else if err != nil {
		return nil, fmt.Errorf("add clsact to link %s: %w", at.name, err)
	}
	c.filter.Fd, c.filter.Name, c.filter.DirectAction = program.FD(), filterName, true
	if err := h.FilterReplace(c.filter); err != nil {
		err = fmt.Errorf("attach eBPF by clsact to link %s: %w", at.name, err)
		if c.qdisc != nil {
			err = errors.Join(err, h.QdiscDel(c.qdisc))
		}
		return nil, err
	}
	return c, nil
}

// Close is no error when the link has gone.
func (c *clsactFilter) Close() error {
	h, err := rtnl.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.FilterDel(c.filter); err != nil && !gone(err) {
		return fmt.Errorf("remove filter: %w", err)
	}
	if c.qdisc == nil {
		return nil
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		others, err := h.FilterList(indexed(c.qdisc.LinkIndex), parent)
		if err != nil && !gone(err) || len(others) > 0 {
			return err // somebody else has come to use it
		}
	}
	if err := h.QdiscDel(c.qdisc); err != nil && !gone(err) {
		return fmt.Errorf("remove clsact: %w", err)
	}
	return nil
}

func indexed(index int) netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}

// Sweep removes from a link the filter of a process that was killed, which would
// go on answering for the leases of that time. No such filter is no error.
func Sweep(name string) error {
	h, err := rtnl.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if rtnl.IsAbsent(err) {
		return nil // there is nothing on it
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	filters, err := h.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	if err != nil && !gone(err) {
		return fmt.Errorf("list filters of link %s: %w", name, err)
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Handle == filterHandle && b.Priority == filterPriority {
			if err := h.FilterDel(filterOf(l.Attrs().Index)); err != nil && !gone(err) {
				return fmt.Errorf("remove the filter of an earlier run from link %s: %w", name, err)
			}
		}
	}
	return nil
}

// explain says what is wanting.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("eBPF needs CAP_BPF (CAP_SYS_ADMIN before Linux 5.8) and CAP_NET_ADMIN: %w", err)
	}
	if verifier := (*ebpf.VerifierError)(nil); errors.As(err, &verifier) {
		return fmt.Errorf("the kernel's verifier refuses the eBPF program: %w", err)
	}
	return fmt.Errorf("load eBPF: %w", err)
}
