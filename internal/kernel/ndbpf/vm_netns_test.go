//go:build netns && vm

package ndbpf

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// These tests want a kernel with VLANs, bonds and ipvlan, as the VM's is: make vm.

// patience is an emulated machine's.
const patience = time.Minute

func newUnseenLab(t *testing.T, cable string) *lab {
	l := &lab{self: testnet.Self(t), up: testnet.New(t, "up"), link: "eth0", unseen: true}
	testnet.Connect(t, l.self, "eth0", l.up, cable)
	return l
}

func (l *lab) addVLAN(t *testing.T) {
	l.up.Run(t, "ip", "link", "add", "lan0", "link", "cable0", "type", "vlan", "id", "100")
	l.up.Run(t, "ip", "link", "set", "lan0", "up")
}

// A VLAN and a bond are parents as any.
func TestVLANAndBond(t *testing.T) {
	for path := range paths {
		t.Run("VLAN/"+path, func(t *testing.T) {
			l := newUnseenLab(t, "cable0")
			l.addVLAN(t)
			l.proxiesOnWAN(t, path, []string{"ip link add wan0 link eth0 type vlan id 100"})
		})
		t.Run("bond/"+path, func(t *testing.T) {
			l := newUnseenLab(t, "lan0")
			l.proxiesOnWAN(t, path, []string{
				"ip link add wan0 type bond mode active-backup miimon 100", "ip link set eth0 down", "ip link set eth0 master wan0",
			})
		})
	}
}

// What is asked in a VLAN above the parent is not the parent's affair.
func TestVLANAboveParent(t *testing.T) {
	for path := range paths {
		t.Run(path, func(t *testing.T) {
			l := newUnseenLab(t, "cable0")
			l.addVLAN(t)
			l.up.AddAddress(t, "2001:db8::2/64", "lan0")
			l.self.Run(t, "ip", "link", "add", "above0", "link", "eth0", "type", "vlan", "id", "100")
			defer l.self.Run(t, "ip", "link", "del", "above0")
			l.self.Run(t, "ip", "link", "set", "above0", "up")
			l.run(t, path, ndproxy.Knobs{})
			l.add(t, leased)
			if got := l.up.Resolve(t, leased, "lan0"); got != "" {
				t.Errorf("a lease of the parent is answered for in a VLAN, as %q", got)
			}
			if c := l.counters(); c["solicited"] != 0 {
				t.Errorf("counters %v", c)
			}
			l.up.AddAddress(t, "2001:db8::3/64", "cable0")
			l.up.Run(t, "ip", "addr", "del", "2001:db8::2/64", "dev", "lan0")
			eventually(t, "it is answered for on the parent", func() bool { return l.up.Resolve(t, leased, "cable0") == l.self.MAC(t, "eth0") })
		})
	}
}

// RFC 4862 §5.4.3, RFC 4861 §7.3: an ipvlan in mode l3 takes another host's
// duplicate address detection for a container's address from the parent, and
// probes; they are answered all the same, and another Linux is kept from taking
// the address.
func TestIPvlanL3IsDefended(t *testing.T) {
	for _, mode := range []string{"l3", "l3s"} {
		for path := range paths {
			t.Run(mode+"/"+path, func(t *testing.T) {
				l := newUnseenLab(t, "lan0")
				c := testnet.New(t, "c")
				l.up.AddAddress(t, "2001:db8::2/64", "lan0")
				l.self.Run(t, "ip", "link", "add", "slave0", "link", "eth0", "type", "ipvlan", "mode", mode)
				l.self.Run(t, "ip", "link", "set", "slave0", "netns", c.Name())
				c.Run(t, "ip", "link", "set", "slave0", "up")
				c.Run(t, "ip", "addr", "add", leased+"/128", "dev", "slave0", "nodad")
				l.run(t, path, ndproxy.Knobs{})
				l.add(t, leased)
				if path != "packet" {
					eventually(t, "answers have a source", func() bool { return l.conn.Load().LinkLocal().IsValid() })
				}
				us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
				l.drain(t)
				for name, q := range map[string]question{
					"DAD":   dad(func(q *question, _ [6]byte) { q.options = []ndp.Option{ndp.NewNonce()} })(us),
					"probe": alter(func(q *question, us [6]byte) { q.to, q.destination, q.options = us, target, nil })(us),
				} {
					l.send(t, q.frame(t))
					if got := l.advertisement(t, netip.MustParseAddr(leased)); [6]byte(got[80:86]) != us {
						t.Errorf("%s: answer %x", name, got)
					}
				}
				if c := l.counters(); c["defended"] != 1 || c["probed"] != 1 {
					t.Errorf("counters %v, want 1 defended, 1 probed", c)
				}
				l.up.Sysctl(t, "net/ipv6/conf/lan0/accept_dad", "1")
				l.up.Sysctl(t, "net/ipv6/conf/lan0/dad_transmits", "1")
				l.up.Run(t, "ip", "addr", "add", leased+"/64", "dev", "lan0")
				eventually(t, "DAD fails", func() bool {
					return strings.Contains(l.up.Run(t, "ip", "-6", "addr", "show", "dev", "lan0", "dadfailed"), leased)
				})
			})
		}
	}
}
