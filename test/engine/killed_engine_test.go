//go:build engine

package engine_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
)

// The engine is killed, at moments that a seed (V6NET_SEED) says, while fifty containers
// start and stop. What it has forgotten then keeps nobody from anything, and with the
// network all of it goes.
func TestEngineIsKilledAmongContainers(t *testing.T) {
	const count, atOnce, kills = 50, 5, 3
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("V6NET_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("V6NET_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		l.traceless(t, "containers", func(t *testing.T) {
			l.network(t, "crowd")
			var working sync.WaitGroup
			var begun, started atomic.Int64
			for range atOnce {
				working.Go(func() {
					for i := begun.Add(1); i <= count; i = begun.Add(1) {
						name := fmt.Sprintf("crowd%02d", i)
						// That the engine is away is no failure.
						if _, err := l.cli.Try(t.Context(), "run", "-d", "--name", name, "--network", "crowd", l.image); err == nil {
							started.Add(1)
						}
						if i%2 == 0 {
							_, _ = l.cli.Try(t.Context(), "rm", "-f", name)
						}
					}
				})
			}
			done := make(chan struct{})
			go func() { working.Wait(); close(done) }()
			for killed := 0; killed < kills; killed++ {
				next := begun.Load() + 2 + int64(random.IntN(count/kills-4))
				for begun.Load() < next {
					select {
					case <-done:
						t.Fatalf("the engine was killed %d times, then all had been done", killed)
					case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
					}
				}
				l.engine.Kill(t)
				l.engine.Restart(t)
			}
			<-done
			t.Logf("%d containers of %d were started", started.Load(), count)
			for i := range count {
				l.discard(t, "rm", "-f", fmt.Sprintf("crowd%02d", i+1))
			}
			l.container(t, "after", "--network", "crowd")
			mustFetch(t, l.host, bracket(l.ipv6(t, "after", "crowd")))
			l.docker(t, "rm", "-f", "after")
			l.docker(t, "network", "rm", "crowd")
			if status := l.status(t); len(status.Networks) != 0 || len(status.Pools) != 0 {
				t.Errorf("with the network gone v6net has %+v, %+v", status.Networks, status.Pools)
			}
		})
	})
}
