package doctor_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/testdoc"
)

// The page has every check as the code has it.
func TestChecksAreDocumented(t *testing.T) {
	testdoc.Generated(t, "../../docs/doctor.md", "internal/doctor", checks())
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
	// A plugin that Docker has given up is enabled to it, and has to be disabled first.
	if fix := found[0].Fix; !strings.Contains(fix, "docker plugin disable -f v6net; docker plugin enable v6net") {
		t.Errorf("without a daemon the fix is %q", fix)
	}
}

// of are the findings of one check.
func of(findings []doctor.Finding, check string) []doctor.Finding {
	return slices.DeleteFunc(findings, func(f doctor.Finding) bool { return f.Check != check })
}
