package link

import (
	"bytes"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// setMTU sets the MTU of a link in bytes; zero leaves it as it is.
func (h *Handle) setMTU(l netlink.Link, mtu int) error {
	if mtu == 0 || l.Attrs().MTU == mtu {
		return nil
	}
	if err := h.netlink.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", l.Attrs().Name, mtu, err)
	}
	return nil
}

func (h *Handle) setMAC(l netlink.Link, mac net.HardwareAddr) error {
	if bytes.Equal(l.Attrs().HardwareAddr, mac) {
		return nil
	}
	if err := h.netlink.LinkSetHardwareAddr(l, mac); err != nil {
		return fmt.Errorf("set hardware address of %s to %s: %w", l.Attrs().Name, mac, err)
	}
	return nil
}

func (h *Handle) setUp(l netlink.Link) error {
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := h.netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up %s: %w", l.Attrs().Name, err)
	}
	return nil
}
