package pd

import (
	"strings"
	"testing"
)

func TestParseDUID(t *testing.T) {
	for _, text := range []string{"00:03:00:01:02:00:5e:10:00:01", "0003000102005E100001"} {
		if duid, err := ParseDUID(text); err != nil || string(duid) != "\x00\x03\x00\x01\x02\x00\x5e\x10\x00\x01" {
			t.Errorf("%s: %x, %v", text, duid, err)
		}
	}
	for _, text := range []string{"", "00:03", "0:3:0:1", "eth0", strings.Repeat("00", 131)} {
		if duid, err := ParseDUID(text); err == nil {
			t.Errorf("%q: taken as %x", text, duid)
		}
	}
}
