package spec

import (
	"os"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testdoc"
)

func TestOptionsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range append(knownOptions(), PoolOptions...) {
		if !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("docs/options.md does not name the option %s", key)
		}
	}
}

// What `v6net status --json` and `v6net watch --json` print is documented as it is in the code.
func TestJSONIsDocumented(t *testing.T) {
	testdoc.Generated(t, "../../docs/watch.md", "internal/spec", testdoc.JSON(t, ".", "Event"))
	testdoc.Generated(t, "../../docs/status.md", "internal/spec", testdoc.JSON(t, ".", "Status"))
}
