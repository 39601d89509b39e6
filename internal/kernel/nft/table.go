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
	families = map[string]nftables.TableFamily{
		firewall.FamilyInet: nftables.TableFamilyINet, firewall.FamilyIPv4: nftables.TableFamilyIPv4, firewall.FamilyBridge: nftables.TableFamilyBridge,
	}
	hooks = map[string]*nftables.ChainHook{
		"prerouting":  nftables.ChainHookPrerouting,
		"input":       nftables.ChainHookInput,
		"forward":     nftables.ChainHookForward,
		"output":      nftables.ChainHookOutput,
		"postrouting": nftables.ChainHookPostrouting,
	}
)

// tables are a ruleset in the kernel's terms. All of it is encoded before any of
// it is queued on a connection, where half a batch could not be taken back.
type tables struct {
	all  []*table
	sets map[string]*set // of all tables
	from firewall.Ruleset
}

type table struct {
	*nftables.Table
	from firewall.Table
}

type set struct {
	*nftables.Set
	from firewall.Set
}

// newTables encodes a ruleset, without its tables for bridges if there can be none.
func newTables(r firewall.Ruleset, frameless bool) (*tables, error) {
	ts := &tables{sets: map[string]*set{}, from: r}
	for _, from := range r.Tables {
		if frameless && from.Family == firewall.FamilyBridge {
			continue
		}
		family, ok := families[from.Family]
		if !ok {
			return nil, fmt.Errorf("no table family %q", from.Family)
		}
		t := &table{Table: &nftables.Table{Name: from.Name, Family: family}, from: from}
		ts.all = append(ts.all, t)
		for _, s := range from.Sets {
			encoded, err := t.newSet(s)
			if err != nil {
				return nil, err
			}
			encoded.ID = uint32(len(ts.sets) + 1) // IDs are the batch's own
			ts.sets[s.Name] = &set{encoded, s}
		}
	}
	return ts, nil
}

func (t *table) newSet(s firewall.Set) (encoded *nftables.Set, err error) {
	encoded = &nftables.Set{Table: t.Table, Name: s.Name, IsMap: s.Value != "", Interval: s.Interval, Counter: s.Counter}
	if s.Dynamic {
		encoded.Dynamic, encoded.HasTimeout, encoded.Timeout, encoded.Size = true, true, firewall.DynamicTimeout, firewall.DynamicSize
	}
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
	return encoded, nil
}

// present reports whether the kernel has all tables of those names.
func (ts *tables) present(conn *nftables.Conn) bool {
	return !slices.ContainsFunc(ts.all, func(t *table) bool {
		_, err := conn.ListTableOfFamily(t.Name, t.Family)
		return err != nil
	})
}

// replace sends the whole tables in one batch, in place of any of those names.
func (ts *tables) replace(conn *nftables.Conn) error {
	chains, rules, err := ts.encodeChains()
	if err != nil {
		return err
	}
	elements := map[string][]nftables.SetElement{}
	for name, s := range ts.sets {
		if elements[name], err = encodeElements(s.from, s.from.Elements); err != nil {
			return err
		}
	}

	for _, t := range ts.all {
		conn.AddTable(t.Table) // or the deletion fails where it is missing
		conn.DelTable(t.Table)
		conn.AddTable(t.Table)
		for _, s := range t.from.Sets {
			if err := conn.AddSet(ts.sets[s.Name].Set, nil); err != nil {
				return fmt.Errorf("add set %s: %w", s.Name, err)
			}
			if err := ts.send(conn.SetAddElements, s.Name, elements[s.Name]); err != nil {
				return fmt.Errorf("add elements to set %s: %w", s.Name, err)
			}
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
func (ts *tables) update(conn *nftables.Conn, changes []firewall.Change) error {
	type change struct {
		set              string
		deleted, created []nftables.SetElement
	}
	var encoded []change
	for _, c := range changes {
		s, ok := ts.sets[c.Set]
		if !ok {
			continue // of a table that this kernel cannot have
		}
		deleted, err := encodeElements(s.from, c.Delete)
		if err != nil {
			return err
		}
		created, err := encodeElements(s.from, c.Add)
		if err != nil {
			return err
		}
		encoded = append(encoded, change{c.Set, deleted, created})
	}

	for _, c := range encoded {
		// Deleted first: a key may come back with another value.
		if err := ts.send(conn.SetDeleteElements, c.set, c.deleted); err != nil {
			return fmt.Errorf("delete elements of set %s: %w", c.set, err)
		}
		if err := ts.send(conn.SetAddElements, c.set, c.created); err != nil {
			return fmt.Errorf("add elements to set %s: %w", c.set, err)
		}
	}
	return conn.Flush()
}

// send queues elements in messages that are small enough.
func (ts *tables) send(queue func(*nftables.Set, []nftables.SetElement) error, set string, elements []nftables.SetElement) error {
	for chunk := range slices.Chunk(elements, elementsPerMessage) {
		if err := queue(ts.sets[set].Set, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (ts *tables) encodeChains() ([]*nftables.Chain, []*nftables.Rule, error) {
	var chains []*nftables.Chain
	var rules []*nftables.Rule
	for _, t := range ts.all {
		ids := map[string]uint32{}
		for _, s := range t.from.Sets {
			ids[s.Name] = ts.sets[s.Name].ID
		}
		for _, c := range t.from.Chains {
			chain, err := t.encodeChain(c)
			if err != nil {
				return nil, nil, fmt.Errorf("chain %s: %w", c.Name, err)
			}
			chains = append(chains, chain)
			for _, text := range c.Rules {
				var exprs []expr.Any
				if exprs, err = compile(text, t.Family, ids); err != nil {
					return nil, nil, fmt.Errorf("chain %s: %w", c.Name, err)
				}
				rules = append(rules, &nftables.Rule{Table: t.Table, Chain: chain, Exprs: exprs})
			}
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
