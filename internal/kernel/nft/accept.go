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
	foreignTable = firewall.ForeignTable
	forwardChain = firewall.ForwardChain
	inputChain   = firewall.InputChain
	userChain    = firewall.UserChain
)

// acceptTag is the comment of our rules in foreign chains.
const acceptTag = "v6net"

// iptablesFamilies are those that iptables and ip6tables have their tables in.
var iptablesFamilies = []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}

// acceptVouched are the expressions of
//
//	-m mark --mark 0x1000/0x1000 -m comment --comment v6net -j ACCEPT
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
// accepts what we have vouched for, by one rule; and the input chain, where a name
// server of a network's is asked. The administrator's own rules are judged before it:
// see [firewall.PlaceOurs].
func (f *Firewall) placeAccepts() {
	f.changeAllAccepts(func(family nftables.TableFamily) map[string]bool {
		asking := f.applied.Set(askingSets[family])
		return map[string]bool{forwardChain: true, inputChain: asking != nil && len(asking.Elements) > 0}
	})
}

func (f *Firewall) removeAccepts() {
	f.changeAllAccepts(func(nftables.TableFamily) map[string]bool { return nil })
}

// askingSets have an element for each name server that containers ask.
var askingSets = map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "asking4", nftables.TableFamilyIPv6: "asking6"}

// changeAllAccepts does what it can. That a table of others cannot be changed is no error
// of ours, and fails neither a container nor the removal of a network: it is logged when it
// begins, and is an obstacle where that chain refuses our packets.
func (f *Firewall) changeAllAccepts(wanted func(nftables.TableFamily) map[string]bool) {
	for _, family := range iptablesFamilies {
		err := f.changeAccepts(family, wanted(family))
		for n := 1; n < placeAttempts && errors.Is(err, os.ErrNotExist); n++ {
			err = errors.Join(drain(f.socket), f.changeAccepts(family, wanted(family)))
		}
		if err != nil {
			err = errors.Join(err, drain(f.socket))
			if f.unplaced[family] == nil {
				f.log.Warn("firewall: our rule in a foreign chain cannot be changed", "err", err)
			}
		}
		f.unplaced[family] = err
	}
}

// changeAccepts brings our rules in the chains of one family to one in each chain that
// is wanted, and none elsewhere.
func (f *Firewall) changeAccepts(family nftables.TableFamily, wanted map[string]bool) error {
	chains, err := f.foreignChains(family)
	if err != nil {
		return err
	}
	for _, name := range []string{forwardChain, inputChain, userChain} {
		rules, present := chains[name]
		gone, after := firewall.PlaceOurs(foreign(rules), wanted[name] && present, func(chain string) ([]firewall.ForeignRule, bool) {
			rules, err := rulesOf(f.socket, &nftables.Chain{Name: chain, Table: &nftables.Table{Name: foreignTable, Family: family}})
			return foreign(rules), err == nil
		})
		for _, i := range gone {
			if err := f.conn.DelRule(rules[i]); err != nil {
				return fmt.Errorf("delete rule %d of %s %s %s: %w", rules[i].Handle, familyName(family), foreignTable, name, err)
			}
		}
		if after >= 0 {
			f.insert(family, name, slices.DeleteFunc(slices.Clone(rules), tagged), after)
			f.log.Info("firewall: accepting our packets in a foreign chain", "family", familyName(family), "chain", name, "after_rules", after)
		}
	}
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("change our rule in %s %s: %w", familyName(family), foreignTable, err)
	}
	return nil
}

// insert queues our rule for a chain, after the first of the others.
func (f *Firewall) insert(family nftables.TableFamily, chain string, others []*nftables.Rule, after int) {
	t := &nftables.Table{Name: foreignTable, Family: family}
	r := &nftables.Rule{Table: t, Chain: &nftables.Chain{Name: chain, Table: t}, Exprs: acceptVouched()}
	if after == len(others) {
		f.conn.AddRule(r)
		return
	}
	r.Position = others[after].Handle
	f.conn.InsertRule(r)
}

// foreign are rules as far as it matters for the place of ours.
func foreign(rules []*nftables.Rule) (all []firewall.ForeignRule) {
	for _, r := range rules {
		is := firewall.ForeignRule{Ours: tagged(r), Vouched: acceptsVouched(r), Ends: refusesAll(r) || logs(r)}
		for _, e := range r.Exprs {
			if v, ok := e.(*expr.Verdict); ok && v.Kind == expr.VerdictJump {
				is.To, is.All = v.Chain, len(essence(r)) == 1
			}
		}
		all = append(all, is)
	}
	return all
}

// logs reports whether a rule logs packets, and does nothing else with them.
func logs(r *nftables.Rule) bool {
	exprs := essence(r)
	if len(exprs) == 0 {
		return false
	}
	switch e := exprs[len(exprs)-1].(type) {
	case *expr.Target:
		return e.Name == "LOG" || e.Name == "NFLOG"
	case *expr.Log:
		return true
	default:
		return false
	}
}

// foreignChains are the rules of the chains that matter, by the chain's name.
// Earlier versions had our rule in Docker's.
type foreignChains map[string][]*nftables.Rule

func (f *Firewall) foreignChains(family nftables.TableFamily) (foreignChains, error) {
	chains, err := f.conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list the chains of %s: %w", familyName(family), err)
	}
	found := foreignChains{}
	for _, c := range chains {
		if c.Table.Name != foreignTable || c.Name != forwardChain && c.Name != inputChain && c.Name != userChain {
			continue
		}
		if found[c.Name], err = rulesOf(f.socket, c); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// refusesAll reports whether a rule drops or rejects every packet.
func refusesAll(r *nftables.Rule) bool {
	exprs := essence(r)
	if len(exprs) != 1 {
		return false
	}
	switch e := exprs[0].(type) {
	case *expr.Verdict:
		return e.Kind == expr.VerdictDrop
	case *expr.Target:
		return e.Name == "REJECT"
	case *expr.Reject:
		return true
	default:
		return false
	}
}

// essence is a rule without what neither judges a packet nor decides on it.
func essence(r *nftables.Rule) []expr.Any {
	return slices.DeleteFunc(slices.Clone(r.Exprs), func(e expr.Any) bool {
		switch e := e.(type) {
		case *expr.Counter:
			return true
		case *expr.Match:
			return e.Name == "comment"
		default:
			return false
		}
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
	exprs := essence(r)
	last := len(exprs) - 1
	if last < 0 {
		return false
	}
	verdict, ok := exprs[last].(*expr.Verdict)
	return ok && verdict.Kind == expr.VerdictAccept && matchesMark(exprs[:last])
}

// matchesMark knows both forms of --mark 0x1000/0x1000.
func matchesMark(exprs []expr.Any) bool {
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
			load.Key == expr.MetaKeyMARK && !load.SourceRegister && acceptsMark(mask, compare)
	default:
		return false
	}
}

// acceptsMark is both forms in which nft has the mark compared.
func acceptsMark(mask *expr.Bitwise, compare *expr.Cmp) bool {
	bit := binaryutil.NativeEndian.PutUint32(firewall.VouchMark)
	if string(mask.Mask) != string(bit) || string(mask.Xor) != "\x00\x00\x00\x00" {
		return false
	}
	return compare.Op == expr.CmpOpEq && string(compare.Data) == string(bit) ||
		compare.Op == expr.CmpOpNeq && string(compare.Data) == "\x00\x00\x00\x00"
}

func familyName(family nftables.TableFamily) string {
	if family == nftables.TableFamilyIPv4 {
		return "ip"
	}
	return "ip6"
}
