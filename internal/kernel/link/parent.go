package link

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/v6net/v6net/internal/spec"
	"golang.org/x/sys/unix"
)

// wirelessMark is what cfg80211 puts into the folder of a wireless link.
const wirelessMark = "phy80211"

// Parent reads what is to be known of a link before others are put on it. The
// error matches [ErrNotFound] where there is no such link.
func (h *Handle) Parent(ctx context.Context, name string) (spec.Parent, error) {
	if err := ctx.Err(); err != nil {
		return spec.Parent{}, fmt.Errorf("read link %s: %w", name, err)
	}
	l, err := h.find(name)
	if err != nil {
		return spec.Parent{}, err
	}
	a := l.Attrs()
	const usable = unix.IFF_UP | unix.IFF_LOWER_UP
	p := spec.Parent{
		MTU: a.MTU, MAC: a.HardwareAddr.String(), Alias: a.Alias,
		Up:       a.RawFlags&usable == usable,
		Loopback: a.Flags&net.FlagLoopback != 0,
		Ethernet: a.EncapType == "ether",
		Wireless: isWireless("/sys/class/net", name),
	}
	if a.MasterIndex != 0 {
		p.Master = fmt.Sprintf("link %d", a.MasterIndex)
		if master, err := h.netlink.LinkByIndex(a.MasterIndex); err == nil {
			p.Master = master.Attrs().Name
		}
	}
	return p, nil
}

// isWireless looks into sysfs, where links have their folders: rtnetlink does
// not tell.
func isWireless(links, name string) bool {
	_, err := os.Stat(filepath.Join(links, name, wirelessMark))
	return err == nil
}
