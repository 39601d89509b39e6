package nft

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// Every rule that the firewall knows can be put into the kernel's terms.
// Whether they are the right terms is for nft to say: TestKernelHoldsTheText.
func TestEveryRuleCompiles(t *testing.T) {
	r, err := firewall.Build(firewall.Config{Networks: []firewall.Network{{ID: "aaaaaaaaaaaa", Bridge: "br-a", Log: true}}})
	if err != nil {
		t.Fatal(err)
	}
	table, err := newTables(r, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.encodeChains(); err != nil {
		t.Error(err)
	}
}

func TestCompile(t *testing.T) {
	sets := map[string]uint32{"published6": 7}
	got, err := compile("ip6 daddr . meta l4proto . th dport @published6 goto vouch", nftables.TableFamilyINet, sets)
	if err != nil {
		t.Fatal(err)
	}
	want := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 8},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 8, Data: []byte{unix.NFPROTO_IPV6}},
		&expr.Payload{DestRegister: 8, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 12}, // after 16 bytes
		&expr.Payload{DestRegister: 13, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 8, SetName: "published6", SetID: 7},
		&expr.Verdict{Kind: expr.VerdictGoto, Chain: "vouch"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("expressions (-want +got):\n%s", diff)
	}
}

// What the compiler does not know is an error, never another rule.
func TestCompileRefuses(t *testing.T) {
	for rule, want := range map[string]string{
		"tcp dport 80 accept":                                         `"tcp dport 80 accept" is no key`,
		"iifname @nowhere drop":                                       "no set @nowhere",
		"iifname != eth0 drop":                                        "no name in quotes",
		"ether saddr . iifname 1 drop":                                "not known here",
		"ct state new accept":                                         `"new" is no ct state`,
		"ct state established,,related accept":                        `"" is no ct state`,
		"ip daddr 2001:db8::1 drop":                                   "other address family",
		"ip daddr everywhere drop":                                    "no address or prefix",
		"fib daddr type broadcast drop":                               "no address type",
		"th dport 80 drop":                                            "not compared with values",
		"meta mark set meta mark | many accept":                       "mark",
		"dnat ip to th dport @links":                                  "after the keys",
		"iifname . oifname":                                           "not known here",
		"iifname . drop":                                              `"drop" is no key`,
		"acceptable":                                                  "no key",
		"dnat ip to meta l4proto map @nothing":                        "no set @nothing",
		"ip6 daddr ::1/129 return":                                    "no address or prefix",
		"meta oifkind . iifname bridge return":                        "not known here",
		"icmpv6 type echo goto vouch":                                 `"echo" is not known`,
		"ct state != established accept":                              "not known here",
		"udp dport 65536 drop":                                        "out of range",
		"@th,64,64 == 0x10000000000000000 drop":                       "no number of 64 bits",
		"ip6 saddr & 192.0.2.1 == ::1 drop":                           "no IPv6 address",
		"ip6 saddr & ::1 ::1 drop":                                    "after a mask",
		"ip6 saddr set ip6 daddr map @links":                          "not set to",
		"update @nothing { iifname":                                   "no set @nothing",
		"update @links iifname":                                       "after a set to update",
		"update @links { iifname counter":                             "after the keys of a set",
		"update @links { iifname limit rate 1/week":                   "limit of",
		"update @links { iifname limit rate 1/second burst 2 bytes }": "a number of packets",
		`log prefix v6net group 1`:                                    "one word in quotes",
		`log prefix "v6net" group 70000`:                              "a group's number",
		`log prefix "v6net" group 1 snaplen all`:                      "snaplen",
		"iifname set iifname map @links":                              "not set to",
		"ip6 saddr set ip6 saddr drop":                                "after the keys",
		"meta mark & lots == 0 drop":                                  "invalid syntax",
		"meta protocol vlan drop":                                     "no protocol of frames",
		"ct state established,related goto vouch x":                   "no key",
	} {
		if _, err := compile(rule, nftables.TableFamilyINet, map[string]uint32{"links": 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rule %q: error %v, want one that says %q", rule, err, want)
		}
	}
}

func TestParseValue(t *testing.T) {
	for _, tc := range []struct {
		typ, text string
		want      []byte // nil: an error
	}{
		{"ipv4_addr", "192.0.2.1", []byte{192, 0, 2, 1}},
		{"icmpv6_type", "packet-too-big", []byte{2}},
		{"ifname", `"eth0"`, []byte("eth0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
		{"inet_proto . inet_service", "sctp . 258", []byte{132, 0, 0, 0, 1, 2, 0, 0}},
		{"ipv4_addr . inet_service", "10.0.0.1 . 80", []byte{10, 0, 0, 1, 0, 80, 0, 0}},
		{"ipv4_addr", "2001:db8::1", nil},
		{"ipv6_addr", "192.0.2.1", nil},
		{"ipv6_addr", "nobody", nil},
		{"inet_service", "65536", nil},
		{"inet_proto . inet_service", "gre . 80", nil},
		{"inet_proto . inet_service", "tcp", nil},
		{"inet_service", "80 . 80", nil},
		{"ifname", `""`, nil},
		{"ifname", `"sixteen-letters-"`, nil},
	} {
		got, err := parseValue(tc.typ, tc.text)
		if (err != nil) != (tc.want == nil) || !cmp.Equal(got, tc.want) && tc.want != nil {
			t.Errorf("%s of type %s: %v, %v; want %v", tc.text, tc.typ, got, err, tc.want)
		}
	}
}

func TestEncodeInterval(t *testing.T) {
	for text, want := range map[string][2][]byte{
		"10.0.0.0/8":       {{10, 0, 0, 0}, {11, 0, 0, 0}},
		"192.0.2.1/32":     {{192, 0, 2, 1}, {192, 0, 2, 2}},
		"172.18.255.0/24":  {{172, 18, 255, 0}, {172, 19, 0, 0}},
		"255.255.255.0/24": {{255, 255, 255, 0}, nil}, // nothing comes after
	} {
		got, err := encodeInterval(text)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got[0].Key, want[0]) || got[0].IntervalEnd {
			t.Errorf("%s begins with %v, want %v", text, got[0], want[0])
		}
		switch {
		case want[1] == nil && len(got) != 1:
			t.Errorf("%s has an end: %v", text, got[1])
		case want[1] != nil && (len(got) != 2 || !cmp.Equal(got[1].Key, want[1]) || !got[1].IntervalEnd):
			t.Errorf("%s ends with %v, want %v", text, got[1:], want[1])
		}
	}
}
