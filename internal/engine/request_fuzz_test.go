package engine_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// FuzzRequests: whatever comes by the control socket, as far as that reads it, is done or
// refused: never a panic, and what was refused leaves nothing.
func FuzzRequests(f *testing.F) {
	seed := func(request any) {
		text, err := json.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	network := spec.NetworkRequest{ID: netID(1), Name: "web", FrontEnd: "podman", Options: spec.DefaultOptions(),
		IPv6: []spec.SubnetRequest{{Pool: ula6()}}, IPv4: []spec.SubnetRequest{{Pool: auto4()}}}
	seed(network)
	seed(spec.NetworkRequest{ID: "a", Options: spec.Options{Mode: "macvlan", Parent: "eth0"}})
	seed(spec.AttachRequest{Network: network, ID: epID(1), Container: "c", Name: "web", Interface: "eth0", Sandbox: "/run/netns/x",
		Ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}})
	seed(spec.AttachRequest{Network: network, ID: "e"})
	seed(spec.Call{})
	f.Fuzz(func(t *testing.T, body []byte) {
		h := newHost(t)
		before := h.snapshot()
		if r, ok := sent[spec.NetworkRequest](body); ok {
			if _, err := h.engine.MakeNetwork(t.Context(), r); err != nil {
				sameWorld(t, "refused: "+err.Error(), before, h.snapshot())
			} else if err := h.engine.DeleteNetwork(t.Context(), r.ID); err != nil {
				t.Errorf("network %q is made, and cannot be deleted: %v", r.ID, err)
			}
		}
		if r, ok := sent[spec.AttachRequest](body); ok {
			if _, err := h.engine.Attach(t.Context(), r); err == nil {
				if err := h.engine.Detach(t.Context(), r.Network.ID, r.ID); err != nil {
					t.Errorf("endpoint %q is attached, and cannot be detached: %v", r.ID, err)
				}
			}
		}
		if c, ok := sent[spec.Call](body); ok {
			_, _ = h.engine.Explain(t.Context(), c)
		}
	})
}

// sent is what the control socket reads.
func sent[T any](body []byte) (r T, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return r, d.Decode(&r) == nil
}
