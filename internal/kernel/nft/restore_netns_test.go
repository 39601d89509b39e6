//go:build netns

package nft

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/testnet"
)

// What others remove of ours comes back, and theirs stays as they left it; after Remove
// nothing comes back.
func TestRestored(t *testing.T) { eachBackend(t, testRestored) }

func testRestored(t *testing.T, b backend) {
	host := b.host(t, "host")
	b.rules(t, host, docker...)
	b.makeTables(t, host)
	before := b.snapshot(t, host)
	f := b.open(t, host)
	watch(t, f)
	apply(t, f, small())
	applied := b.snapshot(t, host)
	harms := [][]string{{"-D FORWARD -m mark --mark 0x1000/0x1000 -m comment --comment v6net -j ACCEPT"}}
	if !b.frames {
		harms = append(harms, []string{"-t mangle -F v6net-forward"}, []string{"-t mangle -I v6net-inbound -j RETURN"},
			[]string{"-t mangle -D FORWARD -m comment --comment v6net -j v6net-forward"},
			[]string{"-t nat -D POSTROUTING -m comment --comment v6net -j v6net-postrouting", "-t nat -F v6net-postrouting"})
	}
	for _, harm := range harms {
		b.rules(t, host, harm...)
		testnet.Eventually(t, longest, "restored after "+harm[0], func() bool { return b.snapshot(t, host) == applied })
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.rules(t, host, "-A DOCKER-USER -p tcp --dport 25 -j DROP", "-D DOCKER-USER -p tcp --dport 25 -j DROP")
	time.Sleep(5 * settleTime)
	if diff := cmp.Diff(before, b.snapshot(t, host)); diff != "" {
		t.Errorf("after Remove (-before +after):\n%s", diff)
	}
}
