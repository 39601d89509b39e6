package ndbpf

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/kernel/rtnl"
)

// A filter of ours is known by its handle, its priority, and the beginning of its
// name. The name goes on with the claim that its process holds, and says whether
// the qdisc is ours, too: a filter by clsact outlives its process, and whoever
// sweeps later must know what of it may go.
const (
	filterHandle   = 0x76366e70 // "v6np"
	filterPriority = 0x7636
	filterName     = "v6net_ndproxy"
	ownsQdisc      = "qdisc"
)

// clsactFilter is a filter on a link's clsact qdisc.
type clsactFilter struct {
	link      attachPoint
	ownsQdisc bool         // nobody else had one on the link
	release   func() error // gives up the claim; nil: that has been done
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

// attachClsact takes the place of a filter that a process which was killed has
// left. Two that live cannot both answer on a link by clsact.
func attachClsact(at attachPoint, program *ebpf.Program) (attachment, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := sweep(context.Background(), h, at); err != nil {
		return nil, err
	}
	claim := fmt.Sprintf("%s:%016x", filterName, rand.Uint64())
	c := &clsactFilter{link: at, ownsQdisc: true}
	if c.release, err = netns.Claim(claim); err != nil {
		return nil, fmt.Errorf("attach eBPF by clsact to link %s: %w", at.name, err)
	}
	if err := h.QdiscAdd(clsactOf(at.index)); errors.Is(err, os.ErrExist) {
		c.ownsQdisc = false
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("add clsact to link %s: %w", at.name, err), c.giveUp())
	}
	filter := filterOf(at.index)
	filter.Fd, filter.Name, filter.DirectAction = program.FD(), claim, true
	if c.ownsQdisc {
		filter.Name += ":" + ownsQdisc
	}
	if err := h.FilterAdd(filter); err != nil {
		if errors.Is(err, os.ErrExist) {
			err = errors.New("another process of v6net answers on it")
		}
		err = fmt.Errorf("attach eBPF by clsact to link %s: %w", at.name, err)
		if c.ownsQdisc {
			err = errors.Join(err, removeQdisc(h, at.index))
		}
		return nil, errors.Join(err, c.giveUp())
	}
	return c, nil
}

// Close is no error when the link has gone. After one the filter is nobody's: it
// can be closed again, and a sweep takes it away.
func (c *clsactFilter) Close() error {
	err := c.giveUp()
	h, open := rtnl.Open()
	if open != nil {
		return errors.Join(err, open)
	}
	defer h.Close()
	return errors.Join(err, remove(h, c.link.index, c.ownsQdisc))
}

func (c *clsactFilter) giveUp() error {
	if c.release == nil {
		return nil
	}
	release := c.release
	c.release = nil
	return release()
}

// remove takes our filter from a link, and the qdisc with it if that is ours.
func remove(h *netlink.Handle, index int, qdisc bool) error {
	if err := h.FilterDel(filterOf(index)); err != nil && !gone(err) {
		return fmt.Errorf("remove filter: %w", err)
	}
	if !qdisc {
		return nil
	}
	return removeQdisc(h, index)
}

// removeQdisc leaves a qdisc that somebody else has come to use.
func removeQdisc(h *netlink.Handle, index int) error {
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		others, err := h.FilterList(indexed(index), parent)
		if err != nil && !gone(err) {
			return fmt.Errorf("list filters: %w", err)
		}
		if len(others) > 0 {
			return nil
		}
	}
	if err := h.QdiscDel(clsactOf(index)); err != nil && !gone(err) {
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

// Sweep removes from all links the filters of processes that were killed, which
// would go on answering for the leases of that time, whether anybody proxies on
// their link again or not. What a process that lives has stays.
func Sweep(ctx context.Context) error {
	h, err := rtnl.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	// Of all links at once: there are as many as containers.
	qdiscs, err := dump.Retry(ctx, func() ([]netlink.Qdisc, error) { return h.QdiscList(nil) })
	if err != nil {
		return fmt.Errorf("list qdiscs: %w", err)
	}
	var errs []error
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			index := q.Attrs().LinkIndex
			errs = append(errs, sweep(ctx, h, attachPoint{fmt.Sprintf("number %d", index), index}))
		}
	}
	return errors.Join(errs...)
}

// sweep is Sweep for one link.
func sweep(ctx context.Context, h *netlink.Handle, at attachPoint) error {
	filters, err := dump.Retry(ctx, func() ([]netlink.Filter, error) { return h.FilterList(indexed(at.index), netlink.HANDLE_MIN_INGRESS) })
	if err != nil && !gone(err) {
		return fmt.Errorf("list filters of link %s: %w", at.name, err)
	}
	for _, f := range filters {
		b, ok := f.(*netlink.BpfFilter)
		if !ok || b.Handle != filterHandle || b.Priority != filterPriority || !strings.HasPrefix(b.Name, filterName) {
			continue
		}
		claim, qdisc := strings.CutSuffix(b.Name, ":"+ownsQdisc)
		release, err := netns.Claim(claim)
		if errors.Is(err, netns.ErrClaimed) {
			continue // its process lives
		}
		if err == nil {
			err = errors.Join(remove(h, at.index, qdisc), release())
		}
		if err != nil {
			return fmt.Errorf("remove what a process that was killed has left on link %s: %w", at.name, err)
		}
	}
	return nil
}
