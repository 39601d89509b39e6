package ndppd

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func rule(link, prefix string) Rule { return Rule{link, netip.MustParsePrefix(prefix)} }

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []Rule
		errs []string
	}{
		"static rules": {`# comment
route-ttl 30000 // as shipped
proxy eth0 {
   router yes
   timeout 500
   ttl 30000
   rule 2001:db8:1::/64 {
      static
   }
   rule 2001:db8::5 { static }
}
proxy eth1
{ rule 2001:db8:2::7/64 { autovia no; static } }
`, []Rule{rule("eth0", "2001:db8:1::/64"), rule("eth0", "2001:db8::5/128"), rule("eth1", "2001:db8:2::/64")}, nil},
		"quotes":         {"proxy \"eth0\" {\n rule '2001:db8::5' { static }\n}", []Rule{rule("eth0", "2001:db8::5/128")}, nil},
		"block comments": {"/* a\n b */ proxy eth0 { /* c */ rule 2001:db8::/32 { static } }", []Rule{rule("eth0", "2001:db8::/32")}, nil},
		"asks elsewhere": {"proxy eth0 {\n rule 2001:db8::/64 {\n  auto\n }\n rule 2001:db8:1::/64 {\n iface eth1\n }\n}\n", nil, []string{
			"line 3: auto: v6net does not ask on another interface whether 2001:db8::/64 is there",
			"line 6: iface eth1: v6net does not ask on another interface whether 2001:db8:1::/64 is there",
		}},
		"what v6net does not do": {"proxy eth0 {\n router no\n autowire yes\n promiscuous yes\n rule 2001:db8::/64 {\n static\n autovia yes\n}\n}", []Rule{rule("eth0", "2001:db8::/64")}, []string{
			"line 2: router no", "line 3: autowire yes", "line 4: promiscuous yes", "line 7: autovia yes",
		}},
		"mistakes": {"prox eth0\nproxy eth0\nrule 192.0.2.0/24 { static }\nproxy eth1 {\nfoo 1\nrule 192.0.2.0/24 { static }\nrule 2001:db8::/64 { }\nrule 2001:db8::/64 { dynamic }", nil, []string{
			"line 1: prox eth0: unknown setting", "line 2: proxy eth0: an opening brace must follow", "line 5: foo 1: unknown setting of a proxy",
			"line 6: rule 192.0.2.0/24: not an IPv6 prefix", "line 7: rule 2001:db8::/64: a rule must say static", "line 8: dynamic: unknown setting of a rule",
			"line 4: proxy eth1: no closing brace",
		}},
		"what is nobody's": {"proxy eth0 {\n rule ::/0 { static }\n rule fe80::1 { static }\n rule fd00::/8 { static }\n}", []Rule{rule("eth0", "fd00::/8")}, []string{
			"line 2: rule ::/0: ::/0 has to do with fe80::/10", "line 3: rule fe80::1: fe80::1/128 has to do with fe80::/10", "--addresses",
		}},
		"nothing": {"", nil, []string{"no rule"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(strings.NewReader(c.text))
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if (err == nil) != (c.errs == nil) {
				t.Fatalf("error %v, want %q", err, c.errs)
			}
			for _, want := range c.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no error says %q:\n%v", want, err)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("proxy eth0 { rule 2001:db8::/64 { static } }")
	f.Add("proxy a { rule b { iface c } ")
	f.Add("/* x */ } { ;")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Parse(strings.NewReader(text))
		if len(rules) == 0 && err == nil {
			t.Error("neither rules nor an error")
		}
	})
}
