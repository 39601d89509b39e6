//go:build netns

package nft

import (
	"testing"
)

// Where frames are not judged, packets are when the host routes them: a container
// gets nowhere under an address that is not its own.
func TestRoutedForgeries(t *testing.T) { eachBackend(t, testRoutedForgeries) }

func testRoutedForgeries(t *testing.T, b backend) {
	s := b.site(t)
	bridgeNetfilter(t, s.host, "0")
	attacker := s.c["web2"]
	ip(t, attacker, "addr add 2001:db8:1::66/64 nodad dev eth0", "addr add 2001:db8:1::3/64 nodad dev eth0", "addr add 172.18.1.66/24 dev eth0", "addr add 2001:db8:ffff::1/64 nodad dev eth0")
	outside6s, outside4s := count(t, s.outside, "["+outside6+"]:5000"), count(t, s.outside, outside4+":5000")
	host6s := count(t, s.host, "[2001:db8:1::1]:5000")
	forge := func() {
		for _, from := range []string{"2001:db8:1::66", "2001:db8:1::3", "2001:db8:ffff::1"} {
			send(t, attacker, "["+from+"]:0", "["+outside6+"]:5000")
			send(t, attacker, "["+from+"]:0", "[2001:db8:1::1]:5000")
		}
		send(t, attacker, "172.18.1.66:0", outside4+":5000")
	}
	honest := func() {
		send(t, attacker, "[2001:db8:1::2]:0", "["+outside6+"]:5000")
		send(t, attacker, "[2001:db8:1::2]:0", "[2001:db8:1::1]:5000")
		send(t, attacker, "172.18.1.2:0", outside4+":5000")
	}
	forge()
	if !eventually(func() bool { return outside6s.Load() == 3 && host6s.Load() == 3 && outside4s.Load() == 1 }) {
		t.Fatalf("without rules %d, %d and %d forged datagrams arrive: the test proves nothing", outside6s.Load(), host6s.Load(), outside4s.Load())
	}
	f := s.open(t)
	apply(t, f, s.config)
	for range 3 {
		forge()
	}
	honest() // comes last
	if !eventually(func() bool { return outside6s.Load() > 3 && host6s.Load() > 3 && outside4s.Load() > 1 }) {
		t.Errorf("what is honest does not arrive: %d, %d and %d", outside6s.Load(), host6s.Load(), outside4s.Load())
	}
	if a, b, c := outside6s.Load(), host6s.Load(), outside4s.Load(); a != 4 || b != 4 || c != 2 {
		t.Errorf("%d, %d and %d datagrams under forged addresses arrive", a-4, b-4, c-2)
	}
	s.config.Networks[0].AnySource = true
	apply(t, f, s.config)
	send(t, attacker, "[2001:db8:1::66]:0", "["+outside6+"]:5000")
	if !eventually(func() bool { return outside6s.Load() == 5 }) {
		t.Error("antispoof=off: a datagram does not arrive")
	}
}
