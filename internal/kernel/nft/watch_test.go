package nft

import (
	"encoding/binary"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// event is a message about a table, as nf_tables multicasts it.
func event(kind uint16, family byte, table string) netlink.Message {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: []byte(table + "\x00")}})
	if err != nil {
		panic(err)
	}
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)},
		Data:   append([]byte{family, 0, 0, 0}, attributes...),
	}
}

func TestChangeOf(t *testing.T) {
	ours, foreign, obstacle := change{table: true}, change{chain: true}, change{other: true}
	for _, tc := range []struct {
		name  string
		event netlink.Message
		want  change
	}{
		{"our table", event(unix.NFT_MSG_DELTABLE, unix.NFPROTO_INET, "v6net"), ours},
		{"our element", event(unix.NFT_MSG_NEWSETELEM, unix.NFPROTO_INET, "v6net"), ours},
		{"our table of IPv4", event(unix.NFT_MSG_DELTABLE, unix.NFPROTO_IPV4, "v6net"), ours},
		{"our name in another family", event(unix.NFT_MSG_NEWRULE, unix.NFPROTO_IPV6, "v6net"), obstacle},
		{"iptables' rule", event(unix.NFT_MSG_DELRULE, unix.NFPROTO_IPV4, "filter"), foreign},
		{"ip6tables' chain", event(unix.NFT_MSG_NEWCHAIN, unix.NFPROTO_IPV6, "filter"), foreign},
		{"somebody's table", event(unix.NFT_MSG_NEWTABLE, unix.NFPROTO_INET, "filter"), change{}},
		{"iptables' nat table", event(unix.NFT_MSG_NEWRULE, unix.NFPROTO_IPV4, "nat"), obstacle},
		{"a generation", event(unix.NFT_MSG_NEWGEN, unix.NFPROTO_INET, "v6net"), change{}},
		{"another subsystem", netlink.Message{Header: netlink.Header{Type: 1<<8 | 1}, Data: make([]byte, 8)}, change{}},
		{"nothing", netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES << 8}}, change{}},
		{"an attribute that is cut off", netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELRULE}, Data: []byte{2, 0, 0, 0, 255, 0, 1, 0},
		}, change{table: true, chain: true}},
	} {
		if got := changeOf(tc.event); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// The kernel queues the events of others and not our own.
func TestOwnEventsAreFiltered(t *testing.T) {
	const own = 0x01020304
	vm, err := bpf.NewVM(notFrom(own))
	if err != nil {
		t.Fatal(err)
	}
	for id, wanted := range map[uint32]bool{own: false, own + 1: true, 0x04030201: true, 0: true} {
		header := make([]byte, unix.SizeofNlMsghdr)
		binary.NativeEndian.PutUint32(header[12:], id)
		passed, err := vm.Run(header)
		if err != nil {
			t.Fatal(err)
		}
		if got := passed > 0; got != wanted {
			t.Errorf("event of port %#x passes: %v, want %v", id, got, wanted)
		}
	}
}
