package nft

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// concatenation joins types, and the parts of a key or value.
const concatenation = " . "

// datatype is one of nft's types, and how text becomes a value of it.
type datatype struct {
	nft   nftables.SetDatatype
	parse func(string) ([]byte, error)
}

var datatypes = map[string]datatype{
	"ifname":     {nftables.TypeIFName, parseLink},
	"ipv4_addr":  {nftables.TypeIPAddr, parseAddr},
	"ipv6_addr":  {nftables.TypeIP6Addr, parseAddr},
	"ether_addr": {nftables.TypeEtherAddr, func(s string) ([]byte, error) { return net.ParseMAC(s) }},
	"inet_proto": {nftables.TypeInetProto, parseName(map[string]byte{
		"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP, "icmp": unix.IPPROTO_ICMP, "ipv6-icmp": unix.IPPROTO_ICMPV6})},
	"inet_service": {nftables.TypeInetService, parsePort},
	"icmpv6_type":  {nftables.TypeICMP6Type, parseName(firewall.ICMPv6Types)},
	"icmp_type":    {nftables.TypeICMPType, parseName(firewall.ICMPTypes)},
}

// parseType reads a type such as "ipv4_addr . inet_service".
func parseType(text string) (nftables.SetDatatype, error) {
	var parts []nftables.SetDatatype
	for name := range strings.SplitSeq(text, concatenation) {
		t, ok := datatypes[name]
		if !ok {
			return nftables.SetDatatype{}, fmt.Errorf("no type %q", name)
		}
		parts = append(parts, t.nft)
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return nftables.ConcatSetType(parts...)
}

// parseValue reads a value of a type. The parts of a concatenation each fill
// whole registers.
func parseValue(typ, text string) ([]byte, error) {
	types, parts := strings.Split(typ, concatenation), strings.Split(text, concatenation)
	if len(types) != len(parts) {
		return nil, fmt.Errorf("%q is not of type %s", text, typ)
	}
	var out []byte
	for i, part := range parts {
		t := datatypes[types[i]]
		value, err := t.parse(part)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		if len(value) != int(t.nft.Bytes) {
			return nil, fmt.Errorf("%q is not of type %s", part, types[i])
		}
		out = append(out, value...)
		if len(parts) > 1 {
			out = append(out, make([]byte, 4*registers(len(value))-len(value))...)
		}
	}
	return out, nil
}

// encodeElements turns elements of a set into the kernel's.
func encodeElements(set firewall.Set, elements []firewall.Element) ([]nftables.SetElement, error) {
	out := make([]nftables.SetElement, 0, len(elements))
	for _, e := range elements {
		if set.Interval {
			interval, err := encodeInterval(e.Key)
			if err != nil {
				return nil, fmt.Errorf("set %s: %w", set.Name, err)
			}
			if set.Value != "" {
				if interval[0].Val, err = parseValue(set.Value, e.Value); err != nil {
					return nil, fmt.Errorf("map %s: %w", set.Name, err)
				}
			}
			out = append(out, interval...)
			continue
		}
		var encoded nftables.SetElement
		var err error
		if encoded.Key, err = parseValue(set.Key, e.Key); err != nil {
			return nil, fmt.Errorf("set %s: %w", set.Name, err)
		}
		if set.Value != "" {
			if encoded.Val, err = parseValue(set.Value, e.Value); err != nil {
				return nil, fmt.Errorf("map %s: %w", set.Name, err)
			}
		}
		out = append(out, encoded)
	}
	return out, nil
}

// encodeInterval is a prefix as the kernel keeps it: its first address, and the
// first one after it unless there is none.
func encodeInterval(text string) ([]nftables.SetElement, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, err
	}
	first := prefix.Masked().Addr()
	out := []nftables.SetElement{{Key: first.AsSlice()}}
	last := first.AsSlice()
	for i := prefix.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	if end, _ := netip.AddrFromSlice(last); end.Next().IsValid() {
		out = append(out, nftables.SetElement{Key: end.Next().AsSlice(), IntervalEnd: true})
	}
	return out, nil
}

func parseLink(s string) ([]byte, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`)
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("%q is no name of an interface", name)
	}
	return padded(name, unix.IFNAMSIZ), nil
}

func parseAddr(s string) ([]byte, error) {
	a, err := netip.ParseAddr(s)
	return a.AsSlice(), err
}

func parsePort(s string) ([]byte, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return bigEndian16(uint16(n)), err
}

func parseName(values map[string]byte) func(string) ([]byte, error) {
	return func(s string) ([]byte, error) {
		v, ok := values[s]
		if !ok {
			return nil, fmt.Errorf("%q is not known", s)
		}
		return []byte{v}, nil
	}
}
