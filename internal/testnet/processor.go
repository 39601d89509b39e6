package testnet

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// Processor is what the machine's is called, or its architecture where it has no name.
func Processor(t testing.TB) string {
	t.Helper()
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
