package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// filter has the kernel choose what it answers, since Linux 5.8. An older one answers
// with all of the family: so what comes is looked at again.
type filter struct {
	reply    bool       // of the direction of the answers
	src      netip.Addr // where it comes from; zero: anywhere
	protocol uint8      // with port: where it goes
	port     uint16
	is6      bool
}

// answeredBy and askedBy are all connections to and from an address. Nothing leads on
// from a container's address to another, nor does the host have it: so whoever is called
// there is who answers.
func answeredBy(a netip.Addr) filter { return filter{reply: true, src: a, is6: a.Is6()} }
func askedBy(a netip.Addr) filter    { return filter{src: a, is6: a.Is6()} }

// maxFilters is for how many the table is walked anew in the kernel; for more all of it
// is read once.
const maxFilters = 8

// What of CTA_FILTER is in no header yet that we have
// (include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c).
const (
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2

	filterSource   = 1 << 0
	filterProtocol = 1 << 3
	filterPort     = 1 << 5
)

// request is the body of the message that asks for what the filter passes.
func (f filter) request() []byte {
	kind, source, family := nl.CTA_TUPLE_ORIG, nl.CTA_IP_V4_SRC, byte(unix.AF_INET)
	if f.reply {
		kind = nl.CTA_TUPLE_REPLY
	}
	if f.is6 {
		source, family = nl.CTA_IP_V6_SRC, unix.AF_INET6
	}
	var flags uint32
	var tuple []byte
	if f.src.IsValid() {
		flags |= filterSource
		tuple = append(tuple, nested(nl.CTA_TUPLE_IP, attribute(source, f.src.AsSlice()))...)
	}
	if f.port != 0 {
		flags |= filterProtocol | filterPort
		tuple = append(tuple, nested(nl.CTA_TUPLE_PROTO, attribute(nl.CTA_PROTO_NUM, []byte{f.protocol}),
			attribute(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, f.port)))...)
	}
	var both [2]uint32
	if f.reply {
		both[1] = flags
	} else {
		both[0] = flags
	}
	body := append([]byte{family, 0, 0, 0}, nested(kind, tuple)...)
	return append(body, nested(ctaFilter,
		attribute(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, both[0])),
		attribute(ctaFilterReplyFlags, binary.NativeEndian.AppendUint32(nil, both[1])))...)
}

// attribute is a netlink attribute, padded.
func attribute(kind int, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(attrBytes+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, uint16(kind)), value...)
	return append(b, make([]byte, -len(b)&(attrBytes-1))...)
}

func nested(kind int, parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return attribute(kind|unix.NLA_F_NESTED, all)
}
