package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
)

// EnsurePair makes a cable with both ends on this host, up and without an
// address. One end is the parent of an internal network: unlike a dummy link,
// a kernel with bridge networks has the means for it, and unlike a bridge
// without ports it has a carrier.
//
// What a container sends to others than its like comes out at the other end,
// and with ipvlan what it sends to the parent's own hardware address at the
// parent: both are in this host's own stack, which is not to see any of it.
func (h *Handle) EnsurePair(ctx context.Context, networkID string, mtu int) (err error) {
	name, alias := spec.PairName(networkID), spec.NetworkAlias(networkID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("veth %s: %w", name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, mtu, markMAC(alias)
	template := netlink.NewVeth(attrs)
	template.PeerName, template.PeerMTU = spec.PairPeerName(networkID), uint32(mtu)
	one, created, err := h.ensure(template, alias)
	if err != nil {
		return err
	}
	if created {
		defer func() {
			if err != nil {
				err = errors.Join(err, h.remove(one)) // takes the other end along
			}
		}()
	}
	other, err := h.netlink.LinkByIndex(one.Attrs().ParentIndex)
	if err != nil {
		return fmt.Errorf("read the other end of veth %s: %w", name, err)
	}
	for _, cable := range []struct {
		end  netlink.Link
		seal []bpf.Instruction
	}{{one, sealNear}, {other, sealFar}} {
		end := cable.end
		if err := errors.Join(h.setAlias(end, alias), h.setMTU(end, mtu)); err != nil {
			return err
		}
		if err := h.netlink.LinkSetIP6AddrGenMode(end, addrGenModeNone); err != nil {
			return fmt.Errorf("turn off address generation of %s: %w", end.Attrs().Name, err)
		}
		if err := h.seal(end, cable.seal); err != nil {
			return err
		}
		if err := h.setUp(end); err != nil {
			return err
		}
	}
	return nil
}
