package firewall

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// packetOf is hexadecimal digits with spaces, as bytes.
func packetOf(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The addresses of the packets below.
const (
	v6Ends = "20010db8000000000000000000000009 20010db8000100000000000000000005"
	v4Ends = "c0000209 ac120005"
)

func TestReadHeaders(t *testing.T) {
	from6, to6, from4, to4 := address("2001:db8::9"), address("2001:db8:1::5"), address("192.0.2.9"), address("172.18.0.5")
	kind := func(n uint8) *uint8 { return &n }
	for name, tc := range map[string]struct {
		ether  uint16
		packet string
		want   spec.Headers
	}{
		"TCP": {etherIPv6, "60000000 0014 06 40" + v6Ends + "d431 01bb 00000001 00000000", spec.Headers{From: from6, To: to6, Protocol: "tcp", FromPort: 54321, ToPort: 443}},
		"UDP in IPv4 with options": {etherIPv4, "46000020 00000000 4011 0000" + v4Ends + "94040000" + "0035 d431 000c 0000",
			spec.Headers{From: from4, To: to4, Protocol: "udp", FromPort: 53, ToPort: 54321}},
		"ping": {etherIPv6, "60000000 0008 3a 40" + v6Ends + "80 00 0000 00000000", spec.Headers{From: from6, To: to6, Protocol: "icmpv6", Type: kind(128)}},
		"SCTP behind extension headers": {etherIPv6, "60000000 0028 00 40" + v6Ends + "3c 00 000000000000" + "33 00 000000000000" + "2c 01 0000 00000001 00000001" + "84 00 0001 00000001" + "1388 1389",
			spec.Headers{From: from6, To: to6, Protocol: "sctp", FromPort: 5000, ToPort: 5001}},
		"a later fragment":               {etherIPv6, "60000000 0010 2c 40" + v6Ends + "11 00 0008 00000001" + "1388 1389 00000000", spec.Headers{From: from6, To: to6, Protocol: "udp"}},
		"a later fragment in IPv4":       {etherIPv4, "45000020 00000001 4006 0000" + v4Ends + "1388 1389", spec.Headers{From: from4, To: to4, Protocol: "tcp"}},
		"cut off in an extension header": {etherIPv6, "60000000 0028 00 40" + v6Ends + "06 ff 0000", spec.Headers{From: from6, To: to6, Protocol: "protocol 0"}},
		"cut off before its ports":       {etherIPv6, "60000000 0014 06 40" + v6Ends + "d4", spec.Headers{From: from6, To: to6, Protocol: "tcp"}},
		"a header length of nothing":     {etherIPv4, "40000020 00000000 4006 0000" + v4Ends + "1388 1389", spec.Headers{From: from4, To: to4, Protocol: "tcp"}},
		"another version":                {etherIPv6, "45000020 00000000 4006 0000" + v4Ends + v6Ends, spec.Headers{Protocol: "ipv6"}},
		"nothing":                        {etherIPv4, "", spec.Headers{Protocol: "ipv4"}},
		"ARP":                            {etherARP, "0001 0800 06 04 0001 020000000005 c0000209 000000000000 ac120005", spec.Headers{From: from4, To: to4, Protocol: "arp"}},
		"another protocol":               {0x8863, "1109", spec.Headers{Protocol: "ethertype 0x8863"}},
		"ESP":                            {etherIPv6, "60000000 0014 32 40" + v6Ends + "00000001", spec.Headers{From: from6, To: to6, Protocol: "protocol 50"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ReadHeaders(tc.ether, packetOf(t, tc.packet)), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever somebody sends is read, or is not, and no more than that.
func FuzzReadHeaders(f *testing.F) {
	f.Add(uint16(etherIPv6), packetOf(f, "60000000 0014 06 40"+v6Ends+"d431 01bb 00000001 00000000"))
	f.Add(uint16(etherIPv6), packetOf(f, "60000000 0028 00 40"+v6Ends+"33 00 000000000000"+"2c 01 0000 00000001 00000001"+"06 00 0001 00000001"))
	f.Add(uint16(etherIPv4), packetOf(f, "46000020 00000000 4011 0000"+v4Ends+"94040000"+"0035 d431 000c 0000"))
	f.Add(uint16(etherARP), packetOf(f, "0001 0800 06 04 0001 020000000005 c0000209 000000000000 ac120005"))
	f.Fuzz(func(t *testing.T, ether uint16, b []byte) {
		h := ReadHeaders(ether, b)
		if h.Protocol == "" || strings.ContainsAny(h.Protocol, "\n\x00") {
			t.Errorf("protocol %q", h.Protocol)
		}
		if h.From.IsValid() != h.To.IsValid() || h.From.IsValid() && len(b) < 20 {
			t.Errorf("%v to %v in %d bytes", h.From, h.To, len(b))
		}
		if (h.FromPort != 0 || h.ToPort != 0) && h.Protocol != "tcp" && h.Protocol != "udp" && h.Protocol != "sctp" {
			t.Errorf("ports of %s", h.Protocol)
		}
	})
}

// What rules say for the log can be read back, and is what the reason is in words.
func TestParseLogPrefix(t *testing.T) {
	l := logging(DefaultLogGroup)
	told := 0
	for _, c := range append(append(chains(wanted{log: l}), senderChains(l)...), routedTable(l).Chains...) {
		for _, rule := range c.Rules {
			_, text, tells := strings.Cut(rule, `log prefix "`)
			if !tells {
				continue
			}
			told++
			prefix, _, _ := strings.Cut(text, `"`)
			inward, why, ok := ParseLogPrefix(prefix)
			if !ok || why.Words() == "" || inward != strings.HasPrefix(rule, "oifname") {
				t.Errorf("rule %q: inward %v, why %q, %v", rule, inward, why, ok)
			}
			if len(prefix) > 63 { // NF_LOG_PREFIXLEN of xt_NFLOG, less the final zero
				t.Errorf("prefix %q is too long for ip6tables", prefix)
			}
		}
	}
	if told < 10 {
		t.Errorf("%d rules tell", told)
	}
	for _, other := range []string{"", "v6net-", "v6net-in-", "v6net-in-else", "nobody", "v6net-out-forged "} {
		if _, _, ok := ParseLogPrefix(other); ok {
			t.Errorf("prefix %q is one of ours", other)
		}
	}
}
