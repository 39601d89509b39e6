package metrics

import (
	"context"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Lines count what is logged, by level.
type Lines struct{ *prometheus.CounterVec }

// NewLines has none yet; levels that matter are shown from the start, so that the
// first error is an increase.
func NewLines() *Lines {
	l := &Lines{prometheus.NewCounterVec(prometheus.CounterOpts{Name: logLines.Name, Help: logLines.Help}, logLines.Labels)}
	for _, level := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo} {
		l.WithLabelValues(strings.ToLower(level.String()))
	}
	return l
}

// Count is log, with its lines counted.
func (l *Lines) Count(log *slog.Logger) *slog.Logger { return slog.New(counting{log.Handler(), l}) }

// counting counts what goes through it to another handler.
type counting struct {
	slog.Handler
	lines *Lines
}

// Handle implements slog.Handler.
func (c counting) Handle(ctx context.Context, r slog.Record) error {
	c.lines.WithLabelValues(strings.ToLower(r.Level.String())).Inc()
	return c.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (c counting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return counting{c.Handler.WithAttrs(attrs), c.lines}
}

// WithGroup implements slog.Handler.
func (c counting) WithGroup(name string) slog.Handler {
	return counting{c.Handler.WithGroup(name), c.lines}
}
