package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
)

// Way is the link by which packets of the host's leave for an address, by all its rules
// and tables; none where it has no route.
func (h *Handle) Way(ctx context.Context, to netip.Addr) (spec.Way, error) {
	if err := ctx.Err(); err != nil {
		return spec.Way{}, err
	}
	routes, err := h.netlink.RouteGet(to.AsSlice())
	for _, none := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL} { // of the types of routes that refuse
		if errors.Is(err, none) {
			return spec.Way{}, nil
		}
	}
	if err != nil {
		return spec.Way{}, fmt.Errorf("look up the route to %s: %w", to, err)
	}
	if len(routes) == 0 {
		return spec.Way{}, nil
	}
	l, err := h.linkByIndex(routes[0].LinkIndex)
	if err != nil || l == nil {
		return spec.Way{}, err
	}
	_, bridge := l.(*netlink.Bridge)
	return spec.Way{Link: l.Attrs().Name, Bridge: bridge}, nil
}
