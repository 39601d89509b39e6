//go:build netns

package rtnl_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// crowd is a host with some links that have two addresses each, and one with every kind.
func crowd(t *testing.T) (*rtnl.Lists, *netlink.Handle) {
	t.Helper()
	host := testnet.New(t, "host")
	var batch strings.Builder
	for i := range 50 {
		fmt.Fprintf(&batch, "link add br%d up type bridge\naddr add 10.0.%d.1/24 dev br%d\naddr add 2001:db8:0:%x::1/64 dev br%d nodad\n", i, i, i, i, i)
	}
	batch.WriteString(`link add many up type bridge
addr add 192.0.2.1/24 brd + label many:1 dev many
addr add 192.0.2.2/24 dev many
addr add 198.51.100.1 peer 198.51.100.2 dev many
addr add 198.51.100.5 peer 203.0.113.0/24 dev many
addr add 2001:db8:1::1/64 nodad dev many
addr add 2001:db8:2::1 peer 2001:db8:2::2/64 nodad dev many
addr add 2001:db8:3::1/64 nodad noprefixroute preferred_lft 0 dev many
`)
	host.Run(t, "sh", "-ec", "ip -batch - <<'EOF'\n"+batch.String()+"EOF")
	var lists *rtnl.Lists
	var library *netlink.Handle
	host.Do(t, func() {
		var errs [2]error
		lists, errs[0] = rtnl.OpenLists()
		library, errs[1] = rtnl.Open()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(lists.Close)
	t.Cleanup(library.Close)
	return lists, library
}

// What the kernel says of addresses is read as the library reads it.
func TestAddresses(t *testing.T) {
	lists, library := crowd(t)
	for _, name := range []string{"", "lo", "br7", "many"} {
		var link netlink.Link
		index := 0
		if name != "" {
			var err error
			if link, err = library.LinkByName(name); err != nil {
				t.Fatal(err)
			}
			index = link.Attrs().Index
		}
		for _, family := range []int{netlink.FAMILY_ALL, netlink.FAMILY_V4, netlink.FAMILY_V6} {
			want, err := library.AddrList(link, family)
			if err != nil {
				t.Fatal(err)
			}
			got, err := lists.Addresses(t.Context(), index, family)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("link %q, family %d:\n%+v\nwant\n%+v", name, family, got, want)
			}
			if name == "many" && len(got) < 4 {
				t.Errorf("family %d: %d addresses, which is no test", family, len(got))
			}
		}
	}
	if got, err := lists.Addresses(t.Context(), 1<<20, netlink.FAMILY_ALL); err != nil || len(got) > 0 {
		t.Errorf("of a link that is not there: %v, %v", got, err)
	}
}

// Of one link's addresses the kernel does not list all others' too: a start asks for them
// once for each network.
func TestAddressesOfOneLinkAlone(t *testing.T) {
	lists, library := crowd(t)
	link, err := library.LinkByName("br7")
	if err != nil {
		t.Fatal(err)
	}
	header := nl.NewIfAddrmsg(netlink.FAMILY_ALL)
	header.Index = uint32(link.Attrs().Index)
	told := 0
	if err := lists.Each(unix.RTM_GETADDR, unix.RTM_NEWADDR, func([]byte) { told++ }, header); err != nil {
		t.Fatal(err)
	}
	if told > 3 { // its own two, and the kernel's link-local one
		t.Errorf("the kernel told of %d addresses, want those of one link", told)
	}
	if addrs, err := lists.Addresses(t.Context(), link.Attrs().Index, netlink.FAMILY_ALL); err != nil || len(addrs) < 2 {
		t.Errorf("addresses %v, %v", addrs, err)
	}
}
