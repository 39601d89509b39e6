package main

import (
	"context"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/metrics"
	"github.com/v6net/v6net/internal/spec"
)

// checkMetrics is for --metrics, empty where there is none.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	return metrics.CheckAddress(address)
}

// timedEngine records how long Podman's calls take, which are those that make,
// attach and detach.
type timedEngine struct {
	control.Engine
	calls *metrics.Calls
}

func (e timedEngine) record(method string, began time.Time, err error) {
	e.calls.Record(metrics.Podman, method, time.Since(began), err != nil)
}

// MakeNetwork implements control.Engine.
func (e timedEngine) MakeNetwork(ctx context.Context, r spec.NetworkRequest) (n spec.Network, err error) {
	defer func(began time.Time) { e.record("MakeNetwork", began, err) }(time.Now())
	return e.Engine.MakeNetwork(ctx, r)
}

// Attach implements control.Engine.
func (e timedEngine) Attach(ctx context.Context, r spec.AttachRequest) (a spec.Attached, err error) {
	defer func(began time.Time) { e.record("Attach", began, err) }(time.Now())
	return e.Engine.Attach(ctx, r)
}

// Detach implements control.Engine.
func (e timedEngine) Detach(ctx context.Context, networkID, endpointID string) (err error) {
	defer func(began time.Time) { e.record("Detach", began, err) }(time.Now())
	return e.Engine.Detach(ctx, networkID, endpointID)
}
