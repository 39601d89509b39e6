package prefix

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUsable(t *testing.T) {
	now := time.Now()
	lent := delegations("fd00:1::/56", "2001:db8:1::/56", "2001:db8:2::/56", "2001:db8:3::/56", "2001:db8:4::/56")
	lent[1].Preferred = now.Add(time.Hour)
	lent[2].Preferred, lent[2].OnLink = now.Add(2*time.Hour), true
	lent[3].Preferred = now.Add(2 * time.Hour)
	lent[4].Preferred = now
	var got []string
	for _, d := range Usable(lent, now) {
		got = append(got, d.Prefix.String())
	}
	want := []string{"2001:db8:3::/56", "2001:db8:2::/56", "2001:db8:1::/56", "fd00:1::/56"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the best first (-want +got):\n%s", diff)
	}
	// What a machine's own address leaves of its sixteen: the larger part.
	if best := Usable(delegations("2001:db8::4/126", "2001:db8::8/125"), now)[0]; best.Prefix.Bits() != 125 {
		t.Errorf("the best of a /126 and a /125 is %s", best.Prefix)
	}
}
