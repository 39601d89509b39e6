//go:build netns

package ndbpf

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/ndproxy"
)

var (
	asker  = [6]byte{2, 0, 0, 0, 0, 9}
	source = netip.MustParseAddr("2001:db8::9")
	target = netip.MustParseAddr(leased)
)

// question is a solicitation to be sent; mdlayher/ndp marshals it.
type question struct {
	from, to            [6]byte
	source, destination netip.Addr
	target              netip.Addr
	options             []ndp.Option
	behind              []byte // extension headers; the first one's type is next
	next                byte
	spoil               func(frame []byte) []byte // after all else
}

func multicastTo(target netip.Addr) question {
	group := solicitedNode(target)
	return question{from: asker, to: groupMAC(group), source: source, destination: group, target: target,
		options: []ndp.Option{sourceLinkLayer(asker)}}
}

func sourceLinkLayer(mac [6]byte) ndp.Option {
	return &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(mac[:])}
}

func solicitedNode(addr netip.Addr) netip.Addr {
	a := addr.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}

func groupMAC(group netip.Addr) [6]byte {
	g := group.As16()
	return [6]byte{0x33, 0x33, g[12], g[13], g[14], g[15]}
}

func (q question) frame(t testing.TB) []byte {
	t.Helper()
	m, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: q.target, Options: q.options}, q.source, q.destination)
	if err != nil {
		t.Fatal(err)
	}
	return q.wrap(m)
}

func (q question) wrap(message []byte) []byte {
	next := byte(58)
	if q.behind != nil {
		next = q.next
	}
	f := append(q.to[:], q.from[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(q.behind)+len(message)))
	f = append(f, next, 255)
	f = append(append(f, q.source.AsSlice()...), q.destination.AsSlice()...)
	f = append(append(f, q.behind...), message...)
	if q.spoil != nil {
		f = q.spoil(f)
	}
	return f
}

