//go:build netns

package testnet

import (
	"os"
	"strings"
	"testing"
)

// Tests see how many neighbours the machine's kernel has had no room for.
func TestNeighbourStatistics(t *testing.T) {
	text, err := os.ReadFile(neighbourStatistics)
	if err != nil || !strings.HasPrefix(string(text), "entries ") || !strings.HasSuffix(strings.SplitN(string(text), "\n", 2)[0], "table_fulls") {
		t.Errorf("%v:\n%s", err, text)
	}
}
