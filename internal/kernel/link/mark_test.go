package link

import (
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

func TestMarkMAC(t *testing.T) {
	seen := map[string]string{}
	for _, alias := range []string{"", spec.NetworkAlias("3f2a"), spec.NetworkAlias("3f2b"), spec.EndpointAlias("3f2a")} {
		mac := markMAC(alias)
		if len(mac) != 6 || mac[0]&1 != 0 || mac[0]&2 == 0 {
			t.Errorf("%q: %s is not unicast and locally administered", alias, mac)
		}
		if mac.String() != markMAC(alias).String() {
			t.Errorf("%q: not the same every time", alias)
		}
		if other, ok := seen[mac.String()]; ok {
			t.Errorf("%q and %q have the same %s", alias, other, mac)
		}
		seen[mac.String()] = alias
	}
}
