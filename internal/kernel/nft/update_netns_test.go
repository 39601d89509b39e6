//go:build netns

package nft

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// since is what turns the first network of everything, without containers, into itself, and back.
func since(t testing.TB) (c firewall.Config, come, gone []firewall.Change) {
	t.Helper()
	c = everything()
	full := c.Networks[0]
	bare := full
	bare.Live, bare.Published = nil, nil
	var err error
	if come, err = full.Since(bare); err != nil {
		t.Fatal(err)
	}
	if gone, err = bare.Since(full); err != nil {
		t.Fatal(err)
	}
	c.Networks[0] = bare
	return c, come, gone
}

// By updates the kernel comes to what one ruleset would have made, also when a
// change is repeated and when others have harmed the table meanwhile.
func TestUpdateConverges(t *testing.T) {
	t.Parallel()
	bare, come, gone := since(t)
	for _, harm := range []string{
		"list tables", // none
		"delete table inet v6net",
		"flush set inet v6net published6",
		"delete element inet v6net ports4 { tcp . 8080 }",
		"add element inet v6net live6 { 2001:db8:1::5 }",
	} {
		t.Run(harm, func(t *testing.T) {
			host, fresh := testnet.New(t, "host"), testnet.New(t, "fresh")
			f, once := open(t, host), open(t, fresh)
			update := func(changes []firewall.Change, want firewall.Config) {
				t.Helper()
				for range 2 {
					if err := f.Update(t.Context(), changes); err != nil {
						t.Fatal(err)
					}
				}
				apply(t, once, want)
				if diff := cmp.Diff(listing(t, fresh), listing(t, host)); diff != "" {
					t.Errorf("the kernel's table (-at once +by updates):\n%s", diff)
				}
			}
			apply(t, f, bare)
			update(come, everything())
			update(gone, bare)
			if harm == "add element inet v6net live6 { 2001:db8:1::5 }" {
				host.Run(t, "nft", harm) // is there already when it is to come
				update(come, everything())
				return
			}
			update(come, everything())
			host.Run(t, "nft", harm)
			update(gone, bare)
		})
	}
}

func TestUpdateNeedsARuleset(t *testing.T) {
	host := testnet.New(t, "host")
	f := open(t, host)
	_, come, _ := since(t)
	if err := f.Update(t.Context(), come); err == nil {
		t.Error("elements were added to no table")
	}
	apply(t, f, everything())
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(t.Context(), come); err == nil {
		t.Error("elements were added to a table that was removed")
	}
	if out := host.Run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("tables: %s", out)
	}
}

// BenchmarkUpdate is what a container that comes and goes costs the firewall beside so
// many others, with each backend.
func BenchmarkUpdate(b *testing.B) {
	for _, kept := range backends {
		for _, others := range []int{10, 100, 1_000, 10_000} {
			b.Run(fmt.Sprintf("%s/others=%d", kept.name, others), func(b *testing.B) {
				host := kept.host(b, "host")
				f := kept.open(b, host)
				c, come, gone := since(b)
				for i := range others {
					own := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 8: 1, 14: byte(i >> 8), 15: byte(i)})
					c.Networks[0].Live = append(c.Networks[0].Live, own)
					c.Networks[0].Published = append(c.Networks[0].Published, firewall.Published{Protocol: "tcp", Container: own, Port: 80})
					c.Networks[0].Containers = append(c.Networks[0].Containers, firewall.Container{
						Port: fmt.Sprintf("v6nv%x", i), MAC: fmt.Sprintf("02:42:00:01:%02x:%02x", i>>8, i&255), Addresses: []netip.Addr{own}})
				}
				apply(b, f, c)
				b.ReportAllocs()
				for b.Loop() {
					for _, changes := range [][]firewall.Change{come, gone} {
						if err := f.Update(b.Context(), changes); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
