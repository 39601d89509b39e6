package engine_test

import (
	"testing"
)

// While the firewall says what it has counted, which takes iptables its time, others go
// on: whoever may scrape metrics holds no container up.
func TestStatusHoldsNobodyUp(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	if err != nil {
		t.Fatal(err)
	}
	during := 0
	h.counting = func() {
		during++
		h.engine.Describe(nil) // for which it takes the engine's lock
	}
	defer func() { h.counting = nil }()
	if s := h.engine.Status(t.Context()); during != 1 || s.Networks[0].ID != n.ID || s.Networks[0].Firewall == nil || len(s.Proxies[0].Addresses) != 1 {
		t.Errorf("it is looked at the rules %d times for %+v", during, s)
	}
	if s := h.engine.Summary(t.Context()); during != 2 || s.Networks[0].Firewall == nil || s.Proxies[0].Addresses != nil {
		t.Errorf("a summary looks at the rules %d times, and is %+v", during, s)
	}
}
