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
// left as it is, which is success, if it is what its name says: ours says so.
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
		return false, h.checkVLAN(name, on, id)
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

// checkVLAN refuses somebody else's VLAN sub-interface under the name of another
// one: containers would be on a link that nobody meant. A link of another kind
// has its name by choice.
func (h *Handle) checkVLAN(name, on string, id int) error {
	l, err := h.find(name)
	if err != nil {
		return err
	}
	vlan, ok := l.(*netlink.Vlan)
	if !ok {
		return nil
	}
	base := fmt.Sprintf("link %d", vlan.ParentIndex)
	if parent, err := h.netlink.LinkByIndex(vlan.ParentIndex); err == nil {
		base = parent.Attrs().Name
	}
	if vlan.VlanId == id && base == on {
		return nil
	}
	return fmt.Errorf("link %s is VLAN %d of %s, and not VLAN %d of %s as its name says: rename or delete it, or name another parent", name, vlan.VlanId, base, id, on)
}
