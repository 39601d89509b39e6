//go:build netns

package nft

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// watch runs Watch until the end of the test.
func watch(t testing.TB, f kernel) {
	t.Helper()
	testnet.Running(t, "Watch", f.Watch)
}

// generation counts the changes of a host's ruleset.
func generation(t testing.TB, f *Firewall) uint32 {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	msgs, err := f.socket.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, 4), // struct nfgenmsg
	})
	if err != nil || len(msgs) != 1 {
		t.Fatalf("read generation: %d messages, %v", len(msgs), err)
	}
	attributes, err := netlink.NewAttributeDecoder(msgs[0].Data[4:])
	if err != nil {
		t.Fatal(err)
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			return attributes.Uint32()
		}
	}
	t.Fatal("no generation ID")
	return 0
}

// settled waits until nothing has changed for a while.
func settled(t testing.TB, f *Firewall) {
	t.Helper()
	deadline := time.Now().Add(longest)
	for last := generation(t, f); ; {
		time.Sleep(3 * settleTime)
		now := generation(t, f)
		if now == last {
			return
		}
		if last = now; time.Now().After(deadline) {
			t.Fatal("the ruleset changes without end")
		}
	}
}

// Whatever another program does to our rules, they come back, and theirs stay
// as they left them.
func TestWatchRestores(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		harm  [][]string
		clean bool // what is left is our table alone
	}{
		{"our rule deleted", [][]string{{"iptables", "-F", "FORWARD"}, {"ip6tables", "-F", "FORWARD"}}, false},
		{"forward chain flushed", [][]string{{"iptables", "-F"}, {"ip6tables", "-F"}}, false},
		{"docker's chain deleted", [][]string{{"iptables", "-F"}, {"iptables", "-X"}}, false},
		{"table deleted", [][]string{{"nft", "delete table inet v6net"}}, false},
		{"chain flushed", [][]string{{"nft", "flush chain inet v6net forward"}}, false},
		{"table of IPv4 deleted", [][]string{{"nft", "delete table ip v6net"}}, false},
		{"table of the bridges deleted", [][]string{{"nft", "delete table bridge v6net"}}, false},
		{"sender added", [][]string{{"nft", "add element bridge v6net unguarded { v6nvaaaaaaaaaaa }"}}, false},
		{"rule inserted", [][]string{{"nft", "insert rule inet v6net forward accept"}}, false},
		{"element added", [][]string{{"nft", `add element inet v6net open6 { "v6naaaaaaaaaaaa" }`}}, false},
		{"everything flushed", [][]string{{"nft", "flush ruleset"}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			host, judge := testnet.New(t, "host"), testnet.New(t, "judge")
			policyDrop(t, host)
			dockerUser(t, host)
			f := open(t, host)
			watch(t, f)
			apply(t, f, everything())
			settled(t, f)

			policyDrop(t, judge)
			dockerUser(t, judge)
			for _, command := range tc.harm {
				if command[0] != "nft" {
					judge.Run(t, command...)
				}
				host.Run(t, command...)
			}
			if tc.clean {
				judge.Run(t, "nft", "flush", "ruleset")
			}
			apply(t, open(t, judge), everything())
			want := listing(t, judge)
			deadline := time.Now().Add(longest)
			for {
				got := listing(t, host)
				if got == want {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("not restored (-want +got):\n%s", cmp.Diff(want, got))
				}
				time.Sleep(10 * time.Millisecond)
			}
			settled(t, f)
		})
	}
}

// What others do to our tables after the first Apply is undone, however late Watch begins.
func TestWatchHearsWhatCameBefore(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	apply(t, f, everything())
	want := listing(t, host)
	host.Run(t, "nft", "flush chain inet v6net forward")
	if listing(t, host) == want {
		t.Fatal("nothing was flushed: the test proves nothing")
	}
	watch(t, f)
	if !eventually(func() bool { return listing(t, host) == want }) {
		t.Errorf("a chain that was flushed before Watch stays so (-want +got):\n%s", cmp.Diff(want, listing(t, host)))
	}
}

