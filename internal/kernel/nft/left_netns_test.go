//go:build netns

package nft

import (
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// Rules of ip6tables that cannot be removed, since iptables is gone, cut a container off
// that comes later. Once they should be gone they are obstacles.
func TestLeftByIP6Tables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := s.config
	before.Networks = slices.Clone(before.Networks)
	before.Networks[0].Live, before.Networks[0].Published = nil, nil // web's container is not there yet
	apply(t, backends[1].open(t, s.host), before)
	f := open(t, s.host)
	apply(t, f, s.config)
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", false)
	if found := obstacles(t, f); len(found) > 0 {
		t.Errorf("before the sweep there are obstacles: %v", found)
	}
	if err := f.Swept(); err != nil {
		t.Fatal(err)
	}
	found := obstacles(t, f)
	for _, family := range []string{"ip", "ip6"} {
		if !slices.ContainsFunc(found, func(o spec.Obstacle) bool {
			return o.Table == family+" mangle" && o.Chain == "FORWARD" && strings.Contains(o.Fix, "install iptables")
		}) {
			t.Errorf("what is left of %s is no obstacle: %v", family, found)
		}
	}
}
