// Package testdoc holds pages of the documentation against the code that a part of
// them is made of, and reads their blocks of commands, which test/engine runs.
package testdoc

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is made of the code into the documentation")

// Generated checks that a page has text between the two lines that mark what a
// package's test makes; with -update it writes it there.
func Generated(t *testing.T, page, pkg, text string) {
	t.Helper()
	command := fmt.Sprintf("go test ./%s -update", pkg)
	begin, end := fmt.Sprintf("<!-- from here: %s -->\n", command), "<!-- up to here -->\n"
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(got), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %q and %q", page, begin, end)
	}
	want := before + begin + text + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, string(got)); diff != "" && !*update {
		t.Errorf("%s (-want +got); %s writes it:\n%s", page, command, diff)
	}
}
