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

// Who waits for the daemon for longer than two seconds is told so, once.
func TestWaitingIsSaid(t *testing.T) {
	for took, want := range map[time.Duration]int{time.Second: 0, 9 * time.Second: 1} {
		synctest.Test(t, func(t *testing.T) {
			c := NewClient("unused")
			c.http.Transport = slow(took)
			said := 0
			c.Waiting = func() { said++ }
			if _, err := c.Status(t.Context()); err == nil {
				t.Error("there is an answer")
			}
			synctest.Wait()
			if said != want {
				t.Errorf("after %v it is said %d times, want %d", took, said, want)
			}
		})
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
