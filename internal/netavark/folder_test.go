package netavark_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/v6net/v6net/internal/netavark"
	"github.com/v6net/v6net/internal/spec"
)

func TestFolderKnows(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"here": `{"name":"here","id":"aa","driver":"v6net"}`, "half": `{"name":"half","i`, "empty": "", "other": `{"name":"other","id":"bb"}`} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	ours := func(name string) spec.Network { return spec.Network{ID: "aa", Name: name, FrontEnd: netavark.FrontEnd} }
	for _, tc := range []struct {
		name    string
		network spec.Network
		want    bool
		fails   bool
	}{
		{"there", ours("here"), true, false},
		{"away", ours("away"), false, false},
		{"being written", ours("half"), true, false},
		{"just made", ours("empty"), true, false},
		{"another of its name", ours("other"), false, false},
		{"unreadable", ours("folder"), false, true},
		{"Docker's", spec.Network{ID: "aa"}, true, false},
	} {
		got, err := netavark.Networks(dir).Knows(tc.network)
		if got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s: %t, %v, want %t, and an error: %t", tc.name, got, err, tc.want, tc.fails)
		}
	}
	if _, err := netavark.Networks(filepath.Join(dir, "away")).Knows(ours("here")); err == nil {
		t.Error("without the folder it is known that a network is gone")
	}
}
