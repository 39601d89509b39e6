//go:build bench

package ndproxy_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// report is the outcome of one run.
type report struct {
	cells    []cell
	capacity float64            // frames per second that the generator sends when nobody answers
	growth   map[string]float64 // of the subjects that are to be flat

	churnCPU, churn50, churn99 time.Duration // of a change among a million addresses
}

// generator measures the generator alone: it is the bottleneck near that rate.
func (r *report) generator(t *testing.T) {
	rig := newRig(t, testnet.Self(t), testnet.New(t, "up"))
	var err error
	rig.up.Do(t, func() {
		defer pin()()
		var g *generator
		if g, err = newGenerator("lan0", rig.mac); err != nil {
			return
		}
		defer g.close()
		r.capacity, _, err = g.throughput(g.targets(0, 1, false), flooding)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *report) find(subject string, n uint64, unicast bool) *cell {
	for i := range r.cells {
		if c := &r.cells[i]; c.Subject == subject && c.Addresses == n && c.Unicast == unicast {
			return c
		}
	}
	return nil
}

// write prints the report and puts it into build/.
func (r *report) write(t *testing.T) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "Measured on %s: %d × %s, Linux %s, %s. The generator alone sends %s frames/s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), testnet.Processor(t), testnet.Self(t).Run(t, "uname", "-r"), runtime.Version(), rate(r.capacity))
	for _, unicast := range []bool{false, true} {
		kind := "Multicast"
		if unicast {
			kind = "Unicast"
		}
		fmt.Fprintf(&text, "%s solicitations:\n\n", kind)
		fmt.Fprintln(&text, "| who answers | addresses | answers/s | asked/s | per processor second | p50 | p99 | lost | flood: p50 | p99 | lost | memory before, after | eBPF ns/packet | added in | processor time |")
		fmt.Fprintln(&text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
		for _, c := range r.cells {
			if c.Unicast != unicast {
				continue
			}
			memory, perPacket := "–", "–"
			if c.RSSBefore > 0 {
				memory = fmt.Sprintf("%d, %d MiB", c.RSSBefore>>10, c.RSS>>10)
			}
			if c.PerPacket > 0 {
				perPacket = strconv.FormatInt(c.PerPacket.Nanoseconds(), 10)
			}
			fmt.Fprintf(&text, "| %s | %d | %s | %s | %s | %s | %s | %d | %s | %s | %d | %s | %s | %s | %s |\n", c.Subject, c.Addresses, rate(c.Answered), rate(c.Asked), rate(c.PerCPU),
				micro(c.P50), micro(c.P99), c.Lost, micro(c.FloodP50), micro(c.FloodP99), c.FloodLost, memory, perPacket, c.Added.Round(time.Millisecond), c.AddedCPU)
		}
		fmt.Fprintln(&text)
	}
	r.bars(&text)
	fmt.Println(text.String())
	dir, err := filepath.Abs("../../../build")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bench-ndproxy.md"), text.Bytes(), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bench-ndproxy.svg"), r.plot(), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// bars holds the outcome against what was wanted.
func (r *report) bars(text *bytes.Buffer) {
	fmt.Fprintln(text, "| wanted | measured | |\n| --- | --- | --- |")
	row := func(wanted string, got float64, format string, met bool) {
		verdict := "met"
		if !met {
			verdict = "MISSED"
		}
		fmt.Fprintf(text, "| %s | "+format+" | %s |\n", wanted, got, verdict)
	}
	const fast, slow, kernel, peer = "v6net, eBPF", "v6net, packet", "kernel, proxy_delay 0", "ndppd 0.2.5, static"
	ratio := func(a, b *cell, of func(*cell) float64) float64 {
		if a == nil || b == nil {
			return math.NaN()
		}
		return of(a) / of(b)
	}
	answered := func(c *cell) float64 { return c.PerCPU }
	x := r.growth[fast]
	row("eBPF: answers flat from 1 to 1,000,000, within 1.3×", x, "%.2f×", x <= 1.3)
	x = ratio(r.find(fast, 1, false), r.find(kernel, 1, false), answered)
	row("eBPF: at 1 address at least the kernel's rate with delay 0", x, "%.2f×", x >= 1)
	x = ratio(r.find(fast, 10_000, false), r.find(kernel, 10_000, false), answered)
	row("eBPF: at 10,000 addresses ten times the kernel's", x, "%.1f×", x >= 10)
	x = ratio(r.find(fast, 1, false), r.find(peer, 1, false), func(c *cell) float64 { return float64(c.P50) })
	row("eBPF: p50 under a third of ndppd's", x, "%.2f×", x <= 1.0/3)
	x = ratio(r.find(slow, 1, false), r.find(peer, 1, false), answered)
	row("packet: at least ndppd's rate", x, "%.2f×", x >= 1)
	x = r.growth[slow]
	row("packet: flat, too (1.3×)", x, "%.2f×", x <= 1.3)
	worst, growth := 0.0, 0.0
	for _, c := range r.cells {
		if strings.HasPrefix(c.Subject, "v6net") {
			worst = max(worst, float64(c.FloodP99.Microseconds()))
			growth = max(growth, float64(c.RSS-c.RSSBefore)/1024)
		}
	}
	row("flood for unknown targets: live answers within 1 ms at p99, worst of all", worst, "%.0f µs", worst < 1000)
	row("flood for unknown targets: no growth of memory (under 2 MiB), worst of all", growth, "%.1f MiB", growth < 2)
	if c := r.find(fast, 1_000_000, false); c != nil {
		row("a million addresses read and added in under 3 s", c.Added.Seconds(), "%.2f s", c.Added < 3*time.Second)
		row("the same, of processor time", c.AddedCPU.Seconds(), "%.2f s", c.AddedCPU < 3*time.Second)
	}
	for _, x := range []struct {
		what  string
		value time.Duration
	}{
		{"one of a million added or removed in under 20 µs, the median", r.churn50},
		{"the same, the 99th percentile", r.churn99},
		{"the same, the mean of processor time", r.churnCPU},
	} {
		row(x.what, float64(x.value.Nanoseconds())/1000, "%.1f µs", x.value < 20*time.Microsecond)
	}
}

func rate(perSecond float64) string {
	if perSecond >= 1000 {
		return fmt.Sprintf("%.0fk", perSecond/1000)
	}
	return fmt.Sprintf("%.0f", perSecond)
}

func micro(d time.Duration) string {
	switch {
	case d == 0:
		return "none"
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f µs", float64(d.Nanoseconds())/1000)
	}
}

// plot draws answers per second and p50 by the number of addresses.
func (r *report) plot() []byte {
	var b bytes.Buffer
	const width, height, left, top, right = 360.0, 300.0, 70.0, 40.0, 40.0
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %v %v" font-family="sans-serif" font-size="12">`+"\n",
		2*(left+width+right), top+height+110)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	colours := []string{"#0b6e4f", "#1b9aaa", "#c44536", "#6a4c93", "#b8a1d9"}
	for i, panel := range []struct {
		title     string
		low, high float64
		value     func(c cell) float64
		label     func(float64) string
	}{
		{"answers per second of processor time, multicast", 1, 1e6, func(c cell) float64 { return c.PerCPU }, rate},
		{"p50 of an answer, multicast", 1, 1e6, func(c cell) float64 { return float64(c.P50.Nanoseconds()) / 1000 },
			func(v float64) string { return micro(time.Duration(v * 1000)) }},
	} {
		x0 := left + float64(i)*(left+width+right)
		x := func(n float64) float64 { return x0 + math.Log10(n)/6*width }
		y := func(v float64) float64 {
			return top + height - math.Log10(max(v, panel.low)/panel.low)/math.Log10(panel.high/panel.low)*height
		}
		fmt.Fprintf(&b, `<text x="%.0f" y="20" font-weight="bold">%s</text>`+"\n", x0, panel.title)
		for v := panel.low; v <= panel.high; v *= 10 {
			fmt.Fprintf(&b, `<path d="M%.1f %.1fh%v" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", x0, y(v), width, x0-6, y(v)+4, panel.label(v))
		}
		for _, n := range allSizes {
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x(float64(n)), top+height+18, strconv.FormatUint(n, 10))
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">addresses</text>`+"\n", x0+width/2, top+height+36)
		for j, s := range subjects {
			var points []string
			var cells []cell
			for _, c := range r.cells {
				if c.Subject == s.name && !c.Unicast && panel.value(c) > 0 {
					cells = append(cells, c)
				}
			}
			slices.SortFunc(cells, func(a, b cell) int { return cmp.Compare(a.Addresses, b.Addresses) })
			for _, c := range cells {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(c.Addresses)), y(panel.value(c))))
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(float64(c.Addresses)), y(panel.value(c)), colours[j])
			}
			fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[j])
			if i == 0 {
				fmt.Fprintf(&b, `<path d="M%.0f %.0fh20" stroke="%s" stroke-width="3"/><text x="%.0f" y="%.0f">%s</text>`+"\n",
					x0+float64(j%3)*260, top+height+60+float64(j/3)*20, colours[j], x0+float64(j%3)*260+26, top+height+64+float64(j/3)*20, s.name)
			}
		}
	}
	fmt.Fprintln(&b, "</svg>")
	return b.Bytes()
}
