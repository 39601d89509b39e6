package ra

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Who watches is told what goes out, what comes, and what was wrong with it.
func TestWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.Advertise(web())
		l.after(time.Minute)
		told := l.events.all()
		if len(told) == 0 || told[0].What != "sent" || told[0].Destination != allNodes || told[0].Source != addr("fe80::1:1:2:3") ||
			told[0].MAC != spec.MAC(mac) || told[0].Advertisement == nil || len(told[0].Advertisement.Prefixes) != len(web().Prefixes) {
			t.Fatalf("told of the first advertisement: %+v", told)
		}
		check := func(what, reason, source string, full bool) {
			t.Helper()
			all := l.events.all()
			got := all[len(all)-1]
			if got.Type != spec.EventRA || got.What != what || got.Reason != reason || got.Source != addr(source) || got.Link != "br0" || (got.Advertisement != nil) != full {
				t.Errorf("told %+v, want %s %s from %s", got, what, reason, source)
			}
		}
		l.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0}, addr("fe80::5"), 255)
		check("solicited", "", "fe80::5", false)
		l.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0}, addr("fe80::6"), 64)
		check("ignored", "wrong_hop_limit", "fe80::6", false)
		l.advertise(l.link, "fe80::7", spec.Advertisement{RouterLifetime: 1800})
		check("heard", "", "fe80::7", true)
		l.Withdraw(t.Context(), "br0")
		l.after(time.Minute)
		check("withdrawn", "", "fe80::1:1:2:3", true)
		l.stop()
	})
}
