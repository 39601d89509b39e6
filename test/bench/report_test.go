//go:build bench

package bench_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// report is the outcome of one run.
type report struct {
	Date   time.Time `json:"date"`
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	Engine string    `json:"engine,omitempty"`
	Load   string    `json:"load"` // of the last minute, before the run
	Rows   []row     `json:"rows"`
	Curves []curve   `json:"curves,omitempty"`
	began  time.Time
}

func newReport(t *testing.T) *report {
	t.Helper()
	return &report{
		Date:   time.Now().UTC().Truncate(time.Second),
		CPU:    testnet.Processor(t),
		CPUs:   runtime.NumCPU(),
		Kernel: testnet.Self(t).Run(t, "uname", "-r"),
		Go:     runtime.Version(),
		Load:   load(t),
		began:  time.Now(),
	}
}

// load is the first of /proc/loadavg (proc_loadavg(5)).
func load(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}

// add takes a measurement in.
func (r *report) add(m row) {
	r.Rows = append(r.Rows, m.judged())
}

// print writes the report for people, as a Markdown table.
func (r *report) print(w io.Writer) error {
	var lines bytes.Buffer
	line := func(cells ...string) { fmt.Fprintf(&lines, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	line("What", "v6net", "beside", "its value", "ratio", "wanted")
	line("---", "---", "---", "---", "---", "---")
	for _, m := range r.Rows {
		line(m.What, number(m.Value)+" "+m.Unit, m.Peer, number(m.Beside)+" "+m.Unit, m.ratio(), m.Wanted.text(m.Unit))
	}
	_, err := fmt.Fprintf(w, "\nMeasured on %s: %d × %s, Linux %s, %s, Docker %s, in %s; the load was %s before.\n\n",
		r.Date.Format(time.DateOnly), r.CPUs, r.CPU, r.Kernel, r.Go, r.Engine, time.Since(r.began).Round(time.Second), r.Load)
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	table := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	if _, err := table.Write(lines.Bytes()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return table.Flush()
}

// publish writes the report into the pages of a folder, with what the NDP proxy's own
// benchmark has left in build.
func (r *report) publish(module, folder string) error {
	var m measured
	var table bytes.Buffer
	err := r.print(&table)
	m.table, m.picture = table.Bytes(), plot(r.Rows, r.Curves)
	for file, into := range map[string]*[]byte{"bench-ndproxy.md": &m.ndproxyTable, "bench-ndproxy.svg": &m.ndproxyPicture} {
		if err == nil {
			*into, err = os.ReadFile(filepath.Join(module, "build", file))
		}
	}
	if err != nil {
		return fmt.Errorf("write the pages: %w", err)
	}
	return m.publish(filepath.Join(module, folder))
}

// write keeps the report for programs, its table and its picture for the documentation.
func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(path+".json", append(text, '\n'), 0o644),
		os.WriteFile(path+".md", table.Bytes(), 0o644),
		os.WriteFile(path+".svg", plot(r.Rows, r.Curves), 0o644),
	)
}
