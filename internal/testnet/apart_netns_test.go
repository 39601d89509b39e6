//go:build netns

package testnet_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// apartEnv has this package's tests run in processes of their own, by these patterns.
const apartEnv = "V6NET_TEST_APART"

func TestMain(m *testing.M) {
	if patterns := os.Getenv(apartEnv); patterns != "" {
		testnet.MainApart(m, strings.Fields(patterns)...)
	}
	testnet.Main(m)
}

// Tests that run apart are hosts of their own, which need not know of each other, and one that
// fails is not overlooked; nor is a pattern that no test matches.
func TestApart(t *testing.T) {
	if os.Getenv(apartEnv) != "" {
		t.Fatal("this is the one that fails")
	}
	run := func(patterns string) []string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v=true", "-test.parallel=4")
		cmd.Env = append(os.Environ(), apartEnv+"="+patterns, "V6NET_TESTNET=")
		out, err := cmd.CombinedOutput()
		var status *exec.ExitError
		if !errors.As(err, &status) || status.ExitCode() != 1 {
			t.Errorf("%s: %v, want status 1\n%s", patterns, err, out)
		}
		return strings.Split(string(out), "\n")
	}
	said := func(lines []string, word string) (n int) {
		for _, l := range lines {
			if before, _, _ := strings.Cut(l, " ("); before == word {
				n++
			}
		}
		return n
	}
	lines := run("^TestRouter$ ^TestSelfIsANewHost$ ^TestConnectedHostsReachEachOther$")
	for word, times := range map[string]int{
		"--- PASS: TestRouter": 1, "--- PASS: TestSelfIsANewHost": 1, "--- PASS: TestConnectedHostsReachEachOther": 1,
		"--- PASS: TestOrphansAreReaped": 1, "--- FAIL: TestApart": 1, "FAIL": 1, "PASS": 0,
	} {
		if got := said(lines, word); got != times {
			t.Errorf("%q is said %d times, want %d:\n%s", word, got, times, strings.Join(lines, "\n"))
		}
	}
	if lines := run("^TestRouter$ ^TestNobody$"); !slices.ContainsFunc(lines, func(l string) bool {
		return strings.Contains(l, "TestNobody") && strings.Contains(l, "there are none")
	}) {
		t.Errorf("that a pattern matches none is not said:\n%s", strings.Join(lines, "\n"))
	}
}
