//go:build engine

package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testengine"
)

// number is that of an environment variable.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(variable), strconv.Itoa(otherwise)))
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: a number from 1 on is allowed", variable, os.Getenv(variable))
	}
	return n
}

// The engine is killed at moments that a seed (V6NET_SEED) says, while many containers
// (V6NET_CROWD) start and stop. Afterwards engine, v6net and kernel agree about what there is.
func TestEngineIsKilledAmongContainers(t *testing.T) {
	const atOnce, every = 4, 5 // one kill to so many containers
	count, seed := number(t, "V6NET_CROWD", 10), number(t, "V6NET_SEED", 1)
	t.Logf("V6NET_CROWD=%d V6NET_SEED=%d", count, seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		l.traceless(t, "containers", func(t *testing.T) {
			l.network(t, "crowd")
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(count)*time.Minute)
			defer cancel()
			began := time.Now()
			var working sync.WaitGroup
			var begun, started atomic.Int64
			for range atOnce {
				working.Go(func() {
					for i := begun.Add(1); i <= int64(count); i = begun.Add(1) {
						name := fmt.Sprintf("crowd%02d", i)
						// While the engine is away it is nobody's turn: each container starts once.
						l.insist(ctx, name, func() error {
							_, err := l.cli.Try(ctx, "run", "-d", "--name", name, "--network", "crowd", l.image)
							return err
						})
						started.Add(1)
						if i%2 == 0 {
							_, _ = l.cli.Try(ctx, "rm", "-f", name)
						}
					}
				})
			}
			for kill := range count / every {
				// From the last kill's share of containers to this one's, at any moment of theirs.
				for started.Load() < int64(kill*every+random.IntN(every)) && ctx.Err() == nil {
					time.Sleep(time.Duration(1+random.IntN(10)) * time.Millisecond)
				}
				time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
				l.engine.Kill(t)
				l.engine.Restart(t)
			}
			working.Wait()
			if started.Load() < int64(count) {
				t.Fatalf("%d containers of %d were started", started.Load(), count)
			}
			l.mustAgree(t, "crowd")
			t.Logf("%d containers were started, half of them removed, and the engine killed %d times, within %v", count, count/every, time.Since(began).Round(time.Second))
			for i := range count {
				l.discard(t, "rm", "-f", fmt.Sprintf("crowd%02d", i+1))
			}
			l.container(t, "after", "--network", "crowd")
			mustFetch(t, l.host, bracket(l.ipv6(t, "after", "crowd")))
			l.docker(t, "rm", "-f", "after")
			l.mustAgree(t, "crowd")
			l.docker(t, "network", "rm", "crowd")
			if status := l.status(t); len(status.Networks) != 0 || len(status.Pools) != 0 {
				t.Errorf("with the network gone v6net has %+v, %+v", status.Networks, status.Pools)
			}
		})
	})
}

// insist does something until it is done, and removes what it has left of the container.
func (l *lab) insist(ctx context.Context, container string, do func() error) {
	for do() != nil && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
		_, _ = l.cli.Try(ctx, "rm", "-f", container) // the engine may be away still
	}
}

// mustAgree waits for agreement. An endpoint that the engine has forgotten is taken back after
// a minute, and its addresses after another one.
func (l *lab) mustAgree(t *testing.T, network string) {
	t.Helper()
	var last, first string
	began := time.Now()
	for deadline := began.Add(150 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if last = l.disagreement(t, network); last == "" {
			if first != "" {
				t.Logf("agreed after %v; before, %s", time.Since(began).Round(time.Second), first)
			}
			return
		}
		first = cmp.Or(first, last)
		if time.Now().After(deadline) {
			t.Fatal(last)
		}
	}
}

// disagreement says what of a network's containers engine, v6net and kernel have each in
// another way; nothing: they agree.
func (l *lab) disagreement(t *testing.T, network string) string {
	t.Helper()
	inspected := strings.Fields(l.docker(t, "network", "inspect", "-f", "{{range .Containers}}{{.EndpointID}} {{end}}", network))
	id := l.networkID(t, network)
	status := l.status(t)
	i := slices.IndexFunc(status.Networks, func(n spec.NetworkStatus) bool { return n.ID == id })
	if i < 0 || status.Networks[i].Error != "" {
		return fmt.Sprintf("v6net has %+v, want a healthy network %s", status.Networks, id)
	}
	var links, endpoints, idle []string
	for _, ep := range status.Networks[i].Endpoints {
		if !ep.Joined {
			idle = append(idle, ep.ID)
		}
		endpoints = append(endpoints, ep.ID)
		links = append(links, spec.VethName(ep.ID))
	}
	var there []string
	for _, name := range strings.Fields(l.host.Run(t, "ls", "/proc/sys/net/ipv6/conf")) {
		if strings.HasPrefix(name, spec.VethPrefix) {
			there = append(there, name)
		}
	}
	for _, s := range [][]string{inspected, endpoints, links, there} {
		slices.Sort(s)
	}
	if !slices.Equal(inspected, endpoints) {
		return fmt.Sprintf("the engine has endpoints %q, v6net %q, %q of them in no container", inspected, endpoints, idle)
	}
	if !slices.Equal(links, there) {
		return fmt.Sprintf("there are links %q, want %q", there, links)
	}
	for _, p := range status.Pools {
		if p.Leases > len(endpoints)+1 { // and the gateway
			return fmt.Sprintf("pool %s has %d leases for %d endpoints", p.ID, p.Leases, len(endpoints))
		}
	}
	return ""
}
