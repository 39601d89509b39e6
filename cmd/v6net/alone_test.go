package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/v6net/v6net/ndproxy"
)

// fakeRoutes has links with routers, and the prefix that these are in.
type fakeRoutes map[string]string

func (f fakeRoutes) Routers(_ context.Context, link string) ([]netip.Addr, error) {
	if r, ok := f[link]; ok {
		return []netip.Addr{netip.MustParseAddr(r)}, nil
	}
	return nil, fs.ErrNotExist
}

func (f fakeRoutes) OnLink(_ context.Context, link string) ([]netip.Prefix, error) {
	if r, ok := f[link]; ok {
		return []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(r), 64).Masked()}, nil
	}
	return nil, fs.ErrNotExist
}

func (fakeRoutes) Close() {}

func newUnlinked(c *ndproxyCommand) *aloneProxy {
	log := slog.New(slog.DiscardHandler)
	return &aloneProxy{
		command: c, log: log, routes: fakeRoutes{"eth0": "2001:db8::1"},
		proxy: ndproxy.NewSupervisor(func(context.Context, string) (ndproxy.Conn, error) {
			return nil, errors.New("no link")
		}, ndproxy.Knobs{}, log),
	}
}

// No prefix is answered for that a router of the link is in, and no router's address.
func TestRoutersAreLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		command ndproxyCommand
		list    string
		want    string
	}{
		"in it":         {ndproxyCommand{Interface: []string{"eth0"}, Prefix: []string{"2001:db8:1::/64", "2001:db8::/64"}}, "", "prefix 2001:db8::/64: it holds 2001:db8::1, the router on eth0, which is not to be answered for; allowed is a prefix without it, or a list of addresses (--addresses)"},
		"beside it":     {ndproxyCommand{Interface: []string{"eth0"}, Prefix: []string{"2001:db8::100/120"}}, "", ""},
		"elsewhere":     {ndproxyCommand{Interface: []string{"eth1"}, Prefix: []string{"2001:db8::/64"}}, "", ""},
		"within a list": {ndproxyCommand{Interface: []string{"eth0"}, Prefix: []string{"2001:db8::/64"}, Addresses: "-"}, "2001:db8::2", ""},
		"in a list":     {ndproxyCommand{Interface: []string{"eth0"}, Addresses: "-"}, "2001:db8::2\n2001:db8::1\n", "address 2001:db8::1: it is that of a router on eth0"},
		"in another's":  {ndproxyCommand{Interface: []string{"eth1"}, Addresses: "-"}, "2001:db8::1\n", ""},
	} {
		a := newUnlinked(&c.command)
		a.stdin = []byte(c.list)
		err := a.load(t.Context())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if links := a.proxy.Links(); err != nil && len(links) != 0 {
			t.Errorf("%s: answers on %v all the same", name, links)
		}
	}
}

// A prefix that is on no prefix of its link is told of, once.
func TestPrefixThatNobodyAsksFor(t *testing.T) {
	a := newUnlinked(&ndproxyCommand{Interface: []string{"eth0", "eth1"}, Prefix: []string{"2001:db8:0:0:1::/80", "2001:db8:9::/64"}})
	var said strings.Builder
	a.log = slog.New(slog.NewTextHandler(&said, nil))
	for range 2 {
		if err := a.load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(said.String(), "level=WARN"); n != 1 || !strings.Contains(said.String(), "prefix=2001:db8:9::/64 link=eth0") {
		t.Errorf("want a warning of 2001:db8:9::/64 on eth0 alone, of which the prefix is known:\n%s", said.String())
	}
	if got := a.proxy.Links(); len(got) != 2 {
		t.Errorf("answers on %v, want eth0 and eth1", got)
	}
}

// --interface that is repeated is each one's list.
func TestListForSeveralLinks(t *testing.T) {
	a := newUnlinked(&ndproxyCommand{Interface: []string{"eth0", "eth1"}, Addresses: "-"})
	a.stdin = []byte("2001:db8::3\n2001:db8::2\n2001:db8::3\n")
	if err := a.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"eth0", "eth1"} {
		if got := fmt.Sprint(a.now.addresses[link]); got != "[2001:db8::2 2001:db8::3]" {
			t.Errorf("on %s it answers for %s", link, got)
		}
	}
}

// A list that is read again changes what is different in it.
func TestLoadAgain(t *testing.T) {
	list := filepath.Join(t.TempDir(), "addresses")
	a := newUnlinked(&ndproxyCommand{Interface: []string{"eth0"}, Addresses: list})
	for text, want := range map[string][]string{
		"2001:db8::3\n2001:db8::2\n2001:db8::3": {"2001:db8::2", "2001:db8::3"},
		"2001:db8::4\n2001:db8::2\n":            {"2001:db8::2", "2001:db8::4"},
		"":                                      nil,
	} {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range a.proxy.Status() {
			for _, a := range s.Addresses {
				got = append(got, a.String())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: answering for %v, want %v", text, got, want)
		}
	}
}

func TestDifferences(t *testing.T) {
	set := rapid.Custom(func(t *rapid.T) (addrs []netip.Addr) {
		for i := range 20 {
			if rapid.Bool().Draw(t, "in") {
				addrs = append(addrs, netip.AddrFrom16([16]byte{0x20, 15: byte(i)}))
			}
		}
		return addrs
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := set.Draw(t, "before"), set.Draw(t, "after")
		come, gone := differences(before, after)
		without := func(a, b []netip.Addr) []netip.Addr {
			return slices.DeleteFunc(slices.Clone(a), func(x netip.Addr) bool { return slices.Contains(b, x) })
		}
		if !slices.Equal(come, without(after, before)) || !slices.Equal(gone, without(before, after)) {
			t.Fatalf("from %v to %v: %v come, %v gone", before, after, come, gone)
		}
	})
}
