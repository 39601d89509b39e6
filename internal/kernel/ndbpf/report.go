package ndbpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/v6net/v6net/ndproxy"
)

// seenSize is that of struct seen in ndproxy.c, and unreported the counter behind its reasons.
const (
	seenSize   = 44
	unreported = programReasons
)

// reports are read while somebody watches.
type reports struct {
	reader  *ringbuf.Reader
	running sync.WaitGroup
}

// Report implements ndproxy.Reporter.
func (c *Conn) Report(f func(ndproxy.Seen)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.endReports(); err != nil || f == nil || c.closed {
		return err
	}
	reader, err := ringbuf.NewReader(c.objects.Reports)
	if err != nil {
		return fmt.Errorf("read what the NDP proxy of link %s reports: %w", c.Name(), err)
	}
	r := &reports{reader: reader}
	c.reports = r
	counters := c.objects.Counters
	r.running.Go(func() { r.run(counters, f) })
	c.config.Watched = 1
	return c.configure()
}

// endReports has nothing reported any more. The caller holds c.mu.
func (c *Conn) endReports() error {
	if c.reports == nil {
		return nil
	}
	c.config.Watched = 0
	err := c.configure()
	err = errors.Join(err, c.reports.reader.Close())
	c.reports.running.Wait()
	c.reports = nil
	return err
}

// run passes on what comes until the reader is closed.
func (r *reports) run(counters *ebpf.Map, f func(ndproxy.Seen)) {
	var record ringbuf.Record
	before := missed(counters)
	for {
		if err := r.reader.ReadInto(&record); err != nil {
			return
		}
		seen, ok := decodeSeen(record.RawSample)
		if !ok {
			continue
		}
		if record.Remaining == 0 {
			now := missed(counters)
			seen.Lost, before = now-before, now
		}
		f(seen)
	}
}

// missed is how many reports there was no room for.
func missed(counters *ebpf.Map) (sum uint64) {
	var each []uint64
	if counters.Lookup(uint32(unreported), &each) != nil {
		return 0
	}
	for _, n := range each {
		sum += n
	}
	return sum
}

func decodeSeen(b []byte) (ndproxy.Seen, bool) {
	if len(b) < seenSize {
		return ndproxy.Seen{}, false
	}
	reason := binary.NativeEndian.Uint32(b)
	if reason == 0 || reason >= programReasons {
		return ndproxy.Seen{}, false
	}
	return ndproxy.Seen{
		Reason: reasons[reason],
		From:   [6]byte(b[4:]),
		Source: netip.AddrFrom16([16]byte(b[12:])),
		Target: netip.AddrFrom16([16]byte(b[28:])),
	}, true
}
