package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
)

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE (include/uapi/linux/if_link.h).
const addrGenModeNone = 1

// EnsureVeth makes an endpoint's veth pair as wanted. The host's end is a port
// of the bridge with hairpin mode, so that a container reaches its own published
// ports, isolated from other isolated ports as asked, with no way past the firewall
// that judges it, without an IPv6 link-local address, and up. The container's end gets
// its hardware address and MTU while it is in this namespace and is the engine's after
// that. A wanted MTU of zero leaves the MTU alone.
//
// The error matches [ErrForeign] where somebody else has a link of the host
// end's name and [ErrNotFound] where the bridge is absent.
func (h *Handle) EnsureVeth(ctx context.Context, want spec.Veth) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("veth %s: %w", want.Name, err)
	}
	mac, err := net.ParseMAC(want.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("veth %s: %q is no hardware address for its container's end", want.Name, want.MAC)
	}
	master, err := h.entry(want.Bridge)
	if err != nil {
		return fmt.Errorf("bridge of veth %s: %w", want.Name, err)
	}
	is, err := h.entry(want.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if is.isPort(master, want) && is.parentElsewhere { // a container's that runs: that is all there is
		return nil
	}
	host, created, err := h.ensure(veth(want, mac), want.Alias)
	if err != nil {
		return err
	}
	if created {
		defer func() {
			if err != nil {
				err = errors.Join(err, h.remove(host)) // takes the other end along
			}
		}()
	}
	if err := h.ensurePeer(host, want, mac); err != nil {
		return err
	}
	return h.ensurePort(host, is, master, want)
}

func veth(want spec.Veth, mac net.HardwareAddr) *netlink.Veth {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = want.Name, want.MTU, markMAC(want.Alias)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerMTU = want.Peer, mac, uint32(want.MTU)
	return pair
}

// ensurePeer corrects the container's end, unless the engine has moved it.
func (h *Handle) ensurePeer(host netlink.Link, want spec.Veth, mac net.HardwareAddr) error {
	if host.Attrs().NetNsID >= 0 { // IFLA_LINK_NETNSID: the peer is elsewhere
		return nil
	}
	peer, err := h.netlink.LinkByIndex(host.Attrs().ParentIndex)
	if rtnl.IsAbsent(err) { // moved since the host's end was read
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the other end of veth %s: %w", want.Name, err)
	}
	if err := h.setAlias(peer, want.Alias); err != nil {
		return err
	}
	if err := h.setMAC(peer, mac); err != nil {
		return err
	}
	return h.setMTU(peer, want.MTU)
}

// isPort reports whether a link is the host's end as wanted.
func (e entry) isPort(master entry, want spec.Veth) bool {
	return e.kind == "veth" && e.alias == want.Alias && e.isUp() && (want.MTU == 0 || e.mtu == want.MTU) &&
		e.master == master.index && e.hairpin && e.isolated == want.Isolated && e.forwards == forwards(want) && e.addrGenMode == addrGenModeNone
}

// ensurePort corrects the host's end, which was as given. It comes up last, with all its port
// flags. What is so already is not set again: the kernel takes that for a change of the link,
// for each of which it looks at every IPv6 route (rt6_sync_up in net/ipv6/route.c) and tells
// all who listen.
func (h *Handle) ensurePort(host netlink.Link, is, master entry, want spec.Veth) error {
	if err := h.setMTU(host, want.MTU); err != nil {
		return err
	}
	if is.addrGenMode != addrGenModeNone {
		if err := h.netlink.LinkSetIP6AddrGenMode(host, addrGenModeNone); err != nil {
			return fmt.Errorf("turn off address generation of %s: %w", want.Name, err)
		}
	}
	if is.master != master.index {
		if err := h.netlink.LinkSetMasterByIndex(host, master.index); err != nil {
			return fmt.Errorf("attach %s to bridge %s: %w", want.Name, want.Bridge, err)
		}
		is.hairpin, is.isolated, is.forwards = false, false, 0 // as the kernel makes a port
	}
	if !is.hairpin || is.isolated != want.Isolated || is.forwards != forwards(want) {
		if err := h.setPort(host.Attrs().Index, want); err != nil {
			return fmt.Errorf("make %s the port that bridge %s wants, isolated=%t, judged=%t: %w", want.Name, want.Bridge, want.Isolated, want.Judged, err)
		}
	}
	return h.setUp(host)
}
