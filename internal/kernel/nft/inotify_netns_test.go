//go:build netns

package nft

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"
)

// Where all of the machine's inotify watches are in use (fs.inotify.max_user_watches) the
// firewall works all the same. The limit is lowered in a user namespace of the test's own.
func TestNoMoreInotifyWatches(t *testing.T) {
	const inside = "V6NET_TEST_INSIDE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("unshare", "-Urn", "sh", "-c", `echo 0 >/proc/sys/user/max_inotify_watches; exec "$0" -test.run ^TestNoMoreInotifyWatches$`, os.Args[0])
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	f, err := New(slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
