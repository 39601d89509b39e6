//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestGlobalAddress(t *testing.T) {
	s := newScene(t)
	s.self.Run(t, "ip", "address", "del", "2001:db8::2/64", "dev", "eth0")
	s.finds(t, "global_address", doctor.Warning, "eth0")
	s.self.AddAddress(t, "fd00::2/64", "eth0") // which is no global one
	s.finds(t, "global_address", doctor.Warning, "eth0")
	s.self.AddAddress(t, "2001:db8::2/64", "eth0")
	s.mended(t, "global_address")
}
