package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
)

// Entrance is how the daemon gets into the network namespaces of containers that run.
//
// There is none but to enter: of rtnetlink's requests for addresses only the dump
// can name another namespace (IFA_TARGET_NETNSID; inet6_rtm_newaddr and
// inet6_rtm_deladdr in net/ipv6/addrconf.c take the socket's), and a socket is of
// the namespace that its maker was in. So it takes CAP_SYS_ADMIN and the path.
type Entrance struct {
	// Folder is where the container engine's folder of namespaces is to be seen from
	// here, which may be another path than the engine's own; empty: at the engine's.
	Folder string
	Now    func() time.Time // that lifetimes are kept by; nil: time.Now
}

// Readdress gives the link with that alias in a sandbox the IPv6 addresses, and
// takes those of gone from it. It is idempotent. First come those that are in use, so
// that the container is never without one.
//
// The error matches [fs.ErrNotExist] where the sandbox or the link is not there, and
// [fs.ErrPermission] where the namespace must not be entered.
func (e Entrance) Readdress(ctx context.Context, sandbox, alias string, want []spec.SandboxAddress, gone []netip.Prefix) error {
	path := sandbox
	if e.Folder != "" {
		path = filepath.Join(e.Folder, filepath.Base(sandbox))
	}
	now := time.Now
	if e.Now != nil {
		now = e.Now
	}
	err := netns.Do(path, func() error {
		h, err := handle()
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := find(ctx, h, alias)
		if err != nil {
			return err
		}
		if err := readdress(h, l, want, gone, now()); err != nil {
			return err
		}
		settle(ctx, h, l, want)
		return nil
	})
	if err != nil {
		return fmt.Errorf("addresses of %s in %s: %w", alias, path, err)
	}
	return nil
}

// readdress runs on a thread that is in the container's namespace.
func readdress(h *netlink.Handle, l netlink.Link, want []spec.SandboxAddress, gone []netip.Prefix, now time.Time) error {
	for _, former := range []bool{false, true} {
		for _, a := range want {
			if a.Former != former {
				continue
			}
			if err := setAddress(h, l, a, now); err != nil {
				return err
			}
		}
	}
	for _, p := range gone {
		err := h.AddrDel(l, &netlink.Addr{IPNet: netipx.PrefixIPNet(p)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s: %w", p, err)
		}
	}
	return nil
}

// settleTime bounds the wait for the kernel: whoever renumbers has more to do.
const settleTime = 100 * time.Millisecond

// settle waits until packets to the addresses in use are taken, so that the first one
// does not ask in vain and a second later again (RFC 4861 §7.2.2, RetransTimer). A
// link that is down takes none.
func settle(ctx context.Context, h *netlink.Handle, l netlink.Link, want []spec.SandboxAddress) {
	if l.Attrs().OperState == netlink.OperDown {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	var current []netip.Prefix
	for _, a := range want {
		if !a.Former {
			current = append(current, a.Prefix)
		}
	}
	_ = awaitAddresses(ctx, h, current) // they are set; that they are late is no failure
}

// setAddress adds an address, or changes its lifetimes. One that is in use has none.
func setAddress(h *netlink.Handle, l netlink.Link, a spec.SandboxAddress, now time.Time) error {
	addr := &netlink.Addr{IPNet: netipx.PrefixIPNet(a.Prefix), Flags: unix.IFA_F_NODAD}
	if a.Former {
		addr.PreferedLft, addr.ValidLft = 0, math.MaxUint32 // INFINITY_LIFE_TIME
		if !a.Valid.IsZero() {
			// Not 0, which to the kernel is no lifetime of an address at all.
			addr.ValidLft = int(max(a.Valid.Sub(now).Round(time.Second), time.Second) / time.Second)
		}
	}
	if err := h.AddrReplace(l, addr); err != nil {
		return fmt.Errorf("set address %s: %w", a.Prefix, err)
	}
	return nil
}
