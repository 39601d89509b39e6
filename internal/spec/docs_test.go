package spec

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testdoc"
)

// row is a line of a table in docs/options.md: the keys of its first cell, and its
// second cell.
type row struct {
	keys   []string
	values string
}

var quoted = regexp.MustCompile("`([^`]+)`")

// rows are the table's under a heading of docs/options.md.
func rows(t *testing.T, heading string) (list []row) {
	t.Helper()
	page, err := os.ReadFile("../../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/options.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `") {
			list = append(list, row{inQuotes(cells[1]), cells[2]})
		}
	}
	return list
}

func inQuotes(cell string) (list []string) {
	for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
		list = append(list, match[1])
	}
	return list
}

// The page has the options that there are, with the values that they may have.
func TestOptionsAreDocumented(t *testing.T) {
	documented(t, "Network options", knownOptions(), func(key, value string) error {
		_, err := ParseOptions(map[string]string{key: value})
		return err
	})
	documented(t, "IPAM options", PoolOptions, func(key, value string) error {
		_, err := ParsePoolRequest(true, "", "", map[string]string{key: value})
		return err
	})
}

// listed is what is allowed where that is a list of words.
var listed = regexp.MustCompile(`^[a-z0-9-]+(, [a-z0-9-]+)+$`)

func documented(t *testing.T, heading string, known []string, parse func(key, value string) error) {
	t.Helper()
	var seen []string
	for _, r := range rows(t, heading) {
		values := inQuotes(r.values)
		for _, key := range r.keys {
			seen = append(seen, key)
			var refused *OptionError
			if err := parse(key, "no such: value"); !errors.As(err, &refused) {
				t.Errorf("docs/options.md has %s: %v", key, err)
			} else if listed.MatchString(refused.Allowed) {
				for _, value := range strings.Split(refused.Allowed, ", ") {
					if !slices.Contains(values, value) {
						t.Errorf("docs/options.md does not say that %s may be %q", key, value)
					}
				}
				for _, value := range values {
					if !slices.Contains(known, value) && !slices.Contains(strings.Split(refused.Allowed, ", "), value) {
						t.Errorf("docs/options.md says that %s may be %q, allowed are %s", key, value, refused.Allowed)
					}
				}
			}
		}
	}
	for _, key := range known {
		if !slices.Contains(seen, key) {
			t.Errorf("docs/options.md has no row for %s under %q", key, heading)
		}
	}
}

// What `v6net status --json` and `v6net watch --json` print is documented as it is in the code.
func TestJSONIsDocumented(t *testing.T) {
	testdoc.Generated(t, "../../docs/watch.md", "internal/spec", testdoc.JSON(t, ".", "Event"))
	testdoc.Generated(t, "../../docs/status.md", "internal/spec", testdoc.JSON(t, ".", "Status"))
}
