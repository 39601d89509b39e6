package nft

import (
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// NFT_META_IIFKIND and its like of include/uapi/linux/netfilter/nf_tables.h.
const (
	nftMetaIIFKind expr.MetaKey = 26
	nftMetaOIFKind expr.MetaKey = 27
)

// key is something of a packet that a rule can look at.
type key struct {
	name    string
	size    int    // bytes
	nfproto byte   // address family that a packet must have first; 0: any
	l4proto byte   // likewise for the transport protocol
	mask    []byte // the bits that are the key's; nil: all
	load    func(register uint32) expr.Any
}

var keys = []key{
	{name: "iifname", size: unix.IFNAMSIZ, load: meta(expr.MetaKeyIIFNAME)},
	{name: "oifname", size: unix.IFNAMSIZ, load: meta(expr.MetaKeyOIFNAME)},
	{name: "meta iifkind", size: unix.IFNAMSIZ, load: meta(nftMetaIIFKind)},
	{name: "meta oifkind", size: unix.IFNAMSIZ, load: meta(nftMetaOIFKind)},
	{name: "meta l4proto", size: 1, load: meta(expr.MetaKeyL4PROTO)},
	{name: "th dport", size: 2, load: payload(expr.PayloadBaseTransportHeader, 2, 2)},
	{name: "icmpv6 type", size: 1, nfproto: unix.NFPROTO_IPV6, l4proto: unix.IPPROTO_ICMPV6, load: payload(expr.PayloadBaseTransportHeader, 0, 1)},
	{name: "ip saddr", size: 4, nfproto: unix.NFPROTO_IPV4, load: payload(expr.PayloadBaseNetworkHeader, 12, 4)},
	{name: "ip daddr", size: 4, nfproto: unix.NFPROTO_IPV4, load: payload(expr.PayloadBaseNetworkHeader, 16, 4)},
	{name: "ip6 saddr", size: 16, nfproto: unix.NFPROTO_IPV6, load: payload(expr.PayloadBaseNetworkHeader, 8, 16)},
	{name: "ip6 hoplimit", size: 1, nfproto: unix.NFPROTO_IPV6, load: payload(expr.PayloadBaseNetworkHeader, 7, 1)},
	{name: "ip6 daddr", size: 16, nfproto: unix.NFPROTO_IPV6, load: payload(expr.PayloadBaseNetworkHeader, 24, 16)},
	{name: "meta mark", size: 4, load: meta(expr.MetaKeyMARK)},
	{name: "meta nfproto", size: 1, load: meta(expr.MetaKeyNFPROTO)},
	{name: "meta protocol", size: 2, load: meta(expr.MetaKeyPROTOCOL)},
	{name: "ether saddr", size: 6, load: payload(expr.PayloadBaseLLHeader, 6, 6)},
	{name: "arp operation", size: 2, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 6, 2)},
	{name: "arp saddr ether", size: 6, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 8, 6)},
	{name: "arp saddr ip", size: 4, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 14, 4)},
	{name: "arp daddr ip", size: 4, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 24, 4)},
	{name: "icmp type", size: 1, nfproto: unix.NFPROTO_IPV4, l4proto: unix.IPPROTO_ICMP, load: payload(expr.PayloadBaseTransportHeader, 0, 1)},
	{name: "udp dport", size: 2, l4proto: unix.IPPROTO_UDP, load: payload(expr.PayloadBaseTransportHeader, 2, 2)},
	{name: "ip frag-off", size: 2, nfproto: unix.NFPROTO_IPV4, load: payload(expr.PayloadBaseNetworkHeader, 6, 2)},
	{name: "frag frag-off", size: 2, nfproto: unix.NFPROTO_IPV6, mask: []byte{0xff, 0xf8}, load: func(register uint32) expr.Any {
		return &expr.Exthdr{DestRegister: register, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
	}},
	// Of the packet that an error is about: source and destination.
	{name: "@th,128,128", size: 16, load: payload(expr.PayloadBaseTransportHeader, 16, 16)},
	{name: "@th,256,128", size: 16, load: payload(expr.PayloadBaseTransportHeader, 32, 16)},
	// Of a neighbor solicitation or advertisement: the target, and parts of it.
	{name: "@th,64,128", size: 16, load: payload(expr.PayloadBaseTransportHeader, 8, 16)},
	{name: "@th,64,80", size: 10, load: payload(expr.PayloadBaseTransportHeader, 8, 10)},
	{name: "@th,64,64", size: 8, load: payload(expr.PayloadBaseTransportHeader, 8, 8)},
	{name: "@th,152,16", size: 2, load: payload(expr.PayloadBaseTransportHeader, 19, 2)},
	{name: "ct state", size: 4, load: conntrack(expr.CtKeySTATE)},
	{name: "ct status", size: 4, load: conntrack(expr.CtKeySTATUS)},
	{name: "fib daddr type", size: 4, load: func(register uint32) expr.Any {
		return &expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true}
	}},
}

