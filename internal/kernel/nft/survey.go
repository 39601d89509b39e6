package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/ip6tables"
	"github.com/v6net/v6net/internal/spec"
)

// Survey is what filters a host has, v6net's own left aside.
type Survey struct {
	Ours        bool // v6net's own are in place
	Forward     []ForwardChain
	ReversePath []string // chains with a strict reverse path filter, as nft names them
	Legacy      []string // families of which iptables-legacy filters
}

// ForwardChain is another's base chain at the forward hook.
type ForwardChain struct {
	Family, Table, Name string
	Refuses             bool // what we have vouched for
	Jumps               bool // it has other chains decide before
}

var surveyed = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: firewall.FamilyInet, nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}

// Look reads the filters of the calling thread's network namespace.
func Look(ctx context.Context) (Survey, error) {
	conn, socket, err := dial()
	if err != nil {
		return Survey{}, err
	}
	defer func() { _ = conn.CloseLasting() }()
	if isMissing(exists(conn)) { // then others filter by iptables-legacy, if at all
		return Survey{Legacy: legacyFamilies()}, nil
	}
	chains, err := conn.ListChains()
	if err != nil {
		return Survey{}, fmt.Errorf("list the chains of nftables: %w", err)
	}
	var s Survey
	theirs := newOthers(conn, socket)
	rules := map[*nftables.Chain][]*nftables.Rule{}
	for _, c := range chains {
		if err := ctx.Err(); err != nil {
			return Survey{}, err
		}
		_, known := surveyed[c.Table.Family]
		byIP6Tables := known && strings.HasPrefix(c.Name, firewall.Name+"-")
		ours := c.Table.Name == firewall.Name || byIP6Tables
		s.Ours = s.Ours || byIP6Tables || ours && c.Table.Family == nftables.TableFamilyINet // of what is forwarded
		if !known || ours {
			continue
		}
		if rules[c], err = theirs.rulesOf(c); err != nil {
			return Survey{}, err
		}
	}
	for _, c := range chains {
		if _, read := rules[c]; !read {
			continue
		}
		if slices.ContainsFunc(rules[c], filtersReversePath) {
			s.ReversePath = append(s.ReversePath, chainName(c))
		}
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Type == nftables.ChainTypeNAT {
			continue
		}
		s.Forward = append(s.Forward, ForwardChain{
			Family: surveyed[c.Table.Family], Table: c.Table.Name, Name: c.Name,
			Refuses: refuses(theirs, c), Jumps: slices.ContainsFunc(rules[c], jumps),
		})
	}
	s.Legacy = legacyFamilies()
	return s, nil
}

func tableName(t *nftables.Table) string { return surveyed[t.Family] + " " + t.Name }

func chainName(c *nftables.Chain) string { return tableName(c.Table) + " " + c.Name }

// refuses reports whether a chain refuses what a bridge of ours forwards, whatever its
// name may be: there may be none yet.
func refuses(theirs *others, c *nftables.Chain) bool {
	const bridge, parent = spec.LinkPrefix + "00000000", "outside"
	return theirs.refuses(c, probe{in: bridge, out: parent}) != "" || theirs.refuses(c, probe{in: parent, out: bridge}) != ""
}

func jumps(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && (v.Kind == expr.VerdictJump || v.Kind == expr.VerdictGoto)
	})
}

// filtersReversePath reports whether a rule asks by which link an answer would go
// and holds it against the one by which the packet came: `fib saddr . iif`, or -m
// rpfilter without --loose (XT_RPFILTER_LOOSE, 1, of its flags).
func filtersReversePath(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		switch e := e.(type) {
		case *expr.Fib:
			return e.FlagSADDR && e.FlagIIF && !e.ResultADDRTYPE
		case *expr.Match:
			info, ok := e.Info.(*xt.Unknown)
			return e.Name == "rpfilter" && ok && len(*info) > 0 && (*info)[0]&1 == 0
		default:
			return false
		}
	})
}

func legacyFamilies() []string {
	var families []string
	for _, family := range iptablesFamilies {
		if name := familyName(family); ip6tables.LegacyHas(name, foreignTable) {
			families = append(families, name)
		}
	}
	return families
}

// Abilities are what this kernel's nftables can do.
type Abilities struct{ Tables, Bridges, Conntrack, NAT bool }

// Try finds out what nftables can do, in the network namespace of the calling
// thread, in which it leaves nothing behind if that goes with the thread.
func Try() (Abilities, error) {
	var a Abilities
	for _, trial := range []struct {
		can    *bool
		family nftables.TableFamily
		kind   nftables.ChainType
		hook   *nftables.ChainHook
		rule   []expr.Any
	}{
		{&a.Tables, nftables.TableFamilyINet, nftables.ChainTypeFilter, nftables.ChainHookForward, nil},
		{&a.Bridges, nftables.TableFamilyBridge, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nil},
		{&a.Conntrack, nftables.TableFamilyINet, nftables.ChainTypeFilter, nftables.ChainHookForward,
			[]expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}},
		{&a.NAT, nftables.TableFamilyINet, nftables.ChainTypeNAT, nftables.ChainHookPostrouting, []expr.Any{&expr.Masq{}}},
	} {
		conn, err := nftables.New()
		if err != nil {
			return a, fmt.Errorf("open netfilter netlink socket: %w", err)
		}
		if isMissing(exists(conn)) {
			return a, nil
		}
		table := conn.AddTable(&nftables.Table{Name: firewall.Name + "-trial", Family: trial.family})
		priority := nftables.ChainPriorityFilter
		if trial.kind == nftables.ChainTypeNAT {
			priority = nftables.ChainPriorityNATSource
		}
		chain := conn.AddChain(&nftables.Chain{Name: "trial", Table: table, Type: trial.kind, Hooknum: trial.hook, Priority: priority})
		if trial.rule != nil {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: trial.rule})
		}
		conn.DelTable(table)
		err = conn.Flush()
		*trial.can = err == nil
		if err != nil && !isMissing(err) {
			return a, fmt.Errorf("try nftables: %w", err)
		}
	}
	return a, nil
}

// isMissing reports whether an error says that the kernel has no such thing, nor a
// module for it.
func isMissing(err error) bool {
	for _, missing := range []error{ErrUnavailable, unix.EOPNOTSUPP, unix.ENOENT, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		if errors.Is(err, missing) {
			return true
		}
	}
	return false
}
