//go:build netns

package ip6tables

import (
	"log/slog"
	"testing"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// Our own changes are known for what they are, and not looked at again; a change of
// another's among them is.
func TestOwnChangesAreKnown(t *testing.T) {
	host := testnet.New(t, "host")
	host.Run(t, "ip6tables-nft", "-P", "FORWARD", "DROP") // where a rule of ours comes, too
	var f *Firewall
	host.Do(t, func() {
		var err error
		if f, err = New(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if f.Variant() != "nft" {
		t.Fatalf("variant %s was chosen", f.Variant())
	}
	few, err := firewall.Build(crowd(3))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Apply(t.Context(), few); err != nil {
		t.Fatal(err)
	}
	known := func() bool { return f.looked != 0 && f.looked == f.generation() }
	if !known() {
		t.Errorf("after Apply the generation is %d, and %d is known", f.generation(), f.looked)
	}
	changes, err := crowd(4).Networks[0].Since(crowd(3).Networks[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Update(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	if !known() {
		t.Errorf("after Update the generation is %d, and %d is known", f.generation(), f.looked)
	}
	host.Run(t, "ip6tables-nft", "-t", "mangle", "-A", "v6net-forward", "-j", "ACCEPT")
	if known() {
		t.Error("another's change is taken for ours")
	}
	back, err := crowd(3).Networks[0].Since(crowd(4).Networks[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Update(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	if known() { // what it was not about has not been looked at
		t.Error("another's change is taken for ours after one of ours")
	}
	f.events.touched.Store(true)
	if _, err := f.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.Missing(t.Context()) != nil {
		t.Error("what another has changed is not restored")
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}
