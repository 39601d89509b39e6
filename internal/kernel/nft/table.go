package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/v6net/v6net/internal/firewall"
)

// elementsPerMessage keeps a list of elements, at most 76 bytes each, within
// one netlink attribute (64 KiB). It is even: an interval is two elements.
const elementsPerMessage = 512

var (
	families = map[string]nftables.TableFamily{"inet": nftables.TableFamilyINet}
	hooks    = map[string]*nftables.ChainHook{
		"prerouting":  nftables.ChainHookPrerouting,
		"input":       nftables.ChainHookInput,
		"forward":     nftables.ChainHookForward,
		"output":      nftables.ChainHookOutput,
		"postrouting": nftables.ChainHookPostrouting,
	}
)

// table is a ruleset in the kernel's terms. All of it is encoded before any of
// it is queued on a connection, where half a batch could not be taken back.
type table struct {
	*nftables.Table
	sets map[string]*set
	from firewall.Ruleset
}

type set struct {
	*nftables.Set
	from firewall.Set
}

func newTable(r firewall.Ruleset) (*table, error) {
	family, ok := families[r.Family]
	if !ok {
		return nil, fmt.Errorf("no table family %q", r.Family)
	}
	t := &table{Table: &nftables.Table{Name: r.Table, Family: family}, sets: map[string]*set{}, from: r}
	for i, s := range r.Sets {
		encoded := &nftables.Set{
			Table: t.Table, Name: s.Name, ID: uint32(i + 1), // IDs are the batch's own
			IsMap: s.Value != "", Interval: s.Interval,
		}
		var err error
		if encoded.KeyType, err = parseType(s.Key); err != nil {
			return nil, fmt.Errorf("set %s: %w", s.Name, err)
		}
		if encoded.IsMap {
			if encoded.DataType, err = parseType(s.Value); err != nil {
				return nil, fmt.Errorf("map %s: %w", s.Name, err)
			}
		}
		if encoded.KeyType == nftables.TypeIFName {
			encoded.KeyByteOrder = binaryutil.NativeEndian // nft lists the names by it
		}
		t.sets[s.Name] = &set{encoded, s}
	}
	return t, nil
}

// present reports whether the kernel has a table of that name.
func (t *table) present(conn *nftables.Conn) bool {
	_, err := conn.ListTableOfFamily(t.Name, t.Family)
	return err == nil
}

// replace sends the whole table in one batch, in place of any of that name.
func (t *table) replace(conn *nftables.Conn) error {
	chains, rules, err := t.encodeChains()
	if err != nil {
		return err
	}
	elements := make([][]nftables.SetElement, len(t.from.Sets))
	for i, s := range t.from.Sets {
		if elements[i], err = encodeElements(s, s.Elements); err != nil {
			return err
		}
	}

	conn.AddTable(t.Table) // or the deletion fails where it is missing
	conn.DelTable(t.Table)
	conn.AddTable(t.Table)
	for i, s := range t.from.Sets {
		if err := conn.AddSet(t.sets[s.Name].Set, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
		if err := t.send(conn.SetAddElements, s.Name, elements[i]); err != nil {
			return fmt.Errorf("add elements to set %s: %w", s.Name, err)
		}
	}
	for _, c := range chains {
		conn.AddChain(c)
	}
	for _, r := range rules {
		conn.AddRule(r)
	}
	return conn.Flush()
}

// update sends changes of elements in one batch.
func (t *table) update(conn *nftables.Conn, changes []firewall.Change) error {
	type change struct {
		set              string
		deleted, created []nftables.SetElement
	}
	encoded := make([]change, len(changes))
	for i, c := range changes {
		encoded[i].set = c.Set
		var err error
		if encoded[i].deleted, err = encodeElements(t.sets[c.Set].from, c.Delete); err != nil {
			return err
		}
		if encoded[i].created, err = encodeElements(t.sets[c.Set].from, c.Add); err != nil {
			return err
		}
	}

	for _, c := range encoded {
		// Deleted first: a key may come back with another value.
		if err := t.send(conn.SetDeleteElements, c.set, c.deleted); err != nil {
			return fmt.Errorf("delete elements of set %s: %w", c.set, err)
		}
		if err := t.send(conn.SetAddElements, c.set, c.created); err != nil {
			return fmt.Errorf("add elements to set %s: %w", c.set, err)
		}
	}
	return conn.Flush()
}

// send queues elements in messages that are small enough.
func (t *table) send(queue func(*nftables.Set, []nftables.SetElement) error, set string, elements []nftables.SetElement) error {
	for chunk := range slices.Chunk(elements, elementsPerMessage) {
		if err := queue(t.sets[set].Set, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) encodeChains() ([]*nftables.Chain, []*nftables.Rule, error) {
	ids := map[string]uint32{}
	for name, s := range t.sets {
		ids[name] = s.ID
	}
	var chains []*nftables.Chain
	var rules []*nftables.Rule
	for _, c := range t.from.Chains {
		chain, err := t.encodeChain(c)
		if err != nil {
			return nil, nil, fmt.Errorf("chain %s: %w", c.Name, err)
		}
		chains = append(chains, chain)
		for _, text := range c.Rules {
			var exprs []expr.Any
			if exprs, err = compile(text, ids); err != nil {
				return nil, nil, fmt.Errorf("chain %s: %w", c.Name, err)
			}
			rules = append(rules, &nftables.Rule{Table: t.Table, Chain: chain, Exprs: exprs})
		}
	}
	return chains, rules, nil
}

func (t *table) encodeChain(c firewall.Chain) (*nftables.Chain, error) {
	chain := &nftables.Chain{Name: c.Name, Table: t.Table}
	if c.Hook == nil {
		return chain, nil
	}
	hook, ok := hooks[c.Hook.Name]
	if !ok {
		return nil, fmt.Errorf("no hook %q", c.Hook.Name)
	}
	policy := nftables.ChainPolicyAccept
	chain.Type = nftables.ChainType(c.Hook.Type)
	chain.Hooknum, chain.Priority, chain.Policy = hook, nftables.ChainPriorityRef(nftables.ChainPriority(c.Hook.Priority)), &policy
	return chain, nil
}
