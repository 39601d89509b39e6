package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
)

// EnsureBridge makes a network's bridge as wanted: its MTU, its addresses and
// no others but link-local ones, a hardware address that stays, and up. A
// wanted MTU of zero leaves the MTU alone. The error matches [ErrForeign] where
// somebody else has a link of that name.
//
// Multicast snooping is off. With it on, one MLD query makes the bridge believe
// in a querier, and any container can send one; from then on it withholds
// neighbor solicitations from ports that it heard no MLD report from. It
// also keeps an entry per solicited-node group, and turns itself off at 4096 of
// them (mcast_hash_max). Without a querier it floods like we do; off, it does
// that at any size and whatever the containers send.
func (h *Handle) EnsureBridge(ctx context.Context, want spec.Bridge) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bridge %s: %w", want.Name, err)
	}
	template := bridge(want.Name)
	template.HardwareAddr = markMAC(want.Alias)
	// No MTU here: only one that is set later is kept when ports come and go
	// (BROPT_MTU_SET_BY_USER in net/bridge/br_device.c).
	l, created, err := h.ensure(template, want.Alias)
	if err != nil {
		return err
	}
	if created {
		defer func() {
			if err != nil {
				err = errors.Join(err, h.remove(l))
			}
		}()
	}
	if err := h.setMAC(l, markMAC(want.Alias)); err != nil {
		return err
	}
	if err := h.setMTU(l, want.MTU); err != nil {
		return err
	}
	if err := h.stopSnooping(l.(*netlink.Bridge)); err != nil {
		return err
	}
	if err := h.setUp(l); err != nil { // before the addresses: going down loses IPv6 ones
		return err
	}
	return h.ensureAddresses(ctx, l, want.Addresses, want.Former)
}

func bridge(name string) *netlink.Bridge {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	return &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
}

func (h *Handle) stopSnooping(l *netlink.Bridge) error {
	if on := l.MulticastSnooping; on != nil && !*on {
		return nil
	}
	// A fresh value: the link as read would write all its attributes back.
	if err := h.netlink.LinkModify(bridge(l.Name)); err != nil {
		return fmt.Errorf("turn off multicast snooping of %s: %w", l.Name, err)
	}
	return nil
}
