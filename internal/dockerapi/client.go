// Package dockerapi asks a Docker engine by its API, of which the few fields that matter
// have been the same in all versions. Podman answers in the same words.
package dockerapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// A Client asks one engine.
type Client struct{ http http.Client }

// New asks the engine at a socket.
func New(socket string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Get reads what the engine has at a path.
func (c *Client) Get(ctx context.Context, path string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the engine for %s: %w", path, err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read, or the answer is an error anyway
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the engine for %s: it answered %s", path, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("read the engine's answer to %s: %w", path, err)
	}
	return nil
}
