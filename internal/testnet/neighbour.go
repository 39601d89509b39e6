package testnet

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// MAC is the link-layer address of a link of the host.
func (h *Host) MAC(t testing.TB, link string) string {
	t.Helper()
	return strings.Fields(h.Run(t, "ip", "-br", "link", "show", link))[2]
}

// Resolve has the host's Linux look for the neighbor addr on a link, and returns
// the link-layer address that it learns, or nothing.
func (h *Host) Resolve(t testing.TB, addr, link string) string {
	t.Helper()
	_ = h.Command(t.Context(), "ip", "neigh", "del", addr, "dev", link).Run() // there may be none
	// Nobody answers the ping; it makes Linux ask for the neighbor.
	_ = h.Command(t.Context(), "ping", "-c", "1", "-W", "0.2", addr).Run()
	_, after, _ := strings.Cut(h.Run(t, "ip", "neigh", "show", addr, "dev", link), "lladdr ")
	mac, _, _ := strings.Cut(after, " ")
	return mac
}

// Find is Resolve, done again while it yields anything but mac: on a busy machine an answer
// may be late.
func (h *Host) Find(t testing.TB, addr, link, mac string) (got string) {
	t.Helper()
	for range findTries {
		if got = h.Resolve(t, addr, link); got == mac {
			break
		}
	}
	return got
}

// findTries is how often Find tries, which takes a quarter of a second each time.
const findTries = 40

// NDisc6 has ndisc6 ask for addr on a link of the host, and returns the link-layer
// address that it is told, or nothing when it is told none.
func (h *Host) NDisc6(t testing.TB, addr, link string) string {
	t.Helper()
	out, err := h.Command(t.Context(), "ndisc6", "-q", "-1", "-r", "1", "-w", "300", addr, link).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("host %s: ndisc6 %s: %v", h.Name(), addr, err)
	}
	return strings.ToLower(strings.TrimSpace(string(out)))
}
