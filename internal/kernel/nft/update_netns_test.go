//go:build netns

package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
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

// A network comes to others and leaves them by its elements, prefixes that join another's
// included, and the chains of others have what it needs.
func TestUpdateNetworks(t *testing.T) {
	eachBackend(t, func(t *testing.T, b backend) {
		others := everything()
		others.Networks[0].Asked = false
		if !b.translates {
			others.Networks = slices.DeleteFunc(others.Networks, func(n firewall.Network) bool { return len(n.Translations) > 0 })
		}
		pool := netip.MustParsePrefix("2001:db8:4:1::/64") // the other half of a /63
		all := others
		all.Networks = append(slices.Clip(others.Networks), firewall.Network{
			ID: "ffffffffffff", Bridge: "v6nffffffffffff", Pools: []netip.Prefix{pool}, Autonomous: []netip.Prefix{pool}, Masquerade: []netip.Prefix{pool},
			Resolvers: []netip.Addr{pool.Addr().Next()}, Asked: true,
		})
		host, fresh := b.host(t, "host"), b.host(t, "fresh")
		for _, h := range []*testnet.Host{host, fresh} {
			closedInput(t, h, b.programs)
		}
		f, once := b.open(t, host), b.open(t, fresh)
		apply(t, f, others)
		for _, step := range []struct {
			name     string
			from, to firewall.Config
			asked    bool
		}{{"it comes", others, all, true}, {"it goes", all, others, false}, {"it comes again", others, all, true}} {
			changes, ok := step.to.Since(step.from)
			if !ok {
				t.Fatalf("%s: elements alone cannot do that", step.name)
			}
			if err := f.UpdateNetworks(t.Context(), changes); err != nil {
				t.Fatal(err)
			}
			apply(t, once, step.to)
			if diff := cmp.Diff(held(t, b, fresh), held(t, b, host)); diff != "" {
				t.Errorf("%s (-at once +by elements):\n%s", step.name, diff)
			}
			if asked := strings.Contains(host.Run(t, b.programs[1], "-S", "INPUT"), acceptTag); asked != step.asked {
				t.Errorf("%s: the chain INPUT of others has our rule: %t", step.name, asked)
			}
		}
	})
}

// held are all rules of a host: of iptables in any order, since what comes later is put first.
func held(t testing.TB, b backend, host *testnet.Host) string {
	t.Helper()
	if b.frames {
		return listing(t, host)
	}
	var all []string
	for _, program := range b.programs {
		for _, table := range b.tables {
			rules := strings.Split(host.Run(t, program, "-t", table, "-S"), "\n")
			slices.Sort(rules)
			all = append(all, rules...)
		}
	}
	return strings.Join(all, "\n")
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
