package spec

import (
	"os"
	"strings"
	"testing"
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
