package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// Obstacles are the chains of others that refuse what we have accepted: an accept of
// ours ends a packet's way through our chain, and no other's. Chains of iptables-nft are
// none, since our rule is in them.
func (f *Firewall) Obstacles(ctx context.Context) ([]spec.Obstacle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return nil, nil
	}
	if err := drain(f.socket); err != nil {
		return nil, err
	}
	return f.obstacles()
}

func (f *Firewall) obstacles() ([]spec.Obstacle, error) {
	all, err := f.conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the chains of others: %w", err)
	}
	asking := slices.ContainsFunc([]string{"asking4", "asking6"}, func(name string) bool {
		s := f.applied.Set(name)
		return s != nil && len(s.Elements) > 0
	})
	zoned := slices.ContainsFunc(all, func(c *nftables.Chain) bool {
		return c.Table.Name == firewalld && strings.Contains(c.Name, firewalldPolicy)
	})
	var found []spec.Obstacle
	var errs []error
	for _, c := range all {
		if zoned && c.Table.Name == firewalld {
			continue // our bridges have zones there (internal/firewalld)
		}
		if c.Type != nftables.ChainTypeFilter || c.Hooknum == nil || c.Table.Name == firewall.Name || !sees(c.Table.Family) {
			continue
		}
		if *c.Hooknum != *nftables.ChainHookForward && !(asking && *c.Hooknum == *nftables.ChainHookInput) {
			continue
		}
		why, err := f.refusal(c)
		switch {
		case err != nil:
			errs = append(errs, err)
		case why != "":
			found = append(found, obstacle(c, why))
		}
	}
	return found, errors.Join(errs...)
}

// sees reports whether a family's chains see packets that are forwarded.
func sees(family nftables.TableFamily) bool {
	return family == nftables.TableFamilyINet || family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyIPv6
}

// refusal says why packets of ours do not get through a base chain; empty: they do, or
// that depends on more than can be told from here.
func (f *Firewall) refusal(c *nftables.Chain) (string, error) {
	rules, err := f.conn.GetRules(c.Table, c)
	if err != nil {
		return "", fmt.Errorf("read chain %s of table %s: %w", c.Name, tableName(c.Table), err)
	}
	if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return acceptsVouched(r) || f.acceptsOurBridges(r) }) {
		return "", nil
	}
	chain := func(name string) []*nftables.Rule {
		rules, err := f.conn.GetRules(c.Table, &nftables.Chain{Name: name, Table: c.Table})
		if err != nil {
			return nil
		}
		return rules
	}
	for i := len(rules) - 1; i >= 0 && isEnd(rules[i], chain); i-- {
		if refusesAll(rules[i]) || slices.ContainsFunc(jumped(rules[i], chain), refusesAll) {
			return "its last rule refuses everything", nil
		}
	}
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return "policy drop", nil
	}
	return "", nil
}

// jumped are the rules of the chain to which a rule leads all packets.
func jumped(r *nftables.Rule, chain func(name string) []*nftables.Rule) []*nftables.Rule {
	if exprs := essence(r); len(exprs) == 1 {
		if v, ok := exprs[0].(*expr.Verdict); ok && v.Kind == expr.VerdictJump {
			return chain(v.Chain)
		}
	}
	return nil
}

// acceptsOurBridges reports whether a rule accepts by the name of a bridge of ours, or by
// how they begin: then somebody has thought of us, in words of his own.
func (f *Firewall) acceptsOurBridges(r *nftables.Rule) bool {
	named := func(e expr.Any) bool {
		c, ok := e.(*expr.Cmp)
		if !ok || c.Op != expr.CmpOpEq {
			return false
		}
		name := strings.TrimRight(string(c.Data), "\x00")
		_, ours := slices.BinarySearchFunc(f.applied.Set("networks").Elements, `"`+name+`"`, func(e firewall.Element, key string) int { return strings.Compare(e.Key, key) })
		return ours || strings.HasPrefix(name, spec.LinkPrefix)
	}
	accepts := func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && v.Kind == expr.VerdictAccept
	}
	return slices.ContainsFunc(r.Exprs, named) && slices.ContainsFunc(r.Exprs, accepts)
}

// firewalld is the name of firewalld's table, and what the names of chains have in them
// that it makes of the policy for our bridges.
const firewalld, firewalldPolicy = "firewalld", "v6net-in"

func obstacle(c *nftables.Chain, why string) spec.Obstacle {
	o := spec.Obstacle{Table: tableName(c.Table), Chain: c.Name, Why: why}
	mark := fmt.Sprintf("meta mark and %#x == %#x accept", firewall.VouchMark, firewall.VouchMark)
	switch {
	case c.Table.Name == firewalld && *c.Hooknum == *nftables.ChainHookForward:
		o.Fix = "v6net as a service of the host has its bridges in a firewalld zone of its own; the managed plugin cannot: make the zone as docs/firewall.md says (firewalld)"
	case c.Table.Name == firewalld:
		o.Fix = "firewall-cmd --permanent --zone=v6net --add-service=dns; firewall-cmd --reload"
	case c.Priority != nil && int(*c.Priority) <= firewall.PriorityForward:
		o.Fix = fmt.Sprintf("its priority is %d, before v6net's own at %d: let it come later, or accept there by the names of the bridges (%s*)", *c.Priority, firewall.PriorityForward, spec.LinkPrefix)
	default:
		o.Fix = fmt.Sprintf("nft insert rule %s %s %s", tableName(c.Table), c.Name, mark)
	}
	return o
}

func tableName(t *nftables.Table) string {
	if t.Family == nftables.TableFamilyINet {
		return "inet " + t.Name
	}
	return familyName(t.Family) + " " + t.Name
}

// warnOfObstacles logs those that were not there before.
func (f *Firewall) warnOfObstacles() {
	found, err := f.obstacles()
	if err != nil {
		f.log.Debug("firewall: chains of others that cannot be read", "err", err)
	}
	seen := map[spec.Obstacle]bool{}
	for _, o := range found {
		if seen[o] = true; !f.obstructed[o] {
			f.log.Warn("firewall: packets that v6net accepts are refused by another's chain", "table", o.Table, "chain", o.Chain, "because", o.Why, "fix", o.Fix)
		}
	}
	f.obstructed = seen
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
