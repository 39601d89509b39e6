package nft

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"github.com/v6net/v6net/internal/firewall"
)

// The chains of iptables-nft's table that may drop what we have accepted.
const (
	foreignTable = "filter"
	forwardChain = "FORWARD"
	userChain    = "DOCKER-USER" // where Docker wants rules of others, and never touches them
)

// acceptTag is the comment of our rules in foreign chains.
const acceptTag = "v6net"

// iptablesFamilies are those that iptables and ip6tables have their tables in.
var iptablesFamilies = []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}

// acceptVouched are the expressions of
//
//	-m mark --mark 0x10000000/0x10000000 -m comment --comment v6net -j ACCEPT
//
// with the xtables match, which every iptables-nft can read. The native form of
// `-m mark` came with 1.8.8: an older one shows such a rule without its match,
// and would save and restore it as one that accepts everything.
func acceptVouched() []expr.Any {
	info := xt.Unknown(markInfo())
	comment := xt.Comment(acceptTag)
	return []expr.Any{
		&expr.Match{Name: "mark", Rev: 1, Info: &info},
		&expr.Match{Name: "comment", Info: &comment},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// markInfo is struct xt_mark_mtinfo1 of include/uapi/linux/netfilter/xt_mark.h:
// mark, mask, invert, and padding to 8 bytes.
func markInfo() []byte {
	bit := binaryutil.NativeEndian.PutUint32(firewall.VouchMark)
	return slices.Concat(bit, bit, make([]byte, 8))
}

// placeAttempts bounds how often our rule is placed anew because its chain or
// itself vanished meanwhile.
const placeAttempts = 3

// placeAccepts makes sure that each family's forward chain, where there is one,
// accepts what we have vouched for: by one rule, at the top of Docker's chain
// for such rules, or else of the forward chain itself.
func (f *Firewall) placeAccepts() error { return f.changeAllAccepts(true) }

func (f *Firewall) removeAccepts() error { return f.changeAllAccepts(false) }

func (f *Firewall) changeAllAccepts(wanted bool) error {
	var errs error
	for _, family := range iptablesFamilies {
		err := f.changeAccepts(family, wanted)
		for n := 1; n < placeAttempts && errors.Is(err, os.ErrNotExist); n++ {
			err = errors.Join(drain(f.socket), f.changeAccepts(family, wanted))
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

// changeAccepts brings our rules in the chains of one family to one, or none.
func (f *Firewall) changeAccepts(family nftables.TableFamily, wanted bool) error {
	chains, err := f.foreignChains(family)
	if err != nil {
		return fmt.Errorf("read table %s %s: %w", familyName(family), foreignTable, err)
	}
	target := chains.target()
	for name, rules := range chains {
		for _, r := range rules {
			switch {
			case wanted && name == target && acceptsVouched(r):
				wanted = false // there, by whoever
			case tagged(r):
				if err := f.conn.DelRule(r); err != nil {
					return fmt.Errorf("delete rule %d of %s %s %s: %w", r.Handle, familyName(family), foreignTable, name, err)
				}
			}
		}
	}
	if wanted && target != "" {
		t := &nftables.Table{Name: foreignTable, Family: family}
		f.conn.InsertRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: target, Table: t}, Exprs: acceptVouched()})
		f.log.Info("firewall: accepting our packets in a foreign chain", "family", familyName(family), "chain", target)
	}
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("change our rule in %s %s: %w", familyName(family), foreignTable, err)
	}
	return nil
}

// foreignChains are the rules of the chains that matter, by the chain's name.
type foreignChains map[string][]*nftables.Rule

func (f *Firewall) foreignChains(family nftables.TableFamily) (foreignChains, error) {
	chains, err := f.conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, err
	}
	found := foreignChains{}
	for _, c := range chains {
		if c.Table.Name != foreignTable || c.Name != forwardChain && c.Name != userChain {
			continue
		}
		if found[c.Name], err = f.conn.GetRules(c.Table, c); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// target is the chain to hold our rule: Docker's for such rules if packets get
// there. Empty: nothing can drop them.
func (c foreignChains) target() string {
	forward, present := c[forwardChain]
	switch {
	case !present:
		return ""
	case slices.ContainsFunc(forward, leadsToUserChain):
		return userChain
	default:
		return forwardChain
	}
}

func leadsToUserChain(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && v.Kind == expr.VerdictJump && v.Chain == userChain
	})
}

// tagged reports whether a rule carries our comment, and hence is ours.
func tagged(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		m, ok := e.(*expr.Match)
		if !ok {
			return false
		}
		comment, ok := m.Info.(*xt.Comment)
		return ok && *comment == acceptTag
	})
}

// acceptsVouched reports whether a rule accepts all that carries our mark: ours,
// or the same one as iptables writes it, after a restore of saved rules perhaps.
func acceptsVouched(r *nftables.Rule) bool {
	var conditions []expr.Any
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter:
		case *expr.Match:
			if e.Name != "comment" {
				conditions = append(conditions, e)
			}
		default:
			conditions = append(conditions, e)
		}
	}
	last := len(conditions) - 1
	if last < 0 {
		return false
	}
	verdict, ok := conditions[last].(*expr.Verdict)
	return ok && verdict.Kind == expr.VerdictAccept && matchesMark(conditions[:last])
}

// matchesMark knows both forms of --mark 0x10000000/0x10000000.
func matchesMark(exprs []expr.Any) bool {
	bit := binaryutil.NativeEndian.PutUint32(firewall.VouchMark)
	switch len(exprs) {
	case 1:
		m, ok := exprs[0].(*expr.Match)
		if !ok || m.Name != "mark" || m.Rev != 1 {
			return false
		}
		info, ok := m.Info.(*xt.Unknown)
		return ok && bytes.Equal(*info, markInfo())
	case 3:
		load, isMeta := exprs[0].(*expr.Meta)
		mask, isBitwise := exprs[1].(*expr.Bitwise)
		compare, isCmp := exprs[2].(*expr.Cmp)
		return isMeta && isBitwise && isCmp &&
			load.Key == expr.MetaKeyMARK && !load.SourceRegister &&
			bytes.Equal(mask.Mask, bit) && bytes.Equal(mask.Xor, make([]byte, 4)) &&
			compare.Op == expr.CmpOpEq && bytes.Equal(compare.Data, bit)
	default:
		return false
	}
}

func familyName(family nftables.TableFamily) string {
	if family == nftables.TableFamilyIPv4 {
		return "ip"
	}
	return "ip6"
}
