//go:build netns

package dhcp6

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/testnet"
)

// Most providers lend prefixes over PPP: links without Ethernet's headers.
func TestLinkThatIsNoEthernet(t *testing.T) {
	self := testnet.Self(t)
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true, Queues: 1, Flags: netlink.TUNTAP_NO_PI}
	var err error
	self.Do(t, func() { err = netlink.LinkAdd(tun) })
	if err != nil {
		t.Fatalf("make tun0: %v", err)
	}
	provider := tun.Fds[0]
	t.Cleanup(func() { _ = provider.Close() }) // and the link goes
	self.Run(t, "ip", "link", "set", "tun0", "up", "multicast", "on")
	self.Run(t, "ip", "addr", "add", "fe80::5/64", "dev", "tun0", "nodad")
	conn, err := Dial(t.Context(), "tun0")
	if err != nil {
		t.Fatal(err)
	}
	closed := time.AfterFunc(30*time.Second, func() { _ = conn.Close() }) // ends a Receive that gets nothing
	t.Cleanup(func() {
		if closed.Stop() {
			_ = conn.Close()
		}
	})
	if err := conn.Send([]byte("anybody?")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for { // the kernel solicits routers there, too
		n, err := provider.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if message, from, ok := unpack(b[:n], false); ok && string(message) == "anybody?" {
			if to := netip.AddrFrom16([16]byte(b[24:40])); from != conn.source || to != servers || b[7] != 1 {
				t.Errorf("from %s to %s with hop limit %d", from, to, b[7])
			}
			break
		}
	}
	if _, err := provider.Write(packet(server, conn.source, serverPort, clientPort, []byte("I am"))); err != nil {
		t.Fatal(err)
	}
	n, from, err := conn.Receive(b)
	if err != nil || from != server || !strings.HasPrefix(string(b[:n]), "I am") {
		t.Errorf("received %q from %s, %v", b[:n], from, err)
	}
}
