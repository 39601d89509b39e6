package testnet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// raiseTimeout bounds the wait for both ends of a cable to be usable.
const raiseTimeout = 30 * time.Second

// Connect runs a cable (a veth pair) from interface aIf of host a to interface
// bIf of host b. Both ends are up and have their link-local address when it
// returns. Neither does duplicate address detection, so that addresses added
// later can be used at once. The cable goes at the end of the test.
func Connect(t testing.TB, a *Host, aIf string, b *Host, bIf string) {
	t.Helper()
	if err := connect(a, aIf, b, bIf); err != nil {
		t.Fatalf("connect %s:%s to %s:%s: %v", a.name, aIf, b.name, bIf, err)
	}
	t.Cleanup(func() {
		// The kernel removes the interfaces of a namespace some time after
		// its end; the next test may want the same names before that.
		if err := disconnect(a, aIf); err != nil {
			t.Errorf("disconnect %s:%s: %v", a.name, aIf, err)
		}
	})
}

func connect(a *Host, aIf string, b *Host, bIf string) error {
	aNS, err := netns.GetFromPath(a.Path())
	if err != nil {
		return fmt.Errorf("open host %s: %w", a.name, err)
	}
	defer func() { _ = aNS.Close() }()
	bNS, err := netns.GetFromPath(b.Path())
	if err != nil {
		return fmt.Errorf("open host %s: %w", b.name, err)
	}
	defer func() { _ = bNS.Close() }()

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Namespace = aIf, netlink.NsFd(aNS)
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: bIf, PeerNamespace: netlink.NsFd(bNS)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("add veth pair: %w", err)
	}
	if err := raise(a, aIf); err != nil {
		return err
	}
	if err := raise(b, bIf); err != nil {
		return err
	}
	deadline := time.Now().Add(raiseTimeout)
	if err := awaitLinkLocal(a, aIf, deadline); err != nil {
		return err
	}
	return awaitLinkLocal(b, bIf, deadline)
}

// raise brings an interface up, without duplicate address detection.
func raise(h *Host, name string) error {
	return h.link(name, func(link netlink.Link) error {
		for _, key := range []string{"accept_dad", "dad_transmits"} {
			if err := writeSysctl("net/ipv6/conf/"+name+"/"+key, "0"); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("raise: %w", err)
		}
		return nil
	})
}

// awaitLinkLocal waits until an interface has a link-local address: the sign
// that the kernel has seen the carrier and serves IPv6 there.
func awaitLinkLocal(h *Host, name string, deadline time.Time) error {
	return h.link(name, func(link netlink.Link) error {
		for {
			addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // the list is read again anyway
				return fmt.Errorf("list addresses: %w", err)
			}
			for _, addr := range addrs {
				if addr.IP.IsLinkLocalUnicast() && addr.Flags&unix.IFA_F_TENTATIVE == 0 {
					return nil
				}
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("no link-local address after %v", raiseTimeout)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

func disconnect(h *Host, name string) error {
	err := h.link(name, netlink.LinkDel)
	// The test may have removed it, which is its good right.
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil
	}
	return err
}

// link calls f inside the host with one of the host's interfaces.
func (h *Host) link(name string, f func(netlink.Link) error) error {
	var linkErr error
	err := h.enter(func() {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = f(link)
		}
		if err != nil {
			linkErr = fmt.Errorf("interface %s of host %s: %w", name, h.name, err)
		}
	})
	return errors.Join(err, linkErr)
}
