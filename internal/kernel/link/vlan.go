package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
)

// EnsureVLAN makes a VLAN sub-interface `eth0.50`, with the hardware address of
// its own parent and, if raise says so, up. One that somebody else has made is
// left as it is, which is success: ours says so.
func (h *Handle) EnsureVLAN(ctx context.Context, name string, raise bool) (ours bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("vlan %s: %w", name, err)
	}
	on, id, ok := spec.ParseVLAN(name)
	if !ok {
		return false, fmt.Errorf("%s is no name of a VLAN sub-interface such as eth0.50", name)
	}
	alias := spec.VLANAlias(name)
	if _, err := h.owned(name, alias); errors.Is(err, ErrForeign) {
		return false, nil
	}
	parent, err := h.find(on)
	if err != nil {
		return false, fmt.Errorf("vlan %s: %w", name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = name, parent.Attrs().Index, markMAC(alias)
	l, created, err := h.ensure(&netlink.Vlan{LinkAttrs: attrs, VlanId: id}, alias)
	if isNoModule(err) {
		return false, noModule("vlan", err)
	}
	if err != nil {
		return false, err
	}
	if created {
		defer func() {
			if err != nil {
				err = errors.Join(err, h.remove(l))
			}
		}()
	}
	if err := h.setMAC(l, parent.Attrs().HardwareAddr); err != nil {
		return false, err
	}
	if err := h.setMTU(l, parent.Attrs().MTU); err != nil { // a smaller one came by itself
		return false, err
	}
	if raise {
		return true, h.setUp(l)
	}
	return true, nil
}
