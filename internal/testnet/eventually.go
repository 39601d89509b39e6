package testnet

import (
	"testing"
	"time"
)

// Eventually waits until ok, for most at the longest; then the test fails, and says
// what has not come about.
func Eventually(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}
