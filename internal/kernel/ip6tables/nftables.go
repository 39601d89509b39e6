package ip6tables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernelTables asks nftables, where iptables-nft keeps its tables, what iptables-nft
// cannot say. Where the kernel has no nftables there is nothing.
type kernelTables struct{ conn *netlink.Conn }

// nfproto are the families as nftables has them.
var nfproto = map[family]uint8{ip4: unix.NFPROTO_IPV4, ip6: unix.NFPROTO_IPV6}

// openKernelTables asks in the network namespace of the calling thread.
func openKernelTables() (*kernelTables, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	return &kernelTables{conn}, nil
}

func (k *kernelTables) close() error { return k.conn.Close() }

// ask sends a message about a family, with strings as attributes.
func (k *kernelTables) ask(kind uint16, flags netlink.HeaderFlags, family uint8, attributes map[uint16]string) ([]netlink.Message, error) {
	e := netlink.NewAttributeEncoder()
	for attribute, text := range attributes {
		e.String(attribute, text)
	}
	about, err := e.Encode()
	if err != nil {
		return nil, err
	}
	return k.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, about...), // struct nfgenmsg
	})
}

// generation counts the changes of all of nftables; none: it cannot be told.
func (k *kernelTables) generation() (n uint32, ok bool) {
	msgs, err := k.ask(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil)
	if err != nil || len(msgs) != 1 || len(msgs[0].Data) < 4 {
		return 0, false
	}
	attributes, err := netlink.NewAttributeDecoder(msgs[0].Data[4:])
	if err != nil {
		return 0, false
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			n, ok = attributes.Uint32(), true
		}
	}
	return n, ok && attributes.Err() == nil
}

// has reports whether a table has a chain.
func (k *kernelTables) has(f family, table, chain string) bool {
	msgs, err := k.ask(unix.NFT_MSG_GETCHAIN, 0, nfproto[f], map[uint16]string{unix.NFTA_CHAIN_TABLE: table, unix.NFTA_CHAIN_NAME: chain})
	return err == nil && len(msgs) > 0
}

// hasOurs reports whether any table of a family has a chain of ours. Without one there is no
// jump to one either.
func (k *kernelTables) hasOurs(f family) (bool, error) {
	msgs, err := k.ask(unix.NFT_MSG_GETCHAIN, netlink.Dump, nfproto[f], nil)
	if err != nil {
		return false, fmt.Errorf("list the chains of %s: %w", names[f], err)
	}
	for _, m := range msgs {
		attributes, err := netlink.NewAttributeDecoder(m.Data[min(4, len(m.Data)):])
		if err != nil {
			return false, fmt.Errorf("read a chain of %s: %w", names[f], err)
		}
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_CHAIN_NAME && strings.HasPrefix(attributes.String(), prefix) {
				return true, nil
			}
		}
	}
	return false, nil
}

// tagged is the number of the first rule of a chain with our comment, as iptables counts
// them; 0: there is none. It is found among rules that iptables-nft cannot read.
func (k *kernelTables) tagged(f family, table, chain string) int {
	msgs, err := k.ask(unix.NFT_MSG_GETRULE, netlink.Dump, nfproto[f], map[uint16]string{unix.NFTA_RULE_TABLE: table, unix.NFTA_RULE_CHAIN: chain})
	if err != nil {
		return 0
	}
	for i, m := range msgs {
		if bytes.Contains(m.Data, []byte("\x00comment\x00")) && bytes.Contains(m.Data, []byte("\x00"+tag+"\x00")) {
			return i + 1
		}
	}
	return 0
}
