package metrics

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/v6net/v6net/internal/testdoc"
)

// The page has every metric as the code has it.
func TestMetricsAreDocumented(t *testing.T) {
	testdoc.Generated(t, "../../docs/metrics.md", "internal/metrics", table())
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
