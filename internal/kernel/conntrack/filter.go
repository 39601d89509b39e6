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
	src      netip.Addr // where it comes from, of IPv4; zero: anywhere
	protocol uint8      // with a port
	from, to uint16     // ports, 0: any
	is6      bool
}

// answeredBy and askedBy are all connections to and from an address. Nothing leads on
// from a container's address to another, nor does the host have it: so whoever is called
// there is who answers. Of IPv6 they are all there are: Linux answers who asks for an
// IPv6 address with what has any other (net/netfilter/nf_conntrack_netlink.c,
// ctnetlink_filter_match_tuple, 5.8 up to 6.18 at least).
func answeredBy(a netip.Addr) filter { return between(filter{reply: true}, a) }
func askedBy(a netip.Addr) filter    { return between(filter{}, a) }

func between(f filter, a netip.Addr) filter {
	if a.Is6() {
		return filter{is6: true}
	}
	f.src = a
	return f
}

// askedAt are the connections to a port, and answeredAt those that are answered from it,
// whatever the address.
func askedAt(s service) filter {
	return filter{protocol: s.protocol, to: s.at.Port(), is6: s.at.Addr().Is6()}
}
func answeredAt(s service) filter {
	return filter{reply: true, protocol: s.protocol, from: s.at.Port(), is6: s.at.Addr().Is6()}
}

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
	filterFrom     = 1 << 4
	filterTo       = 1 << 5
)

// request is the body of the message that asks for what the filter passes.
func (f filter) request() []byte {
	kind, family := nl.CTA_TUPLE_ORIG, byte(unix.AF_INET)
	if f.reply {
		kind = nl.CTA_TUPLE_REPLY
	}
	if f.is6 {
		family = unix.AF_INET6
	}
	var flags uint32
	var tuple []byte
	if f.src.IsValid() {
		flags |= filterSource
		tuple = append(tuple, nested(nl.CTA_TUPLE_IP, attribute(nl.CTA_IP_V4_SRC, f.src.AsSlice()))...)
	}
	if f.protocol != 0 {
		flags |= filterProtocol
		ports := attribute(nl.CTA_PROTO_NUM, []byte{f.protocol})
		if f.from != 0 {
			flags |= filterFrom
			ports = append(ports, attribute(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, f.from))...)
		}
		if f.to != 0 {
			flags |= filterTo
			ports = append(ports, attribute(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, f.to))...)
		}
		tuple = append(tuple, nested(nl.CTA_TUPLE_PROTO, ports)...)
	}
	if flags == 0 {
		return []byte{family, 0, 0, 0}
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
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, uint16(kind)), value...)
	return append(b, make([]byte, -len(b)&(unix.NLA_ALIGNTO-1))...)
}

func nested(kind int, parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return attribute(kind|unix.NLA_F_NESTED, all)
}
