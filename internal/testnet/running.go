package testnet

import (
	"context"
	"testing"
	"time"
)

// endTime is how long what runs beside a test may take to end on a busy machine.
const endTime = 30 * time.Second

// Running has something run beside the test until that ends. It must end with its context
// then, and without an error.
func Running(t testing.TB, what string, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(endTime):
			t.Errorf("%s: does not end with its context", what)
		}
	})
}