func meta(k expr.MetaKey) func(uint32) expr.Any {
	return func(register uint32) expr.Any { return &expr.Meta{Key: k, Register: register} }
}

func conntrack(k expr.CtKey) func(uint32) expr.Any {
	return func(register uint32) expr.Any { return &expr.Ct{Key: k, Register: register} }
}

func payload(base expr.PayloadBase, offset, size uint32) func(uint32) expr.Any {
	return func(register uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: size}
	}
}

// parseOperand reads what a key is compared with.
func parseOperand(k key, value string) ([]byte, error) {
	switch k.name {
	case "iifname", "oifname", "meta iifkind", "meta oifkind":
		if name := strings.Trim(value, `"`); len(name)+2 == len(value) && name != "" {
			return padded(name, k.size), nil
		}
		return nil, fmt.Errorf("%q is no name in quotes", value)
	case "fib daddr type":
		if value == "local" {
			return binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL), nil
		}
		return nil, fmt.Errorf("%q is no address type", value)
	case "meta nfproto":
		if family, ok := map[string]byte{"ipv4": unix.NFPROTO_IPV4, "ipv6": unix.NFPROTO_IPV6}[value]; ok {
			return []byte{family}, nil
		}
		return nil, fmt.Errorf("%q is no protocol of packets", value)
	case "meta l4proto":
		return datatypes["inet_proto"].parse(value)
	case "meta protocol":
		if family, ok := map[string]byte{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "arp": unix.NFPROTO_ARP}[value]; ok {
			return etherTypes[family], nil
		}
		return nil, fmt.Errorf("%q is no protocol of frames", value)
	case "arp operation":
		if value == "request" {
			return bigEndian16(arpRequest), nil
		}
		return nil, fmt.Errorf("%q is no ARP operation", value)
	case "icmpv6 type":
		return datatypes["icmpv6_type"].parse(value)
	case "icmp type":
		return datatypes["icmp_type"].parse(value)
	case "ip6 saddr", "ip6 daddr":
		if a, err := netip.ParseAddr(value); err == nil && a.Is6() {
			return a.AsSlice(), nil
		}
		return nil, fmt.Errorf("%q is no IPv6 address", value)
	case "meta mark":
		n, err := strconv.ParseUint(value, 0, 32)
		return binaryutil.NativeEndian.PutUint32(uint32(n)), err
	case "udp dport":
		return parsePort(value)
	case "ip6 hoplimit", "ip frag-off", "frag frag-off", "@th,64,128", "@th,64,80", "@th,64,64", "@th,152,16":
		n, ok := new(big.Int).SetString(value, 0)
		if !ok || n.Sign() < 0 || n.BitLen() > 8*k.size {
			return nil, fmt.Errorf("%q is no number of %d bits", value, 8*k.size)
		}
		return n.FillBytes(make([]byte, k.size)), nil
	}
	return nil, fmt.Errorf("%s is not compared with values here", k.name)
}

// arpRequest is ares_op$REQUEST of RFC 826.
const arpRequest = 1

// etherTypes are those of protocols (include/uapi/linux/if_ether.h).
var etherTypes = map[byte][]byte{
	unix.NFPROTO_IPV4: bigEndian16(unix.ETH_P_IP),
	unix.NFPROTO_IPV6: bigEndian16(unix.ETH_P_IPV6),
	unix.NFPROTO_ARP:  bigEndian16(unix.ETH_P_ARP),
}

// bits are the names of flags that `ct state` and `ct status` are compared with
// (include/uapi/linux/netfilter/nf_conntrack_common.h).
var bits = map[string]uint32{
	"invalid":     expr.CtStateBitINVALID,
	"established": expr.CtStateBitESTABLISHED,
	"related":     expr.CtStateBitRELATED,
	"dnat":        1 << 5, // IPS_DST_NAT
}
