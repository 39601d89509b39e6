package link

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/v6net/v6net/internal/spec"
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
		if strings.HasPrefix(l.alias, spec.LinkAliasMark) {
			owned = append(owned, spec.OwnedLink{Name: l.name, Alias: l.alias})
		}
	}
	return owned, nil
}

// Usable names the links that are up and have a carrier.
func (h *Handle) Usable(ctx context.Context) ([]string, error) {
	links, err := h.list(ctx)
	if err != nil {
		return nil, err
	}
	const usable = unix.IFF_UP | unix.IFF_LOWER_UP
	var names []string
	for _, l := range links {
		if l.flags&usable == usable {
			names = append(names, l.name)
		}
	}
	return names, nil
}
