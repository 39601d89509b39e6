//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Many containers (V6NET_PARALLEL) at once, on a link where each address has to be probed.
func testParallel(t *testing.T, l *lab) {
	count := number(t, "V6NET_PARALLEL", 20)
	l.network(t, "crowd")
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("crowd%03d", i))
	}
	t.Cleanup(func() { l.discard(t, append([]string{"rm", "-f"}, names...)...) })
	began := time.Now()
	allAtOnce(t, names, func(ctx context.Context, name string) error {
		_, err := l.cli.Try(ctx, "run", "-d", "--name", name, "--network", "crowd", l.image)
		return err
	})
	t.Logf("%d containers were started at once within %v", count, time.Since(began).Round(100*time.Millisecond))
	var addresses []string
	for _, name := range names {
		addresses = append(addresses, l.ipv6(t, name, "crowd"))
	}
	slices.Sort(addresses)
	if distinct := len(slices.Compact(slices.Clone(addresses))); distinct != count {
		t.Errorf("%d containers have %d addresses: %q", count, distinct, addresses)
	}
	for _, address := range addresses {
		mustFetch(t, l.host, bracket(address))
	}
	began = time.Now()
	allAtOnce(t, names, func(ctx context.Context, name string) error {
		_, err := l.cli.Try(ctx, "rm", "-f", name)
		return err
	})
	t.Logf("%d containers were removed at once within %v", count, time.Since(began).Round(100*time.Millisecond))
	if status := l.status(t); len(status.Networks) != 1 || len(status.Networks[0].Endpoints) != 0 {
		t.Errorf("with all containers gone v6net has %+v, want one network without endpoints", status.Networks)
	}
}

// allAtOnce does something with every name at the same time.
func allAtOnce(t *testing.T, names []string, do func(ctx context.Context, name string) error) {
	t.Helper()
	errs := make([]error, len(names))
	var working sync.WaitGroup
	for i, name := range names {
		working.Go(func() { errs[i] = do(t.Context(), name) })
	}
	working.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
