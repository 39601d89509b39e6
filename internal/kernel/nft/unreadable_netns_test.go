//go:build netns

package nft

import (
	"io"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// A rule in the foreign chain that nobody here can read is none of our business: our own
// is placed before it, and networks come and go.
func TestRuleThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{"ct original ip6 saddr 2001:db8:dead::1 drop", "rt classid 1 drop", "meta skuid 0 accept", "ct count over 5 drop"} {
		t.Run(rule, func(t *testing.T) {
			host := testnet.New(t, "host")
			policyDrop(t, host)
			host.Run(t, "nft", "add rule ip6 filter FORWARD "+rule)
			before := listing(t, host)
			f := open(t, host)
			apply(t, f, small())
			if out := host.Run(t, "nft", "list", "chain", "ip6", "filter", "FORWARD"); !strings.Contains(out, "0x1000") && !strings.Contains(out, "v6net") {
				t.Errorf("our packets are not accepted:\n%s", out)
			}
			if found, err := f.Obstacles(t.Context()); err != nil || len(found) > 0 {
				t.Errorf("obstacles %v, %v", found, err)
			}
			host.Do(t, func() {
				if _, err := Look(t.Context()); err != nil {
					t.Errorf("the doctor cannot look: %v", err)
				}
			})
			if err := f.Remove(t.Context()); err != nil {
				t.Errorf("a network cannot be removed: %v", err)
			}
			if after := listing(t, host); after != before {
				t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// A table that is its owner's alone cannot have our rule. That is an obstacle, and no
// error: whose packets pass elsewhere goes on to work.
func TestTableOfAnOwner(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	owner := host.Command(t.Context(), "nft", "-i")
	in, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	owner.Stdout, owner.Stderr = t.Output(), t.Output()
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = owner.Wait() }) // with which the table goes
	if _, err := io.WriteString(in, "add table ip6 filter { flags owner; }\nadd chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }\n"); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return strings.Contains(host.Run(t, "nft", "list", "ruleset"), "chain FORWARD") }) {
		t.Fatal("no table of an owner")
	}
	f := open(t, host)
	for range 2 {
		if err := f.Apply(t.Context(), build(t, small())); err != nil {
			t.Errorf("a network cannot be made: %v", err)
		}
	}
	found, err := f.Obstacles(t.Context())
	if err != nil || len(found) != 1 || found[0].Table != "ip6 filter" || !strings.Contains(found[0].Why, "cannot put its rule there") {
		t.Errorf("obstacles %v, %v, want that of ip6 filter, which is its owner's", found, err)
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Errorf("a network cannot be removed: %v", err)
	}
}
