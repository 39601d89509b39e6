//go:build bench

package ndproxy_test

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/kernel/ndbpf"
	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// churn is how long it takes to add an address where eBPF answers for a million, or
// to remove one: when that returns it has taken effect. perCPU is the mean of the
// calling thread's processor time, which others on the machine do not lengthen.
func churn(t *testing.T) (perCPU, p50, p99 time.Duration) {
	const n, changes = 1_000_000, 100_000
	newRig(t, testnet.Self(t), testnet.New(t, "up"))
	proxy := ndproxy.NewSupervisor(func(ctx context.Context, link string) (ndproxy.Conn, error) {
		return ndbpf.Dial(ctx, link)
	}, ndproxy.Knobs{}, slog.New(slog.DiscardHandler))
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = address(uint64(i))
	}
	proxy.AddAll("eth0", addrs)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- proxy.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	testnet.Eventually(t, time.Minute, "a million are answered for by eBPF", func() bool {
		_, err := find("ndproxy_answer")
		s := proxy.Summary()
		return err == nil && s[0].Path == "ebpf" && s[0].Leases == n
	})
	times := make([]time.Duration, 0, 2*changes)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	for i := range changes {
		addr := addrs[i*7%n]
		for _, change := range []func(string, netip.Addr){proxy.Remove, proxy.Add} {
			began := time.Now()
			change("eth0", addr)
			times = append(times, time.Since(began))
		}
	}
	spent := threadTime() - before
	if s := proxy.Summary()[0]; s.Leases != n || s.Path != "ebpf" {
		t.Errorf("%d leases by the %s path after all of that: %s", s.Leases, s.Path, s.PathError)
	}
	slices.Sort(times)
	return spent / time.Duration(len(times)), quantile(times, 0.5), quantile(times, 0.99)
}