// resum gives a frame without extension headers its right checksum.
func resum(f []byte) []byte {
	f[56], f[57] = 0, 0
	sum := uint32(len(f)-54) + 58
	for i, b := range f[22:] {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(f[56:], ^uint16(sum))
	return f
}

func set(at int, value byte) func([]byte) []byte {
	return func(f []byte) []byte { f[at] = value; return f }
}

func setSummed(at int, value byte) func([]byte) []byte {
	return func(f []byte) []byte { f[at] = value; return resum(f) }
}

func cut(n int) func([]byte) []byte {
	return func(f []byte) []byte {
		f = f[:54+n]
		binary.BigEndian.PutUint16(f[18:], uint16(n))
		return resum(f)
	}
}

// What becomes of a row's frame, besides being counted.
const (
	nobody    = iota // no answer
	theAsker         // S=1, to the asker's address and MAC
	everybody        // S=0, to all nodes
)

// conformance has a row for every requirement. They are sent in order, each to a
// proxy that answers for leased and second.
var conformance = []struct {
	name   string
	q      func(ours [6]byte) question
	reason string
	answer int
}{
	{"RFC 4861 §7.2.4: multicast, answered to the solicitor with S=1 and TLLAO", alter(nil), "solicited", theAsker},
	{"RFC 4861 §7.2.4: without options, to the frame's sender", alter(func(q *question, _ [6]byte) { q.options = nil }), "solicited", theAsker},
	{"RFC 4861 §7.3.3: unicast probe with an option", alter(func(q *question, us [6]byte) { q.to, q.destination = us, target }), "probed", theAsker},
	{"RFC 4861 §7.2.2: unicast probe without options", alter(func(q *question, us [6]byte) { q.to, q.destination, q.options = us, target, nil }), "probed", theAsker},
	{"RFC 4861 §7.2.3: option names another MAC than the sender's", alter(func(q *question, _ [6]byte) {
		q.options = []ndp.Option{sourceLinkLayer([6]byte{2, 0, 0, 0, 0, 0x99})}
	}), "solicited", theAsker},
	{"RFC 4861 §4.3: reserved field is ignored", alter(spoil(setSummed(58, 0xff))), "solicited", theAsker},
	{"RFC 4861 §4.6: unknown option is skipped", alter(spoil(setSummed(78, 200))), "solicited", theAsker},
	{"RFC 4861 §4.6: several options", alter(func(q *question, _ [6]byte) { q.options = append(q.options, ndp.NewNonce()) }), "solicited", theAsker},
	{"RFC 2460 §6, §7: flow label and traffic class are not sent back", alter(spoil(func(f []byte) []byte { f[14], f[15], f[16], f[17] = 0x6a, 0xbc, 0xde, 0xf1; return f })), "solicited", theAsker},
	{"RFC 4861 §7.2.3: link-local solicitor", alter(func(q *question, _ [6]byte) { q.source = netip.MustParseAddr("fe80::9") }), "solicited", theAsker},
	{"IEEE 802.3: padding behind the packet", alter(spoil(func(f []byte) []byte { return append(f, 0xaa, 0xbb, 0xcc, 0xdd) })), "solicited", theAsker},

	{"RFC 4862 §5.4.3: another's DAD is defended, S=0 to all nodes", dad(nil), "defended", everybody},
	{"RFC 7527: DAD with another's nonce is defended", dad(func(q *question, _ [6]byte) { q.options = []ndp.Option{ndp.NewNonce()} }), "defended", everybody},
	{"RFC 4862 §5.4.3: DAD for a free address", dad(func(q *question, _ [6]byte) {
		q.target = netip.MustParseAddr(unknown)
		q.destination = solicitedNode(q.target)
		q.to = groupMAC(q.destination)
	}), "unknown_target", nobody},
	{"DAD of the own endpoint, which shares our MAC (ipvlan)", dad(func(q *question, us [6]byte) { q.from = us }), "own", nobody},
	{"solicitation of the own endpoint, which shares our MAC (ipvlan)", alter(func(q *question, us [6]byte) { q.from = us }), "own", nobody},
	{"RFC 4861 §7.1.1: :: to a unicast address", dad(func(q *question, us [6]byte) { q.to, q.destination = us, target }), "bad_destination", nobody},
	{"RFC 4861 §7.1.1: :: to all nodes", dad(func(q *question, _ [6]byte) {
		q.destination = netip.MustParseAddr("ff02::1")
		q.to = groupMAC(q.destination)
	}), "bad_destination", nobody},
	{"RFC 4861 §7.1.1: :: with a source link-layer address", dad(func(q *question, _ [6]byte) { q.options = []ndp.Option{sourceLinkLayer(asker)} }), "bad_dad_option", nobody},

	{"RFC 4861 §7.1.1: hop limit 254", alter(spoil(set(21, 254))), "bad_hop_limit", nobody},
	{"RFC 4861 §7.1.1: hop limit 254 by unicast", alter(func(q *question, us [6]byte) { q.to, q.destination, q.spoil = us, target, set(21, 254) }), "bad_hop_limit", nobody},
	{"RFC 4861 §7.1.1: wrong checksum", alter(spoil(set(57, 0))), "bad_checksum", nobody},
	{"RFC 4861 §7.1.1: code 1", alter(spoil(setSummed(55, 1))), "bad_code", nobody},
	{"RFC 4861 §7.1.1: length 23", alter(spoil(cut(23))), "bad_length", nobody},
	{"RFC 4861 §7.1.1: multicast target", alter(spoil(setSummed(62, 0xff))), "bad_target", nobody},
	{"RFC 4861 §7.1.1: option of length 0", alter(spoil(setSummed(79, 0))), "bad_option", nobody},
	{"RFC 4861 §7.1.1: option longer than the message", alter(spoil(setSummed(79, 2))), "bad_option", nobody},
	{"RFC 4861 §7.1.1: half an option", alter(spoil(cut(25))), "bad_option", nobody},
	{"RFC 4291 §2.7: multicast source", alter(func(q *question, _ [6]byte) { q.source = netip.MustParseAddr("ff02::1") }), "bad_source", nobody},
	{"RFC 4291 §2.5.3: loopback source", alter(func(q *question, _ [6]byte) { q.source = netip.IPv6Loopback() }), "bad_source", nobody},
	{"RFC 8200 §4.5: packet cut off", alter(spoil(func(f []byte) []byte { return f[:80] })), "truncated", nobody},
	{"RFC 6980 §5: fragment header", alter(func(q *question, _ [6]byte) { q.next, q.behind = 44, []byte{58, 0, 0, 0, 0, 0, 0, 7} }), "fragmented", nobody},
	{"RFC 6980 §5: first of several fragments", alter(func(q *question, _ [6]byte) { q.next, q.behind = 44, []byte{58, 0, 0, 1, 0, 0, 0, 8} }), "fragmented", nobody},
	{"RFC 8200 §4.3: behind hop-by-hop options", alter(func(q *question, _ [6]byte) { q.next, q.behind = 0, []byte{58, 0, 1, 4, 0, 0, 0, 0} }), "extension_header", nobody},
	{"RFC 8200 §4.6: behind destination options", alter(func(q *question, _ [6]byte) { q.next, q.behind = 60, []byte{58, 0, 1, 4, 0, 0, 0, 0} }), "extension_header", nobody},

	{"RFC 6583: unknown target", alter(func(q *question, us [6]byte) { *q = multicastTo(netip.MustParseAddr(unknown)) }), "unknown_target", nobody},
	{"RFC 6583: unknown target, unicast", alter(func(q *question, us [6]byte) {
		q.to, q.target, q.destination, q.options = us, netip.MustParseAddr(unknown), netip.MustParseAddr(unknown), nil
	}), "unknown_target", nobody},
}

func alter(change func(q *question, ours [6]byte)) func([6]byte) question {
	return func(ours [6]byte) question {
		q := multicastTo(target)
		if change != nil {
			change(&q, ours)
		}
		return q
	}
}

func dad(change func(q *question, ours [6]byte)) func([6]byte) question {
	return alter(func(q *question, ours [6]byte) {
		q.source, q.options = netip.IPv6Unspecified(), nil
		if change != nil {
			change(q, ours)
		}
	})
}

func spoil(f func([]byte) []byte) func(*question, [6]byte) {
	return func(q *question, _ [6]byte) { q.spoil = f }
}

func TestConformance(t *testing.T) {
	for path := range paths {
		t.Run(path, func(t *testing.T) {
			l := newLab(t, path, ndproxy.Knobs{})
			l.add(t, leased, second)
			us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
			linkLocal := linkLocalOf(t, l)
			for _, row := range conformance {
				t.Run(row.name, func(t *testing.T) {
					q := row.q(us)
					before := l.counters()
					l.drain(t)
					l.send(t, q.frame(t))
					if row.answer != nobody {
						checkAnswer(t, l.advertisement(t, q.target), q, row.answer, us, linkLocal, false)
					}
					eventually(t, "counted as "+row.reason, func() bool { return l.counters()[row.reason] > before[row.reason] })
					after := l.counters()
					for reason, n := range after {
						want := before[reason]
						if reason == row.reason {
							want++
						}
						// The kernel of the upstream host may resolve and probe, too.
						if n != want && reason != "advertised" && reason != "unknown_target" {
							t.Errorf("counter %s went from %d to %d, want %d", reason, before[reason], n, want)
						}
					}
					// Nothing more is sent: the next answer is to the next question.
					solicited := l.counters()["solicited"]
					l.send(t, multicastTo(netip.MustParseAddr(second)).frame(t))
					for b := range l.until(t, netip.MustParseAddr(second)) {
						t.Errorf("also sent: %s", hex.EncodeToString(b))
					}
					eventually(t, "that is counted", func() bool { return l.counters()["solicited"] == solicited+1 })
				})
			}
		})
	}
}

// until yields the advertisements of our leases before that of last.
func (l *lab) until(t *testing.T, last netip.Addr) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		if err := l.wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2048)
		for {
			n, err := l.wire.Read(b)
			if err != nil {
				t.Fatalf("no advertisement of %s: %v", last, err)
			}
			if n < 78 || b[20] != 58 || b[54] != 136 {
				continue
			}
			switch netip.AddrFrom16([16]byte(b[62:])) {
			case last:
				return
			case target:
				if !yield(b[:n]) {
					return
				}
			}
		}
	}
}

func parseMAC(t testing.TB, s string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func linkLocalOf(t testing.TB, l *lab) netip.Addr {
	t.Helper()
	for _, word := range strings.Fields(l.self.Run(t, "ip", "-6", "-br", "addr", "show", "dev", l.link)) {
		if p, err := netip.ParsePrefix(word); err == nil && p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	t.Fatal("no link-local address")
	return netip.Addr{}
}

// checkAnswer holds every byte of an answer against what mdlayher/ndp marshals.
func checkAnswer(t *testing.T, got []byte, q question, to int, us [6]byte, from netip.Addr, override bool) {
	t.Helper()
	want := question{from: us, to: q.from, source: from, destination: q.source}
	if to == everybody {
		want.destination = netip.MustParseAddr("ff02::1")
		want.to = groupMAC(want.destination)
	}
	m, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Router: true, Solicited: to == theAsker, Override: override, TargetAddress: q.target,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: us[:]}},
	}, want.source, want.destination)
	if err != nil {
		t.Fatal(err)
	}
	if w := hex.EncodeToString(want.wrap(m)); hex.EncodeToString(got) != w {
		t.Errorf("answer\n%x, want\n%s", got, w)
	}
}
