package link

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Info is what the kernel says about a link.
type Info struct {
	Index       int
	MTU         int // bytes
	MAC         net.HardwareAddr
	Up          bool   // administratively (IFF_UP)
	Carrier     bool   // IFF_LOWER_UP
	Kind        string // "bridge", "veth", …; "device" for hardware
	MasterIndex int    // of the bridge that it is a port of; 0: none
}

// Link reads one link. The error matches [ErrNotFound].
func (h *Handle) Link(ctx context.Context, name string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, fmt.Errorf("read link %s: %w", name, err)
	}
	l, err := h.find(name)
	if err != nil {
		return Info{}, err
	}
	a := l.Attrs()
	return Info{
		Index: a.Index, MTU: a.MTU, MAC: a.HardwareAddr,
		Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
		Kind: l.Type(), MasterIndex: a.MasterIndex,
	}, nil
}

// Owned lists the links that carry a mark of ours, whatever network or endpoint
// it names.
func (h *Handle) Owned(ctx context.Context) ([]spec.OwnedLink, error) {
	links, err := h.list(ctx)
	if err != nil {
		return nil, err
	}
	var owned []spec.OwnedLink
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Alias, spec.LinkAliasMark) {
			owned = append(owned, spec.OwnedLink{Name: a.Name, Alias: a.Alias})
		}
	}
	return owned, nil
}

func (h *Handle) list(ctx context.Context) ([]netlink.Link, error) {
	links, err := dump.Retry(ctx, h.netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}
