package control

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// slow answers nothing, after a time.
type slow time.Duration

func (s slow) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(time.Duration(s))
	return nil, errors.New("no answer")
}

// Who waits for the daemon for longer than two seconds is told so, once, whatever is asked.
func TestWaitingIsSaid(t *testing.T) {
	for name, ask := range map[string]func(*Client) error{
		"status": func(c *Client) error { _, err := c.Status(t.Context()); return err },
		"make":   func(c *Client) error { _, err := c.MakeNetwork(t.Context(), spec.NetworkRequest{}); return err },
		"watch":  func(c *Client) error { return c.Watch(t.Context(), Filter{}, func() {}, nil) },
	} {
		for took, want := range map[time.Duration]int{time.Second: 0, 9 * time.Second: 1} {
			synctest.Test(t, func(t *testing.T) {
				c := NewClient("unused")
				c.http.Transport = slow(took)
				said := 0
				c.Waiting = func() { said++ }
				if ask(c) == nil {
					t.Error("there is an answer")
				}
				synctest.Wait()
				if said != want {
					t.Errorf("%s: after %v it is said %d times, want %d", name, took, said, want)
				}
			})
		}
	}
}

func TestFailedCallsSayWhoseTheyAre(t *testing.T) {
	n := spec.NetworkRequest{ID: "aaaa", Name: "front"}
	for want, request := range map[string]any{
		"network aaaa name front":                             n,
		"network aaaa name front endpoint eeee container web": spec.AttachRequest{Network: n, ID: "eeee", Name: "web"},
		"": spec.Call{},
	} {
		var words []string
		for _, w := range subject(request) {
			words = append(words, w.(string))
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("about %q, want %q", got, want)
		}
	}
}
