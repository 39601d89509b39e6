package facts

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/kernel/nft"
	"github.com/v6net/v6net/internal/kernel/rtnl"
)

// try finds out what the kernel can make, by making it in a network namespace of
// its own: modules are loaded by that as they are for v6net, and a list of them
// would not tell what is built in.
func (h Host) try(ctx context.Context, f *doctor.Facts) error {
	return netns.Alone(func() (err error) {
		f.Missing, err = tryAll(ctx, h.Tried)
		return err
	})
}

func tryAll(ctx context.Context, what []string) (missing []string, err error) {
	rules, err := nft.Try()
	if err != nil {
		return nil, err
	}
	able := map[string]bool{
		doctor.NFTables: rules.Tables, doctor.NFTBridge: rules.Bridges, doctor.NFTConntrack: rules.Conntrack, doctor.NFTNAT: rules.NAT,
	}
	handle, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	var errs []error
	for _, name := range what {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		can, isRule := able[name]
		if !isRule {
			var err error
			if can, err = makes(handle, name); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if !can {
			missing = append(missing, name)
		}
	}
	return missing, errors.Join(errs...)
}

// makes reports whether the kernel knows a kind of link. Those that are put on
// another link are given loopback, which most refuse: what it says of a kind that it
// does not have comes before (rtnl_newlink in net/core/rtnetlink.c).
func makes(h *netlink.Handle, kind string) (bool, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "trial"
	var l netlink.Link = &netlink.GenericLink{LinkAttrs: attrs, LinkType: kind}
	switch kind {
	case doctor.KindVeth:
		l = &netlink.Veth{LinkAttrs: attrs, PeerName: "trial2"}
	case doctor.KindMacvlan, doctor.KindIPvlan, doctor.KindVLAN:
		attrs.ParentIndex = 1 // of lo, in every namespace
		l = &netlink.GenericLink{LinkAttrs: attrs, LinkType: kind}
	}
	err := h.LinkAdd(l)
	switch {
	case err == nil:
		return true, h.LinkDel(l)
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case errors.Is(err, unix.EPERM):
		return false, fmt.Errorf("try a link of kind %s: %w", kind, err)
	default:
		return true, nil // it is known, and wants more than it was given
	}
}
