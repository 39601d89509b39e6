package testdocker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// A Refusal is an error that a plugin has answered.
type Refusal struct{ method, text string }

func (r *Refusal) Error() string { return r.method + ": " + r.text }

// Post makes one call to the plugin that the client is connected to, as libnetwork does.
// Where answer is nil, nobody looks at what is answered. What the plugin refuses is a [*Refusal].
func Post(ctx context.Context, client *http.Client, method string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	got, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = got.Body.Close() }()
	var text json.RawMessage
	if err := json.NewDecoder(got.Body).Decode(&text); err != nil {
		return fmt.Errorf("%s: %s: %w", method, got.Status, err)
	}
	var failure struct{ Err, Error string } // of the network protocol, and of IPAM's
	if err := json.Unmarshal(text, &failure); err != nil || failure.Err+failure.Error != "" {
		return &Refusal{method, cmp.Or(failure.Err+failure.Error, string(text))}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
