package watch

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Golden messages without their nlmsghdr, little endian: rtnetlink(7).
const (
	linkEth0   = "0000 0100 07000000 43100100 00000000" + "0900 0300 6574683000 000000" // IFF_UP, IFF_LOWER_UP, IFLA_IFNAME eth0
	linkDown   = "0000 0100 07000000 02100000 00000000" + "0900 0300 6574683000 000000" // no IFF_UP
	linkNoWire = "0000 0100 07000000 03100000 00000000" + "0900 0300 6574683000 000000" // IFF_UP alone
	portEth0   = "0700 0100 07000000 43100100 00000000" + "0900 0300 6574683000 000000" // AF_BRIDGE
	address6   = "0a 40 80 00 07000000" + "1400 0100 20010db8000000000000000000000005"  // IFA_ADDRESS
	address4   = "02 18 80 00 07000000" + "0800 0100 c0000201" + "0800 0200 c0000202"   // peer 192.0.2.1, local 192.0.2.2
	route6     = "0a 40 00 00 fe 03 00 01 00000000" + "1400 0100 20010db8000000000000000000000000" + "0800 0400 07000000"
	default6   = "0a 00 00 00 fe 09 00 01 00000000" + "1400 0500 fe800000000000000000000000000001" + "0800 0400 07000000"
	default4   = "02 00 00 00 fe 03 00 01 00000000" + "0800 0500 c0000201" + "0800 0400 07000000"
	ours6      = "0a 38 00 00 fe 76 00 07 00000000" + "1400 0100 20010db8000000000000000000000000" // unreachable
	local6     = "0a 80 00 00 ff 02 00 02 00000000" + "1400 0100 20010db8000000000000000000000005" + "0800 0400 01000000"
	cloned6    = "0a 80 00 00 fe 02 00 01 00020000" + "1400 0100 20010db8000000000000000000000005" + "0800 0400 07000000"
	multicast6 = "81 80 00 00 fe 02 00 05 00000000"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		kind netlink.HeaderType
		data string
		want Event // the zero Event: not reported
	}{
		"link up":               {unix.RTM_NEWLINK, linkEth0, Event{Kind: Link, Index: 7, Link: "eth0", Up: true}},
		"link down":             {unix.RTM_NEWLINK, linkDown, Event{Kind: Link, Index: 7, Link: "eth0"}},
		"link without carrier":  {unix.RTM_NEWLINK, linkNoWire, Event{Kind: Link, Index: 7, Link: "eth0"}},
		"link deleted":          {unix.RTM_DELLINK, linkDown, Event{Kind: Link, Index: 7, Link: "eth0", Deleted: true}},
		"port left its bridge":  {unix.RTM_DELLINK, portEth0, Event{}},
		"port changed":          {unix.RTM_NEWLINK, portEth0, Event{}},
		"address":               {unix.RTM_NEWADDR, address6, Event{Kind: Address, Index: 7, Prefix: netip.MustParsePrefix("2001:db8::5/64")}},
		"address deleted":       {unix.RTM_DELADDR, address6, Event{Kind: Address, Index: 7, Deleted: true, Prefix: netip.MustParsePrefix("2001:db8::5/64")}},
		"address with peer":     {unix.RTM_NEWADDR, address4, Event{Kind: Address, Index: 7, Prefix: netip.MustParsePrefix("192.0.2.2/24")}},
		"route":                 {unix.RTM_NEWROUTE, route6, Event{Kind: Route, Index: 7, Prefix: netip.MustParsePrefix("2001:db8::/64"), Protocol: 3}},
		"default route deleted": {unix.RTM_DELROUTE, default6, Event{Kind: Route, Index: 7, Deleted: true, Prefix: netip.MustParsePrefix("::/0"), Protocol: 9}},
		"our route deleted":     {unix.RTM_DELROUTE, ours6, Event{Kind: Route, Deleted: true, Prefix: netip.MustParsePrefix("2001:db8::/56"), Protocol: 118}},
		"IPv4 default route":    {unix.RTM_NEWROUTE, default4, Event{Kind: Route, Index: 7, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Protocol: 3}},
		"local route":           {unix.RTM_NEWROUTE, local6, Event{}},
		"cloned route":          {unix.RTM_NEWROUTE, cloned6, Event{}},
		"multicast route":       {unix.RTM_NEWROUTE, multicast6, Event{}},
		"namespace gone":        {unix.RTM_DELNSID, "00000000 0800 0100 00000000", Event{Kind: Namespace, Deleted: true}},
		"namespace known":       {unix.RTM_NEWNSID, "00000000 0800 0100 00000000", Event{}},
		"something else":        {unix.RTM_NEWNEIGH, linkEth0, Event{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok, err := decode(netlink.Message{Header: netlink.Header{Type: c.kind}, Data: unhex(t, c.data)})
			if err != nil {
				t.Fatal(err)
			}
			if report := c.want != (Event{}); ok != report || ok && got != c.want {
				t.Errorf("%+v, reported %t; want %+v", got, ok, c.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	types := []uint16{unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWROUTE, unix.RTM_DELROUTE}
	for _, data := range []string{linkEth0, portEth0, address6, address4, route6, default4, multicast6} {
		for _, kind := range types {
			f.Add(kind, unhex(f, data))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		e, ok, err := decode(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: data})
		if ok && err == nil && e.Kind != Link && e.Kind != Namespace && !e.Prefix.IsValid() {
			t.Errorf("%+v has no valid prefix", e)
		}
	})
}
