package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
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
	found, err := f.obstacles()
	return append(found, f.legacy.Obstacles()...), err
}

func (f *Firewall) obstacles() ([]spec.Obstacle, error) {
	all, err := f.conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the chains of others: %w", err)
	}
	probes := map[nftables.ChainHook]map[string][][]probe{*nftables.ChainHookForward: f.forwarded(), *nftables.ChainHookInput: f.asked()}
	theirs := newOthers(f.conn, f.socket)
	var found []spec.Obstacle
	var errs []error
	for _, c := range all {
		if c.Type != nftables.ChainTypeFilter || c.Hooknum == nil || c.Table.Name == firewall.Name || !sees(c.Table.Family) {
			continue
		}
		bridges := probes[*c.Hooknum]
		if len(bridges) == 0 {
			continue
		}
		rules, err := theirs.rulesOf(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if f.swept && slices.ContainsFunc(rules, leadsToLeft) {
			found = append(found, spec.Obstacle{Table: tableName(c.Table), Chain: c.Name,
				Why: "it leads to rules that an earlier v6net has kept by ip6tables, which could not be removed: they know nothing of containers that came later",
				Fix: "install iptables and restart v6net, which then removes them"})
			continue
		}
		refused, why := theirs.refused(c, bridges)
		if len(refused) == 0 {
			continue
		}
		if err := f.unplaced[c.Table.Family]; err != nil && c.Table.Name == foreignTable {
			why += fmt.Sprintf("; v6net cannot put its rule there: %v", err)
		}
		if len(refused) < len(bridges) {
			why += ", of " + listed(refused)
		}
		zone := slices.ContainsFunc(all, func(other *nftables.Chain) bool {
			return c.Table.Name == firewalld && other.Table.Name == firewalld && strings.Contains(other.Name, firewalldPolicy)
		})
		found = append(found, obstacle(c, why, refused, zone))
	}
	return found, errors.Join(errs...)
}

// leadsToLeft reports whether a rule has one of package ip6tables' chains decide.
func leadsToLeft(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && strings.HasPrefix(v.Chain, firewall.Name+"-")
	})
}

// Swept says that what package ip6tables has kept until now has been removed, as far as it
// could be: what is left of it from now on is an obstacle.
func (f *Firewall) Swept() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.swept = true
	if f.applied == nil {
		return nil
	}
	if err := drain(f.socket); err != nil {
		return err
	}
	f.warnOfObstacles()
	return nil
}

// forwarded are the packets that pass each bridge by our leave: those from there and, where
// anybody may be let in, those to there. It is enough if one of the parents is a way.
func (f *Firewall) forwarded() map[string][][]probe {
	parents := linksIn(f.applied.Set("parents"))
	if len(parents) == 0 {
		parents = []string{"outside"}
	}
	internal, accepting := linksIn(f.applied.Set("internal")), linksIn(f.applied.Set("let_in"))
	bridges := map[string][][]probe{}
	for _, bridge := range linksIn(f.applied.Set("networks")) {
		if slices.Contains(internal, bridge) {
			continue
		}
		var to, from []probe
		for _, parent := range parents {
			to, from = append(to, probe{in: parent, out: bridge}), append(from, probe{in: bridge, out: parent})
		}
		if bridges[bridge] = [][]probe{from}; slices.Contains(accepting, bridge) {
			bridges[bridge] = [][]probe{from, to}
		}
	}
	return bridges
}

// asked are the questions to name servers on the bridges.
func (f *Firewall) asked() map[string][][]probe {
	bridges := map[string][][]probe{}
	for _, name := range askingSets {
		for _, bridge := range linksIn(f.applied.Set(name)) {
			bridges[bridge] = [][]probe{{{in: bridge, dns: true}}}
		}
	}
	return bridges
}

// linksIn are the links that a set's keys begin with.
func linksIn(s *firewall.Set) (links []string) {
	if s == nil {
		return nil
	}
	for _, e := range s.Elements {
		link, _, _ := strings.Cut(e.Key, " . ")
		links = append(links, strings.Trim(link, `"`))
	}
	return links
}

// sees reports whether a family's chains see packets that are forwarded.
func sees(family nftables.TableFamily) bool {
	return family == nftables.TableFamilyINet || family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyIPv6
}

// firewalld is the name of firewalld's table, and what the names of chains have in them
// that it makes of the policy for our bridges.
const firewalld, firewalldPolicy = "firewalld", "v6net-in"

func obstacle(c *nftables.Chain, why string, bridges []string, zone bool) spec.Obstacle {
	o := spec.Obstacle{Table: tableName(c.Table), Chain: c.Name, Why: why}
	mark := fmt.Sprintf("meta mark and %#x == %#x accept", firewall.VouchMark, firewall.VouchMark)
	switch {
	case c.Table.Name == firewalld && zone && *c.Hooknum == *nftables.ChainHookForward:
		var commands []string
		for _, bridge := range bridges {
			commands = append(commands, fmt.Sprintf("firewall-cmd --zone=v6net --change-interface=%s; firewall-cmd --permanent --zone=v6net --change-interface=%s", bridge, bridge))
		}
		o.Fix = strings.Join(commands, "; ")
	case c.Table.Name == firewalld && *c.Hooknum == *nftables.ChainHookForward:
		o.Fix = "v6net as a service of the host has its bridges in a firewalld zone of its own, and logs what keeps it from that; the managed plugin cannot: make the zone as docs/firewall.md says (firewalld)"
	case c.Table.Name == firewalld:
		o.Fix = "firewall-cmd --permanent --zone=v6net --add-service=dns; firewall-cmd --zone=v6net --add-service=dns"
	case c.Priority != nil && int(*c.Priority) <= firewall.PriorityForward:
		o.Fix = fmt.Sprintf("its priority is %d, before v6net's own at %d: let it come later, or accept there by the names of the bridges (%s*)", *c.Priority, firewall.PriorityForward, spec.LinkPrefix)
	default:
		o.Fix = fmt.Sprintf("nft insert rule %s %s %s", tableName(c.Table), c.Name, mark)
	}
	return o
}

// warnOfObstacles logs those that were not there before.
func (f *Firewall) warnOfObstacles() {
	found, err := f.obstacles()
	if err != nil {
		f.log.Debug("firewall: chains of others that cannot be read", "err", err)
	}
	seen := map[string]bool{}
	for _, o := range found {
		chain := o.Table + " " + o.Chain // of which more and more bridges may get through
		if seen[chain] = true; !f.obstructed[chain] {
			f.log.Warn("firewall: packets that v6net accepts are refused by another's chain", "table", o.Table, "chain", o.Chain, "because", o.Why, "fix", o.Fix)
		}
	}
	f.obstructed = seen
}
