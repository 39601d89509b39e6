package metrics

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "write the metrics into docs/metrics.md")

const (
	page  = "../../docs/metrics.md"
	begin = "<!-- from here: go test ./internal/metrics -update -->\n"
	end   = "<!-- up to here -->\n"
)

// The page has every metric as the code has it.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %q and %q", page, begin, end)
	}
	want := before + begin + table() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, string(text)); diff != "" && !*update {
		t.Errorf("%s (-want +got); go test ./internal/metrics -update writes it:\n%s", page, diff)
	}
}

func table() string {
	kinds := map[prometheus.ValueType]string{prometheus.GaugeValue: "gauge", prometheus.CounterValue: "counter", prometheus.UntypedValue: "histogram"}
	var b strings.Builder
	b.WriteString("\n| metric | type | labels | |\n| --- | --- | --- | --- |\n")
	for _, f := range Families() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, kinds[f.Kind], strings.Join(f.Labels, ", "), f.Help)
	}
	return b.String() + "\n"
}

var metricName = regexp.MustCompile(`v6net_[a-z0-9_]+`)

// The alerts and the dashboard ask for metrics that there are, and for the labels
// that those have.
func TestPackagingNamesMetricsThatThereAre(t *testing.T) {
	var names []string
	for _, f := range Families() {
		names = append(names, f.Name)
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		names = append(names, callSeconds.Name+suffix)
	}
	for _, file := range []string{"prometheus/v6net.rules.yml", "grafana/v6net.json"} {
		text, err := os.ReadFile("../../packaging/" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := metricName.FindAllString(string(text), -1)
		if len(found) < 5 {
			t.Errorf("%s asks for %q: the test would prove nothing", file, found)
		}
		for _, name := range found {
			if !slices.Contains(names, name) {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
	}
}
