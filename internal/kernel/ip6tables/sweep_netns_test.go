//go:build netns

package ip6tables

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// Rules that cannot be removed, since the programs are gone, are told of; and none where
// there are none.
func TestSweepWithoutPrograms(t *testing.T) {
	testnet.Self(t)
	was := folders
	t.Cleanup(func() { folders = was })
	sweep := func(want ...string) {
		t.Helper()
		folders = nil
		defer func() { folders = was }()
		err := func() error {
			t.Setenv("PATH", t.TempDir())
			return Sweep(t.Context(), nil)
		}()
		if err == nil && len(want) > 0 || err != nil && len(want) == 0 {
			t.Errorf("Sweep: %v, want of %q", err, want)
		}
		for _, s := range want {
			if err != nil && !strings.Contains(err.Error(), s) {
				t.Errorf("Sweep: %v, want of %s", err, s)
			}
		}
	}
	programs := map[string]string{}
	for _, name := range []string{"ip6tables-nft", "iptables-legacy"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		programs[name] = path
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(programs[name], args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	sweep()
	run("ip6tables-nft", "-t", "mangle", "-N", "SOMEBODYS")
	sweep()
	run("ip6tables-nft", "-t", "mangle", "-N", "v6net-forward")
	sweep("iptables-nft")
	run("iptables-legacy", "-t", "mangle", "-N", "v6net-forward")
	sweep("iptables-nft", "iptables-legacy")
}
