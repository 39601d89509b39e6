//go:build netns

package link_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// What a running container has already is not set again: of each change the kernel tells all
// who listen, and looks at all routes. Whatever differs is put right.
func TestEnsureVethOfARunningContainer(t *testing.T) {
	h, self := open(t)
	box := testnet.New(t, "box")
	want := wantedVeth()
	attach(t, h, want)
	self.Run(t, "ip", "link", "set", want.Peer, "netns", box.Name(), "name", "eth0", "up")
	testnet.Eventually(t, 20*time.Second, "the carrier of "+want.Name, func() bool { // of which the kernel tells when it has the time
		return strings.Contains(self.Run(t, "ip", "link", "show", want.Name), "state UP")
	})
	index := show(t, self, want.Name).Index

	events, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: 1 << (unix.RTNLGRP_LINK - 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = events.Close() }()
	if err := h.EnsureVeth(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	self.Run(t, "ip", "link", "set", "lo", "alias", "the end")
	for about := 0; about != 1; { // lo is the first link
		messages, err := events.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			// Carrier comes to the bridge when it likes.
			if about = int(binary.NativeEndian.Uint32(m.Data[4:])); about == index {
				t.Errorf("the kernel tells of a change of %s, message %d", want.Name, m.Header.Type)
			}
		}
	}

	for _, drift := range []string{
		"ip link set VE nomaster",
		"ip link set VE type bridge_slave hairpin off",
		"ip link set VE type bridge_slave isolated off",
		"ip link set VE type bridge_slave group_fwd_mask 0",
		"ip link set VE addrgenmode eui64",
		"ip link set VE mtu 1300",
		"ip link set VE down",
	} {
		self.Run(t, "sh", "-ec", strings.ReplaceAll(drift, "VE", spec.VethName(endpointID)))
		if err := h.EnsureVeth(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		t.Log(drift)
		checkVeth(t, self, want)
	}
	for _, want.Judged = range []bool{false, true} { // a daemon with another firewall
		if err := h.EnsureVeth(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		checkVeth(t, self, want)
	}
}
