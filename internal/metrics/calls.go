package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The APIs by which container engines call.
const (
	Docker = "docker"
	Podman = "podman"
)

// Calls are how long calls took. Whoever serves them records into it, whether
// anybody scrapes or not.
type Calls struct{ *prometheus.HistogramVec }

// NewCalls has none yet.
func NewCalls() *Calls {
	return &Calls{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: callSeconds.Name, Help: callSeconds.Help,
		// From a look-up to the twenty seconds after which the driver gives up; a
		// second is what duplicate address detection takes.
		Buckets: []float64{.001, .005, .02, .05, .1, .25, .5, 1, 1.5, 2.5, 5, 10, 20},
	}, callSeconds.Labels)}
}

// Record notes one call of an API.
func (c *Calls) Record(api, method string, took time.Duration, failed bool) {
	outcome := "ok"
	if failed {
		outcome = "error"
	}
	c.WithLabelValues(api, method, outcome).Observe(took.Seconds())
}
