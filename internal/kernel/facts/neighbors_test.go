package facts

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/kernel/sysctl"
)

// The limit of the table, which all namespaces share, is read.
func TestNeighborLimits(t *testing.T) {
	root := t.TempDir()
	h := Host{Sysctls: sysctl.New(root)}
	for _, family := range []string{"ipv4", "ipv6"} {
		dir := filepath.Join(root, "net", family, "neigh/default")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"gc_thresh2", "gc_thresh3"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("77\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var f doctor.Facts
	if err := h.sysctls(t.Context(), &f); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"net/ipv4/neigh/default/gc_thresh2", "net/ipv4/neigh/default/gc_thresh3", "net/ipv6/neigh/default/gc_thresh2", "net/ipv6/neigh/default/gc_thresh3"} {
		if f.Sysctls[key] != "77" {
			t.Errorf("%s is read as %q", key, f.Sysctls[key])
		}
	}
}

// What processors have counted is added, and the entries of the one table are not.
func TestNeighbors(t *testing.T) {
	h := Host{Proc: t.TempDir()}
	look := func() (map[string]doctor.NeighborTable, error) {
		var f doctor.Facts
		err := h.neighbors(t.Context(), &f)
		return f.Neighbors, err
	}
	if got, err := look(); err != nil || len(got) > 0 {
		t.Errorf("in a namespace of its own: %v, %v", got, err)
	}
	dir := filepath.Join(h.Proc, "thread-self/net/stat")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "ndisc_cache"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	say("entries  allocs   table_fulls\n0000000b 000543c3 00000010\n0000000b 00055ac5 00000002\n")
	got, err := look()
	if diff := cmp.Diff(map[string]doctor.NeighborTable{"ipv6": {Entries: 11, Full: 18}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, text := range []string{"entries\nxyz\n", "entries\n0 0\n"} {
		say(text)
		if got, err := look(); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
