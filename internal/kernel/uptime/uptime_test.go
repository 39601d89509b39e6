package uptime

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// It is the kernel's own, which counts in hundredths of a second.
func TestNow(t *testing.T) {
	before := Now()
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	after := Now()
	seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	said := time.Duration(seconds * float64(time.Second))
	if said < before-10*time.Millisecond || said > after+time.Millisecond {
		t.Errorf("the kernel says %s, between %s and %s", said, before, after)
	}
}
