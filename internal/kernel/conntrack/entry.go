package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"

	"github.com/v6net/v6net/internal/kernel/nlattr"
)

// entry is a tracked connection. Where nothing is translated, reply is original
// turned round.
type entry struct {
	protocol        uint8
	original, reply tuple
}

// tuple is one direction of a connection. Ports are 0 where a protocol has none.
type tuple struct{ src, dst netip.AddrPort }

func (e entry) String() string {
	return fmt.Sprintf("%s > %s, answered %s > %s (protocol %d)", e.original.src, e.original.dst, e.reply.src, e.reply.dst, e.protocol)
}

const nfgenBytes = 4 // struct nfgenmsg

// parse reads an entry from a message of ctnetlink (enum ctattr_type of
// include/uapi/linux/netfilter/nfnetlink_conntrack.h). It allocates nothing:
// tables of 100,000 entries are common.
func parse(message []byte) (e entry, ok bool) {
	if len(message) < nfgenBytes {
		return entry{}, false
	}
	for kind, value := range nlattr.All(message[nfgenBytes:]) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			e.original, e.protocol = parseTuple(value)
		case nl.CTA_TUPLE_REPLY:
			e.reply, _ = parseTuple(value)
		}
	}
	return e, e.original.src.IsValid() && e.original.dst.IsValid() && e.reply.src.IsValid() && e.reply.dst.IsValid()
}

func parseTuple(b []byte) (t tuple, protocol uint8) {
	var src, dst netip.Addr
	var sport, dport uint16
	for kind, value := range nlattr.All(b) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			for kind, value := range nlattr.All(value) {
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					src, _ = netip.AddrFromSlice(value)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					dst, _ = netip.AddrFromSlice(value)
				}
			}
		case nl.CTA_TUPLE_PROTO:
			for kind, value := range nlattr.All(value) {
				switch {
				case kind == nl.CTA_PROTO_NUM && len(value) == 1:
					protocol = value[0]
				case kind == nl.CTA_PROTO_SRC_PORT && len(value) == 2:
					sport = binary.BigEndian.Uint16(value)
				case kind == nl.CTA_PROTO_DST_PORT && len(value) == 2:
					dport = binary.BigEndian.Uint16(value)
				}
			}
		}
	}
	return tuple{netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}, protocol
}
