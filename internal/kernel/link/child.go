package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrBusy says that something else has taken a parent for itself: a bridge, a
// bond, or links of the other kind. Macvlan and ipvlan each want to see every
// packet that comes in (netdev_rx_handler_register in net/core/dev.c).
var ErrBusy = errors.New("the parent is taken by a bridge, a bond, or the other of macvlan and ipvlan")

// EnsureChild makes a macvlan or ipvlan link as wanted. A container's is down,
// and is the engine's to move, rename and raise; the host's shim is up, has
// exactly the wanted addresses and exactly the wanted routes.
//
// The error matches [ErrNotFound] where the parent is absent, [ErrBusy] where it
// cannot have such a link, [ErrNoModule] where the kernel knows none, and
// [ErrForeign] where somebody else has a link of that name.
func (h *Handle) EnsureChild(ctx context.Context, want spec.Child) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", want.Mode, want.Name, err)
	}
	parent, err := h.find(want.Parent)
	if err != nil {
		return fmt.Errorf("parent of %s %s: %w", want.Mode, want.Name, err)
	}
	template, err := child(want, parent)
	if err != nil {
		return err
	}
	l, created, err := h.ensure(template, want.Alias)
	if err != nil {
		return explainChild(err, want)
	}
	if created {
		defer func() {
			if err != nil {
				err = errors.Join(err, h.remove(l))
			}
		}()
	}
	if want.MAC != "" {
		mac, err := net.ParseMAC(want.MAC)
		if err != nil {
			return fmt.Errorf("%s %s: %w", want.Mode, want.Name, err)
		}
		if err := h.setMAC(l, mac); err != nil {
			return err
		}
	}
	if err := h.setMTU(l, want.MTU); err != nil {
		return err
	}
	if !want.Up {
		return nil
	}
	if err := h.setUp(l); err != nil { // before the addresses: going down loses IPv6 ones
		return err
	}
	if err := h.ensureAddresses(ctx, l, want.Addresses, nil); err != nil {
		return err
	}
	return h.ensureRoutes(ctx, l, want.Routes)
}

func child(want spec.Child, parent netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = want.Name, parent.Attrs().Index, want.MTU
	switch want.Mode {
	case spec.ModeMacvlan:
		mode, ok := map[spec.MacvlanMode]netlink.MacvlanMode{
			spec.MacvlanBridge: netlink.MACVLAN_MODE_BRIDGE, spec.MacvlanPrivate: netlink.MACVLAN_MODE_PRIVATE,
			spec.MacvlanVEPA: netlink.MACVLAN_MODE_VEPA, spec.MacvlanPassthru: netlink.MACVLAN_MODE_PASSTHRU,
		}[want.MacvlanMode]
		if !ok {
			return nil, fmt.Errorf("macvlan %s: unknown mode %q", want.Name, want.MacvlanMode)
		}
		attrs.HardwareAddr = markMAC(want.Alias)
		return &netlink.Macvlan{LinkAttrs: attrs, Mode: mode}, nil
	case spec.ModeIPvlan:
		mode, ok := map[spec.IPvlanMode]netlink.IPVlanMode{
			spec.IPvlanL2: netlink.IPVLAN_MODE_L2, spec.IPvlanL3: netlink.IPVLAN_MODE_L3, spec.IPvlanL3S: netlink.IPVLAN_MODE_L3S,
		}[want.IPvlanMode]
		flag, known := map[spec.IPvlanFlag]netlink.IPVlanFlag{
			spec.IPvlanBridge: netlink.IPVLAN_FLAG_BRIDGE, spec.IPvlanPrivate: netlink.IPVLAN_FLAG_PRIVATE, spec.IPvlanVEPA: netlink.IPVLAN_FLAG_VEPA,
		}[want.IPvlanFlag]
		if !ok || !known {
			return nil, fmt.Errorf("ipvlan %s: unknown mode %q or flag %q", want.Name, want.IPvlanMode, want.IPvlanFlag)
		}
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: mode, Flag: flag}, nil
	default:
		return nil, fmt.Errorf("link %s: mode %q has no links on a parent", want.Name, want.Mode)
	}
}

// explainChild says in words why the kernel makes no link on the parent.
func explainChild(err error, want spec.Child) error {
	switch {
	case errors.Is(err, unix.EBUSY), want.Mode == spec.ModeMacvlan && want.MacvlanMode == spec.MacvlanPassthru && errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s on parent %s: %w: %w", want.Mode, want.Parent, ErrBusy, err)
	case errors.Is(err, unix.EINVAL):
		// Beside a passthru link (macvlan_common_newlink in drivers/net/macvlan.c).
		return fmt.Errorf("%s on parent %s: the kernel makes none there (is a macvlan in passthru mode on it already?): %w", want.Mode, want.Parent, err)
	case isNoModule(err):
		return noModule(string(want.Mode), err)
	}
	return err
}

// ErrNoModule says that the kernel does not know a kind of link and found no
// module for it.
var ErrNoModule = errors.New("this kernel does not have it")

// isNoModule reports whether the kernel said "Unknown device type" (rtnl_newlink
// in net/core/rtnetlink.c), after it had modprobe look for the module.
func isNoModule(err error) bool { return errors.Is(err, syscall.EOPNOTSUPP) }

func noModule(kind string, err error) error {
	module, option := kind, map[string]string{"vlan": "VLAN_8021Q"}[kind]
	if kind == "vlan" {
		module = "8021q"
	}
	if option == "" {
		option = map[string]string{"macvlan": "MACVLAN", "ipvlan": "IPVLAN"}[kind]
	}
	return fmt.Errorf("%s: %w: load it on the host with `modprobe %s` (kernel option CONFIG_%s; cloud kernels have it in a package linux-modules-extra): %w",
		kind, ErrNoModule, module, option, err)
}
