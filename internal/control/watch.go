package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/spec"
)

// eventsPath answers with events as they come, one JSON object a line.
const eventsPath = "/v1/events"

// Bounds of that stream: how long a reader may take to take what waits for it, and how
// long a line can be.
const (
	streamPatience = 10 * time.Minute // a pager, ^S: what it misses meanwhile is counted
	maxEvent       = 1 << 20
	// lastPatience is the reader's when the daemon ends, which does not wait for a pager.
	lastPatience = 200 * time.Millisecond
)

// ended is the type of the last line of a stream that the daemon has ended.
const ended spec.EventType = "end"

// ErrEnded says that the daemon has ended while it was watched.
var ErrEnded = errors.New("the daemon has ended")

// Filter chooses events; the zero Filter chooses all.
type Filter struct {
	Types  []spec.EventType
	Source netip.Prefix // of packets' senders
}

// Has reports whether an event is among those that are chosen. That some are lost is
// always said.
func (f Filter) Has(e spec.Event) bool {
	return e.Type == spec.EventLost || !f.Source.IsValid() || e.Source.IsValid() && f.Source.Contains(e.Source)
}

func (f Filter) query() string {
	q := url.Values{}
	for _, t := range f.Types {
		q.Add("type", string(t))
	}
	if f.Source.IsValid() {
		q.Set("source", f.Source.String())
	}
	return q.Encode()
}

func parseFilter(q url.Values) (f Filter, err error) {
	for _, word := range q["type"] {
		t := spec.EventType(word)
		if err := spec.CheckEventType(t); err != nil {
			return f, err
		}
		f.Types = append(f.Types, t)
	}
	if text := q.Get("source"); text != "" {
		if f.Source, err = netip.ParsePrefix(text); err != nil {
			return f, fmt.Errorf("source %q: allowed is a prefix", text)
		}
	}
	return f, nil
}

// stream answers requests for events until ctx ends.
type stream struct {
	ctx      context.Context // the server's
	hub      *event.Hub
	describe func([]spec.Event)
	log      *slog.Logger
}

// ServeHTTP implements http.Handler.
func (s stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sub, err := s.hub.Subscribe(filter.Types...)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer sub.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	conn := http.NewResponseController(w)
	defer context.AfterFunc(s.ctx, func() {
		_ = conn.SetWriteDeadline(time.Now().Add(lastPatience)) // of what is being written; a reader that has gone
		cancel()
	})()
	// The server's time for reading a request would end the stream: it is watched for
	// whether the reader is still there.
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		s.log.Error("control: watch", "err", err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	send := func(events []spec.Event) error {
		if err := conn.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
			return err
		}
		if s.ctx.Err() != nil { // after that, so that nothing makes it longer again
			if err := conn.SetWriteDeadline(time.Now().Add(lastPatience)); err != nil {
				return err
			}
		}
		for _, e := range events {
			if !filter.Has(e) {
				continue
			}
			if err := lines.Encode(e); err != nil {
				return err
			}
		}
		return conn.Flush()
	}
	if send(nil) != nil { // says that from now on nothing is missed
		return
	}
	for {
		events, err := sub.Next(ctx)
		if err != nil {
			if s.ctx.Err() != nil {
				_ = send([]spec.Event{{Time: time.Now(), Type: ended, What: "daemon"}}) // a reader that has gone
			}
			return
		}
		s.describe(events)
		if err := send(events); err != nil {
			if ctx.Err() == nil {
				s.log.Debug("control: a reader of events is too slow, or has gone", "err", err)
			}
			return
		}
	}
}

// Watch calls began when the daemon has begun to tell, and f with each event, until ctx
// ends, f fails, or the daemon ends: then the error matches ErrEnded.
func (c *Client) Watch(ctx context.Context, filter Filter, began func(), f func(spec.Event) error) error {
	path := eventsPath
	if q := filter.query(); q != "" {
		path += "?" + q
	}
	resp, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end, or nobody wants the rest
	began()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e spec.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			if !lines.Scan() && lines.Err() != nil { // it died in the middle of a line
				return fmt.Errorf("%w: %w", ErrEnded, lines.Err())
			}
			return fmt.Errorf("read an event: %w", err)
		}
		if e.Type == ended {
			return ErrEnded
		}
		if err := f(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return ErrEnded
}
