package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// opaque is an expression that we do not read: it may match, and do, anything.
// Others have rules of every kind, and the library knows some of them, of which it cannot
// read all (`ct original` is one).
type opaque struct{ expr.Any }

// readable are the expressions that tell us something, by their names (struct
// nft_expr_ops of the kernel's net/netfilter).
var readable = map[string]func() expr.Any{
	"bitwise":   func() expr.Any { return &expr.Bitwise{} },
	"cmp":       func() expr.Any { return &expr.Cmp{} },
	"counter":   func() expr.Any { return &expr.Counter{} },
	"ct":        func() expr.Any { return &expr.Ct{} },
	"fib":       func() expr.Any { return &expr.Fib{} },
	"immediate": func() expr.Any { return &expr.Immediate{} },
	"log":       func() expr.Any { return &expr.Log{} },
	"lookup":    func() expr.Any { return &expr.Lookup{} },
	"match":     func() expr.Any { return &expr.Match{} },
	"meta":      func() expr.Any { return &expr.Meta{} },
	"payload":   func() expr.Any { return &expr.Payload{} },
	"reject":    func() expr.Any { return &expr.Reject{} },
	"target":    func() expr.Any { return &expr.Target{} },
}

// rulesOf reads the rules of somebody else's chain. None that the kernel has is an
// error: what of it cannot be read is [opaque].
func rulesOf(socket *netlink.Conn, c *nftables.Chain) ([]*nftables.Rule, error) {
	names, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(c.Table.Name + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(c.Name + "\x00")},
	})
	if err != nil {
		return nil, fmt.Errorf("ask for chain %s: %w", chainName(c), err)
	}
	msgs, err := socket.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(c.Table.Family), unix.NFNETLINK_V0, 0, 0}, names...), // struct nfgenmsg
	})
	if err != nil {
		return nil, fmt.Errorf("read chain %s: %w", chainName(c), err)
	}
	rules := make([]*nftables.Rule, 0, len(msgs))
	for _, m := range msgs {
		r := &nftables.Rule{Table: c.Table, Chain: &nftables.Chain{Name: c.Name, Table: c.Table}}
		if err := decodeRule(r, m.Data); err != nil {
			return nil, fmt.Errorf("read a rule of chain %s: %w", chainName(c), err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// attributes of a message or an attribute, in network byte order.
func attributes(data []byte) (*netlink.AttributeDecoder, error) {
	a, err := netlink.NewAttributeDecoder(data)
	if err == nil {
		a.ByteOrder = binary.BigEndian
	}
	return a, err
}

func decodeRule(r *nftables.Rule, data []byte) error {
	const familyBytes = 4 // struct nfgenmsg
	if len(data) < familyBytes {
		return fmt.Errorf("%d bytes are no rule", len(data))
	}
	a, err := attributes(data[familyBytes:])
	if err != nil {
		return err
	}
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_RULE_HANDLE:
			r.Handle = a.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			a.Do(func(list []byte) error {
				each, err := attributes(list)
				if err != nil {
					return err
				}
				for each.Next() {
					r.Exprs = append(r.Exprs, decodeExpr(byte(r.Table.Family), each.Bytes()))
				}
				return each.Err()
			})
		}
	}
	return a.Err()
}

func decodeExpr(family byte, data []byte) expr.Any {
	a, err := attributes(data)
	if err != nil {
		return opaque{}
	}
	var name string
	var body []byte
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_EXPR_NAME:
			name = a.String()
		case unix.NFTA_EXPR_DATA:
			body = a.Bytes()
		}
	}
	make, known := readable[name]
	if !known || a.Err() != nil {
		return opaque{}
	}
	e := make()
	if expr.Unmarshal(family, body, e) != nil {
		return opaque{}
	}
	if i, ok := e.(*expr.Immediate); ok && i.Register == unix.NFT_REG_VERDICT {
		e = &expr.Verdict{}
		if expr.Unmarshal(family, body, e) != nil {
			return opaque{}
		}
	}
	return e
}
