package testnet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Eventually waits until ok, for most at the longest; then the test fails, and says
// what has not come about.
func Eventually(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	refused := refusedNeighbours()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			if n := refusedNeighbours() - refused; n > 0 {
				what += fmt.Sprintf("; meanwhile the kernel had no room for %d neighbours: all namespaces share net.ipv6.neigh.default.gc_thresh3, and another test may have used it up", n)
			}
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}

// neighbourStatistics is where the tests find what the kernel says of its table of IPv6
// neighbours, which all namespaces share. Only the first namespace shows it.
const neighbourStatistics = "/run/ndisc_cache"

// refusedNeighbours is how many neighbours the kernel has had no room for since its boot
// (table_fulls, net/core/neighbour.c); zero where it does not say.
func refusedNeighbours() (n uint64) {
	text, err := os.ReadFile(neighbourStatistics)
	if err != nil {
		return 0
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, processor := range lines[1:] { // after what the columns are
		words := strings.Fields(processor)
		refused, _ := strconv.ParseUint(words[len(words)-1], 16, 64)
		n += refused
	}
	return n
}
