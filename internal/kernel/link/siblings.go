package link

import (
	"bytes"
	"context"
	"fmt"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
)

// CheckChild refuses a link that would change others of its parent. To the
// kernel an ipvlan's mode and flag are the parent's: a new link that has others
// gives them to all that are there, whosesoever they are (ipvlan_link_new in
// drivers/net/ipvlan/ipvlan_main.c). Links in other namespaces are found as by
// [Handle.Elsewhere].
//
// The error matches [ErrNotFound] where the parent is absent.
func (h *Handle) CheckChild(ctx context.Context, want spec.Child) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", want.Mode, want.Name, err)
	}
	if want.Mode != spec.ModeIPvlan {
		return nil
	}
	parent, err := h.find(want.Parent)
	if err != nil {
		return fmt.Errorf("parent of %s %s: %w", want.Mode, want.Name, err)
	}
	template, err := child(want, parent)
	if err != nil {
		return err
	}
	wanted, ok := template.(*netlink.IPVlan)
	if !ok {
		return nil
	}
	links, err := h.list(ctx)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.kind != "ipvlan" || l.parent != parent.Attrs().Index || l.parentElsewhere || l.name == want.Name && l.alias == want.Alias {
			continue
		}
		if err := sameIPvlan(want, wanted, netlink.IPVlanMode(l.ipvlanMode), netlink.IPVlanFlag(l.ipvlanFlag), l.name); err != nil {
			return err
		}
	}
	distant, err := distantLinks(ctx, func(distantLink) bool { return true })
	if err != nil {
		return err
	}
	for _, l := range distant {
		// The parent's index is its own namespace's, which may be a third one. But
		// an ipvlan has its parent's hardware address, too.
		if l.kind != "ipvlan" || !l.parentElsewhere || l.parent != parent.Attrs().Index || !bytes.Equal(l.mac, parent.Attrs().HardwareAddr) {
			continue
		}
		if err := sameIPvlan(want, wanted, netlink.IPVlanMode(l.ipvlanMode), netlink.IPVlanFlag(l.ipvlanFlag), l.name+" in another network namespace"); err != nil {
			return err
		}
	}
	return nil
}

// sameIPvlan refuses a link beside one that has another mode or flag.
func sameIPvlan(want spec.Child, wanted *netlink.IPVlan, mode netlink.IPVlanMode, flag netlink.IPVlanFlag, name string) error {
	if mode == wanted.Mode && flag == wanted.Flag {
		return nil
	}
	return fmt.Errorf("parent %s has the ipvlan link %s with mode %s and flag %s: to the kernel these are the parent's, and with ipvlan_mode=%s and ipvlan_flag=%s that link would have them, too (choose the same, or another parent)",
		want.Parent, name, ipvlanModes[mode], ipvlanFlags[flag], want.IPvlanMode, want.IPvlanFlag)
}

// ipvlanModes and ipvlanFlags are their names, as of ip-link(8).
var (
	ipvlanModes = map[netlink.IPVlanMode]spec.IPvlanMode{
		netlink.IPVLAN_MODE_L2: spec.IPvlanL2, netlink.IPVLAN_MODE_L3: spec.IPvlanL3, netlink.IPVLAN_MODE_L3S: spec.IPvlanL3S,
	}
	ipvlanFlags = map[netlink.IPVlanFlag]spec.IPvlanFlag{
		netlink.IPVLAN_FLAG_BRIDGE: spec.IPvlanBridge, netlink.IPVLAN_FLAG_PRIVATE: spec.IPvlanPrivate, netlink.IPVLAN_FLAG_VEPA: spec.IPvlanVEPA,
	}
)