// Docker starts after us: its chains get our rule as they come.
func TestWatchSeesDockerStart(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	watch(t, f)
	apply(t, f, everything())
	policyDrop(t, host)
	dockerUser(t, host)
	deadline := time.Now().Add(longest)
	for _, iptables := range bothIPTables {
		for misplaced := "?"; misplaced != ""; misplaced = acceptMisplaced(t, host, iptables, 1) {
			if time.Now().After(deadline) {
				t.Fatal(misplaced)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	settled(t, f)
}

// Without a ruleset there is nothing to restore; after Remove there is none.
func TestWatchLeavesAloneWhatIsRemoved(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	watch(t, f)
	apply(t, f, everything())
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	policyDrop(t, host)
	dockerUser(t, host)
	before := generation(t, f)
	time.Sleep(5 * settleTime)
	if after := generation(t, f); after != before {
		t.Errorf("%d changes without a ruleset applied", after-before)
	}
}

// Our own changes are no reason to restore anything.
func TestWatchIgnoresOwnChanges(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	policyDrop(t, host)
	f := open(t, host)
	watch(t, f)
	for _, c := range []firewall.Config{{}, everything(), {}, everything()} {
		apply(t, f, c)
	}
	before := generation(t, f)
	time.Sleep(5 * settleTime)
	if after := generation(t, f); after != before {
		t.Errorf("%d changes after our own", after-before)
	}
}

// Events that were lost are taken for the worst.
func TestWatchSurvivesLostEvents(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	if err := f.events.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	watch(t, f)
	apply(t, f, everything())
	settled(t, f)
	// One commit, whose flood of events hides the one that matters.
	var script strings.Builder
	script.WriteString("add table inet noise\n")
	for i := range 1000 {
		fmt.Fprintf(&script, "add chain inet noise c%d\n", i)
	}
	script.WriteString("delete table inet v6net\n")
	file := t.TempDir() + "/flood.nft"
	if err := os.WriteFile(file, []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	host.Run(t, "nft", "-f", file)
	deadline := time.Now().Add(longest)
	for {
		if err := host.Command(t.Context(), "nft", "list", "table", "inet", firewall.Name).Run(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("table not restored")
		}
		time.Sleep(10 * time.Millisecond)
	}
	settled(t, f)
}

// Our own table is back at once: while it is gone containers are open to all. Somebody
// who deletes it again and again is answered no more often than others.
func TestOwnTableIsRestoredAtOnce(t *testing.T) {
	t.Parallel()
	for _, harm := range []string{"flush ruleset", "delete table inet v6net", "flush table inet v6net"} {
		t.Run(harm, func(t *testing.T) {
			t.Parallel()
			host := testnet.New(t, "host")
			policyDrop(t, host)
			f := open(t, host)
			f.settleTime, f.calmTime = time.Hour, time.Hour
			watch(t, f)
			apply(t, f, everything())
			want := host.Run(t, "nft", "--stateless", "list", "table", "inet", firewall.Name)
			host.Run(t, "nft", harm)
			restored := func() bool {
				out, err := host.Command(t.Context(), "nft", "--stateless", "list", "table", "inet", firewall.Name).Output()
				return err == nil && strings.TrimSpace(string(out)) == want
			}
			if !eventually(restored) {
				t.Fatal("not restored before others have settled")
			}
			settled(t, f) // bridges' table and rules among others' come one by one
			before := generation(t, f)
			for range 20 {
				host.Run(t, "nft", "add table inet v6net; delete table inet v6net")
			}
			time.Sleep(3 * settleTime)
			if after := generation(t, f); after != before+20 {
				t.Errorf("20 deletions and %d restorations", after-before-20)
			}
		})
	}
}
