//go:build bench

package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// row is one measurement beside its peer's.
type row struct {
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Peer   string  `json:"peer"`
	Beside float64 `json:"peer_value"` // in the same unit
	Ratio  float64 `json:"ratio"`      // Value to Beside
	Wanted *goal   `json:"wanted,omitempty"`
}

// goal is what is hoped for of a row.
type goal struct {
	Below   float64 `json:"below"`    // in the row's unit, or a ratio
	IsRatio bool    `json:"is_ratio"` // to the peer
	Met     bool    `json:"met"`
}

// below is a goal for the value itself.
func below(limit float64) *goal { return &goal{Below: limit} }

// ratioBelow is a goal for the ratio to the peer.
func ratioBelow(limit float64) *goal { return &goal{Below: limit, IsRatio: true} }

// report is the outcome of one run.
type report struct {
	Date   time.Time `json:"date"`
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	Engine string    `json:"engine,omitempty"`
	Rows   []row     `json:"rows"`
	began  time.Time
}

func newReport(t *testing.T) *report {
	t.Helper()
	return &report{
		Date:   time.Now().UTC().Truncate(time.Second),
		CPU:    cpuModel(t),
		CPUs:   runtime.NumCPU(),
		Kernel: testnet.Self(t).Run(t, "uname", "-r"),
		Go:     runtime.Version(),
		began:  time.Now(),
	}
}

func cpuModel(t *testing.T) string {
	t.Helper()
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// add takes a measurement in.
func (r *report) add(m row) {
	if m.Beside > 0 { // less than the clock's tick is no peer
		m.Ratio = m.Value / m.Beside
	}
	if m.Wanted != nil {
		got := m.Value
		if m.Wanted.IsRatio {
			got = m.Ratio
		}
		m.Wanted.Met = got <= m.Wanted.Below
	}
	r.Rows = append(r.Rows, m)
}

// print writes the report for people, as a Markdown table.
func (r *report) print(w io.Writer) error {
	var lines bytes.Buffer
	line := func(cells ...string) { fmt.Fprintf(&lines, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	line("What", "v6net", "beside", "its value", "ratio", "wanted")
	line("---", "---", "---", "---", "---", "---")
	for _, m := range r.Rows {
		line(m.What, number(m.Value)+" "+m.Unit, m.Peer, number(m.Beside)+" "+m.Unit, strconv.FormatFloat(m.Ratio, 'f', 2, 64), m.Wanted.text(m.Unit))
	}
	_, err := fmt.Fprintf(w, "\n%s, %d × %s, Linux %s, %s, Docker %s, measured in %s\n\n",
		r.Date.Format(time.DateOnly), r.CPUs, r.CPU, r.Kernel, r.Go, r.Engine, time.Since(r.began).Round(time.Second))
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	table := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	if _, err := table.Write(lines.Bytes()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return table.Flush()
}

// text says what was wanted, and whether it is so. A row may have no goal.
func (g *goal) text(unit string) string {
	switch {
	case g == nil:
		return ""
	case g.IsRatio:
		unit = "×"
	default:
		unit = " " + unit
	}
	verdict := "met"
	if !g.Met {
		verdict = "MISSED"
	}
	return fmt.Sprintf("≤ %s%s: %s", number(g.Below), unit, verdict)
}

// number has three significant digits, and no exponent.
func number(v float64) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// write keeps the report for programs.
func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
