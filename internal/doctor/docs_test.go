package doctor_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/doctor"
)

var update = flag.Bool("update", false, "write the checks into docs/doctor.md")

const (
	page  = "../../docs/doctor.md"
	begin = "<!-- from here: go test ./internal/doctor -update -->\n"
	end   = "<!-- up to here -->\n"
)

// The page has every check as the code has it.
func TestChecksAreDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %q and %q", page, begin, end)
	}
	want := before + begin + checks() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, string(text)); diff != "" && !*update {
		t.Errorf("%s (-want +got); go test ./internal/doctor -update writes it:\n%s", page, diff)
	}
}

// checks are all of them in Markdown.
func checks() string {
	var b strings.Builder
	for _, c := range doctor.Checks() {
		a := c.About()
		fmt.Fprintf(&b, "\n### %s\n\n- **Symptom:** %s.\n- **Why:** %s.\n- **Fix:** %s.\n", a.Name, a.Symptom, a.Why, a.Fix)
	}
	return b.String() + "\n"
}

// A check has a name of its own, and something to say.
func TestChecksSayWhatTheyAreAbout(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range doctor.Checks() {
		a := c.About()
		if a.Name == "" || a.Symptom == "" || a.Why == "" || a.Fix == "" || seen[a.Name] {
			t.Errorf("%T: %+v", c, a)
		}
		seen[a.Name] = true
	}
}

// Nothing known is nothing found, but that nobody answers.
func TestNothingKnown(t *testing.T) {
	found := doctor.Examine(doctor.Facts{NoDaemon: "none answers"})
	if len(found) != 2 || found[0].Check != "daemon" || found[1].Check != "default_route" {
		t.Errorf("found %+v", found)
	}
}
