package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
)

// markMAC is the hardware address of a link of ours: unicast, locally
// administered (IEEE 802c) and made from its alias, 46 bits of a hash.
//
// It serves twice. A bridge keeps its address while ports come and go, where
// the kernel would else take the lowest of them. And it marks a link from its
// very creation: RTM_NEWLINK takes a hardware address but ignores an alias
// (rtnl_create_link in net/core/rtnetlink.c), so a daemon killed between the
// two leaves a link that only this tells from a foreign one.
func markMAC(alias string) net.HardwareAddr {
	hash := sha256.Sum256([]byte(alias))
	mac := net.HardwareAddr(hash[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// owned reads the link of a name, which must carry our alias or, its creation
// having been interrupted, must carry none and [markMAC]. The error matches
// [ErrNotFound] or [ErrForeign].
func (h *Handle) owned(name, alias string) (netlink.Link, error) {
	l, err := h.find(name)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	if a.Alias == alias || a.Alias == "" && (bytes.Equal(a.HardwareAddr, markMAC(alias)) || hasParentsMAC(l)) {
		return l, nil
	}
	return nil, fmt.Errorf("link %s (alias %q, want %q): %w: rename or delete it", name, a.Alias, alias, ErrForeign)
}

// hasParentsMAC reports whether a link is of a kind that comes with its parent's
// hardware address, whatever is asked: there the name is all the mark there is,
// the prefix that is ours and digits of an ID.
func hasParentsMAC(l netlink.Link) bool {
	macvlan, ok := l.(*netlink.Macvlan)
	return (l.Type() == "ipvlan" || ok && macvlan.Mode == netlink.MACVLAN_MODE_PASSTHRU) && strings.HasPrefix(l.Attrs().Name, spec.LinkPrefix)
}

// ensure returns the link of ours that is like l in name and kind, and creates
// l if it is absent; created says so.
func (h *Handle) ensure(l netlink.Link, alias string) (found netlink.Link, created bool, err error) {
	name := l.Attrs().Name
	found, err = h.owned(name, alias)
	if errors.Is(err, ErrNotFound) {
		if err := h.netlink.LinkAdd(l); err != nil {
			return nil, false, fmt.Errorf("create %s %s: %w", l.Type(), name, err)
		}
		created = true
		found, err = h.owned(name, alias)
	}
	if err == nil && found.Type() != l.Type() {
		err = fmt.Errorf("link %s is a %s and not a %s: %w: rename or delete it", name, found.Type(), l.Type(), ErrForeign)
	}
	if err == nil {
		err = h.setAlias(found, alias)
	}
	if err != nil && created {
		err = errors.Join(err, h.remove(l))
	}
	if err != nil {
		return nil, false, err
	}
	return found, created, nil
}

func (h *Handle) setAlias(l netlink.Link, alias string) error {
	if l.Attrs().Alias == alias {
		return nil
	}
	if err := h.netlink.LinkSetAlias(l, alias); err != nil {
		return fmt.Errorf("set alias of %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// Remove deletes the link of that name if it carries the alias. A link that is
// absent or somebody else's is none of ours to remove, which is success.
func (h *Handle) Remove(ctx context.Context, name, alias string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	l, err := h.owned(name, alias)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrForeign) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.remove(l)
}

// remove deletes a link, which may have gone meanwhile.
func (h *Handle) remove(l netlink.Link) error {
	if err := h.netlink.LinkDel(l); err != nil && !rtnl.IsAbsent(err) {
		return fmt.Errorf("delete link %s: %w", l.Attrs().Name, err)
	}
	return nil
}
