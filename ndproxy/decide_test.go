package ndproxy

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// toNeighbor answers one host, toAll defends an address.
var (
	toNeighbor = Advertisement{Target: leased, HardwareAddr: router, Source: here.LinkLocal,
		Destination: host, NextHop: neighbor, Solicited: true}
	toAll = Advertisement{Target: leased, HardwareAddr: router, Source: here.LinkLocal,
		Destination: allNodes, NextHop: [6]byte{0x33, 0x33, 0, 0, 0, 1}}
)

func TestDecide(t *testing.T) {
	bytesOf := func(f frame, spoil func(b []byte) []byte) []byte { return spoil(f.marshal(t)) }
	at := func(offset int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[offset] = value; return b }
	}
	message := func(offset int, value byte) func([]byte) []byte { // with a correct checksum
		return func(b []byte) []byte { b[54+offset] = value; fixChecksum(b); return b }
	}
	length := func(n int) func([]byte) []byte {
		return func(b []byte) []byte {
			b = b[:54+n]
			binary.BigEndian.PutUint16(b[18:], uint16(n))
			fixChecksum(b)
			return b
		}
	}
	change := func(f frame, do func(*frame)) frame { do(&f); return f }

	for name, c := range map[string]struct {
		frame []byte
		want  Verdict
	}{
		"RFC 4861 §7.2.4: multicast":                   {multicast(leased).marshal(t), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"RFC 4861 §7.2.4: unicast without options":     {unicast(leased).marshal(t), Verdict{Reason: Probed, Advertisement: toNeighbor}},
		"RFC 4861 §7.3: unicast with option":           {change(unicast(leased), func(f *frame) { f.options = sourceLinkLayer(neighbor) }).marshal(t), Verdict{Reason: Probed, Advertisement: toNeighbor}},
		"multicast without options":                    {change(multicast(leased), func(f *frame) { f.options = nil }).marshal(t), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"answer goes to the sender, not to its option": {change(multicast(leased), func(f *frame) { f.options = sourceLinkLayer(stranger) }).marshal(t), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"to all nodes":                              {change(multicast(leased), func(f *frame) { f.destination, f.to = allNodes, multicastMAC(allNodes) }).marshal(t), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"padded by Ethernet":                        {bytesOf(multicast(leased), func(b []byte) []byte { return append(b, 0xaa, 0xbb, 0xcc) }), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"unknown option is skipped":                 {bytesOf(multicast(leased), message(24, 200)), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"reserved field is ignored (RFC 4861 §4.3)": {bytesOf(multicast(leased), message(4, 0xff)), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"traffic class and flow label are ignored":  {bytesOf(multicast(leased), at(14, 0x6e)), Verdict{Reason: Solicited, Advertisement: toNeighbor}},

		"RFC 4862 §5.4.3: DAD is defended":        {dad(leased).marshal(t), Verdict{Reason: Defended, Advertisement: toAll}},
		"RFC 4862 §5.4.3: DAD for a free address": {dad(unknown).marshal(t), Verdict{Reason: UnknownTarget}},
		"own DAD that came back (RFC 7527)":       {change(dad(leased), func(f *frame) { f.from = router }).marshal(t), Verdict{Reason: Own}},
		"own solicitation that came back":         {change(multicast(leased), func(f *frame) { f.from = router }).marshal(t), Verdict{Reason: Own}},

		"RFC 6583: unknown target":         {multicast(unknown).marshal(t), Verdict{Reason: UnknownTarget}},
		"unknown target, unicast":          {unicast(unknown).marshal(t), Verdict{Reason: UnknownTarget}},
		"own link-local address as target": {multicast(here.LinkLocal).marshal(t), Verdict{Reason: UnknownTarget}},

		"RFC 4861 §7.1.1: hop limit 254":            {bytesOf(multicast(leased), at(21, 254)), Verdict{Reason: BadHopLimit}},
		"RFC 4861 §7.1.1: hop limit 0":              {bytesOf(unicast(leased), at(21, 0)), Verdict{Reason: BadHopLimit}},
		"RFC 4861 §7.1.1: checksum":                 {bytesOf(multicast(leased), func(b []byte) []byte { b[56] ^= 1; return b }), Verdict{Reason: BadChecksum}},
		"RFC 4861 §7.1.1: code 1":                   {bytesOf(multicast(leased), message(1, 1)), Verdict{Reason: BadCode}},
		"RFC 4861 §7.1.1: length 23":                {bytesOf(multicast(leased), length(23)), Verdict{Reason: BadLength}},
		"RFC 4861 §7.1.1: length 8":                 {bytesOf(multicast(leased), length(8)), Verdict{Reason: BadLength}},
		"RFC 4861 §7.1.1: length 24":                {bytesOf(multicast(leased), length(24)), Verdict{Reason: Solicited, Advertisement: toNeighbor}},
		"RFC 4861 §7.1.1: multicast target":         {change(multicast(leased), func(f *frame) { f.target = allNodes }).marshal(t), Verdict{Reason: BadTarget}},
		"RFC 4861 §7.1.1: option length 0":          {bytesOf(multicast(leased), message(25, 0)), Verdict{Reason: BadOption}},
		"option longer than the message":            {bytesOf(multicast(leased), message(25, 2)), Verdict{Reason: BadOption}},
		"half an option":                            {bytesOf(multicast(leased), length(25)), Verdict{Reason: BadOption}},
		"RFC 4861 §7.1.1: :: to a unicast address":  {change(dad(leased), func(f *frame) { f.destination, f.to = leased, router }).marshal(t), Verdict{Reason: BadDestination}},
		"RFC 4861 §7.1.1: :: to all nodes":          {change(dad(leased), func(f *frame) { f.destination, f.to = allNodes, multicastMAC(allNodes) }).marshal(t), Verdict{Reason: BadDestination}},
		"RFC 4861 §7.1.1: :: with a source address": {change(dad(leased), func(f *frame) { f.options = sourceLinkLayer(neighbor) }).marshal(t), Verdict{Reason: BadDADOption}},
		"same, behind another option":               {change(dad(leased), func(f *frame) { f.options = append(f.options, sourceLinkLayer(neighbor)...) }).marshal(t), Verdict{Reason: BadDADOption}},
		"RFC 4291 §2.7: multicast source":           {change(multicast(leased), func(f *frame) { f.source = allNodes }).marshal(t), Verdict{Reason: BadSource}},
		"RFC 4291 §2.5.3: loopback source":          {change(multicast(leased), func(f *frame) { f.source = netip.IPv6Loopback() }).marshal(t), Verdict{Reason: BadSource}},
		"frame sent by a group":                     {change(multicast(leased), func(f *frame) { f.from[0] |= 1 }).marshal(t), Verdict{Reason: BadSource}},
		"RFC 6980 §5: fragment header":              {bytesOf(multicast(leased), at(20, 44)), Verdict{Reason: Fragmented}},
		"hop-by-hop options":                        {bytesOf(multicast(leased), at(20, 0)), Verdict{Reason: ExtensionHeader}},
		"destination options":                       {bytesOf(multicast(leased), at(20, 60)), Verdict{Reason: ExtensionHeader}},
		"UDP":                                       {bytesOf(multicast(leased), at(20, 17)), Verdict{Reason: NotSolicitation}},
		"advertisement of a lease":                  {bytesOf(multicast(leased), message(0, 136)), Verdict{Reason: Conflict, Rival: Rival{leased, neighbor}}},
		"another host asks under a lease":           {change(multicast(unknown), func(f *frame) { f.source = leased }).marshal(t), Verdict{Reason: Conflict, Rival: Rival{leased, neighbor}}},
		"another host asks under one for another":   {change(unicast(leased), func(f *frame) { f.source = leased }).marshal(t), Verdict{Reason: Conflict, Rival: Rival{leased, neighbor}}},
		"our question that came back by another":    {change(multicast(unknown), func(f *frame) { f.source, f.options = leased, sourceLinkLayer(router) }).marshal(t), Verdict{Reason: Looped}},
		"IPv4":                                      {bytesOf(multicast(leased), at(12, 8)), Verdict{Reason: NotSolicitation}},
		"version 4 in an IPv6 frame":                {bytesOf(multicast(leased), at(14, 4<<4)), Verdict{Reason: NotSolicitation}},
		"unicast to another station (promiscuous)":  {change(unicast(leased), func(f *frame) { f.to = stranger }).marshal(t), Verdict{Reason: OtherHost}},
		"payload length beyond the frame":           {bytesOf(multicast(leased), func(b []byte) []byte { return b[:80] }), Verdict{Reason: Truncated}},
		"payload length 0 (RFC 2675 jumbogram)":     {bytesOf(multicast(leased), func(b []byte) []byte { b[18], b[19] = 0, 0; return b }), Verdict{Reason: NotSolicitation}},
		"no room for an IPv6 header":                {bytesOf(multicast(leased), func(b []byte) []byte { return b[:53] }), Verdict{Reason: NotSolicitation}},
		"nothing":                                   {nil, Verdict{Reason: NotSolicitation}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Decide(c.frame, here, set{leased: true})
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("verdict %v (-want +got):\n%s", got.Reason, diff)
			}
		})
	}
}

// While the link has no link-local address, the answer comes from its target.
func TestDecideWithoutLinkLocal(t *testing.T) {
	v := Decide(multicast(leased).marshal(t), Station{HardwareAddr: router}, set{leased: true})
	if v.Reason != Solicited || v.Advertisement.Source != leased {
		t.Errorf("verdict %v with source %v, want %v with %v", v.Reason, v.Advertisement.Source, Solicited, leased)
	}
}

// Every target costs at most one lookup, and an invalid one none (RFC 6583).
func TestDecideLooksUpOnce(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  int
	}{
		"unknown target":     {multicast(unknown).marshal(t), 1},
		"known target":       {multicast(leased).marshal(t), 1},
		"invalid frame":      {func() []byte { b := multicast(leased).marshal(t); b[21] = 64; return b }(), 0},
		"frame of our own":   {func() []byte { b := multicast(leased).marshal(t); copy(b[6:], router[:]); return b }(), 0},
		"not a solicitation": {make([]byte, 100), 0},
		"defended":           {dad(leased).marshal(t), 1},
		"unknown, from DAD":  {dad(unknown).marshal(t), 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := &countingLeases{set: set{leased: true}}
			Decide(c.frame, here, l)
			if l.lookups != c.want {
				t.Errorf("%d lookups, want %d", l.lookups, c.want)
			}
		})
	}
}

type countingLeases struct {
	set
	lookups int
}

func (c *countingLeases) Has(addr netip.Addr) bool { c.lookups++; return c.set.Has(addr) }

func TestDecideAllocatesNothing(t *testing.T) {
	frame, out := multicast(leased).marshal(t), make([]byte, 0, FrameLen)
	var leases Table
	leases.Add(leased)
	if n := testing.AllocsPerRun(1000, func() {
		v := Decide(frame, here, &leases)
		out = v.Advertisement.AppendFrame(out[:0])
	}); n != 0 {
		t.Errorf("%v allocations for an answer, want none", n)
	}
}

// Who has an address of a prefix that is ours as a whole need not be a rival:
// routers are asked for by it, and ask under it.
func TestSourceInPrefix(t *testing.T) {
	var p Proxy
	p.prefixes.add(netip.PrefixFrom(leased, 64).Masked())
	if v := Decide(multicast(leased).marshal(t), here, &p); v.Reason != Solicited || !p.Has(host) {
		t.Errorf("a question from %v of the prefix: verdict %v, want %v", host, v.Reason, Solicited)
	}
}
