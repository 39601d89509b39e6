package ndproxy

import (
	"net/netip"
	"testing"
)

func TestSawOfAnyFrame(t *testing.T) {
	whole := multicast(numbered(7)).marshal(t)
	for n := range len(whole) + 1 {
		saw(whole[:n], Truncated) // must not panic
	}
	got := saw(whole, Solicited)
	if got.Reason != Solicited || got.Target != numbered(7) || !got.Source.IsValid() || got.From != [6]byte(whole[6:]) {
		t.Errorf("saw %+v", got)
	}
	if got := saw(whole[:ethernetLen], Truncated); got.Source != (netip.Addr{}) || got.Target != (netip.Addr{}) {
		t.Errorf("of a frame that ends before them: %+v", got)
	}
}

// Who watches costs the proxy no memory.
func TestSawAllocatesNothing(t *testing.T) {
	frame := multicast(numbered(7)).marshal(t)
	var p Proxy
	var last Seen
	p.See = func(s Seen) { last = s }
	if n := testing.AllocsPerRun(100, func() { p.See(saw(frame, Solicited)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if last.Target != numbered(7) {
		t.Errorf("saw %+v", last)
	}
}
