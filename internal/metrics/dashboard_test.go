package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// dashboard is what of Grafana's JSON model is used.
type dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type string }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ RefID, Expr, LegendFormat string }
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("../../packaging/grafana/v6net.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil || len(d.Panels) < 10 {
		t.Fatalf("the dashboard: %d panels, %v", len(d.Panels), err)
	}
	return d
}

// Grafana is not run in any test: what it wants of a dashboard is held against its model.
func TestDashboardIsWhole(t *testing.T) {
	d := readDashboard(t)
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 30 {
		t.Errorf("title %q, uid %q, schema %d", d.Title, d.UID, d.SchemaVersion)
	}
	variables := []string{"__rate_interval"}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if p.Title == "" || !slices.Contains([]string{"stat", "table", "timeseries"}, p.Type) || ids[p.ID] || p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s is outside the grid: %+v", p.Title, g)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" {
					t.Fatalf("%s lies on %s", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.Expr == "" || target.RefID == "" || refs[target.RefID] {
				t.Errorf("%s asks %+v", p.Title, target)
			}
			refs[target.RefID] = true
			for _, v := range variable.FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(variables, v[1]) {
					t.Errorf("%s asks for the variable %s, which there is not", p.Title, v[1])
				}
			}
		}
		if len(refs) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
	}
}

var (
	variable = regexp.MustCompile(`\$\{?(\w+)\}?`)
	selector = regexp.MustCompile(`(rate\(|increase\()?\b(v6net_[a-z0-9_]+)(\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"[^"]*"`)
	grouping = regexp.MustCompile(`\b(by|on|group_left)\s*\(([^)]*)\)`)
	legend   = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// Queries ask for labels that metrics have, for rates of what only grows, and show
// labels that are left. That they are PromQL promtool says: make rules.
func TestDashboardAsksForLabelsThatThereAre(t *testing.T) {
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			if err := checkQuery(target.Expr, target.LegendFormat); err != nil {
				t.Errorf("%s: %s: %v", p.Title, target.Expr, err)
			}
		}
	}
	// That the check finds what is wrong.
	for expr, wrong := range map[string]string{
		`v6net_endpoints{parent="x"}`:                            "has no label parent",
		`v6net_endpoints{network}`:                               "not matchers",
		`v6net_ndproxy_frames_total`:                             "without a rate",
		`rate(v6net_endpoints[5m])`:                              "a rate of a gauge",
		`sum by (verdict) (v6net_endpoints)`:                     "has no label verdict",
		`sum by (network) (v6net_endpoints)`:                     "is not left",
		`sum(v6net_endpoints`:                                    "brackets",
		`sum by (instance) (rate(v6net_ra_messages_total[5m]))}`: "brackets",
	} {
		if err := checkQuery(expr, "{{instance}}"); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", expr, err, wrong)
		}
	}
}

func checkQuery(expr, legendFormat string) error {
	open := 0
	for _, r := range expr {
		switch r {
		case '(', '[', '{':
			open++
		case ')', ']', '}':
			if open--; open < 0 {
				return fmt.Errorf("brackets")
			}
		}
	}
	if open != 0 {
		return fmt.Errorf("brackets")
	}
	all := []string{"instance", "job"} // which Prometheus adds
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		rated, name, matchers := found[1] != "", found[2], found[4]
		labels, kind, known := labelsOf(name)
		if !known {
			continue // TestPackagingNamesMetricsThatThereAre says so
		}
		all = append(all, labels...)
		switch {
		case kind == prometheus.CounterValue && !rated:
			return fmt.Errorf("%s without a rate", name)
		case kind == prometheus.GaugeValue && rated:
			return fmt.Errorf("a rate of a gauge, %s", name)
		}
		if strings.Trim(matcher.ReplaceAllString(matchers, ""), ", ") != "" {
			return fmt.Errorf("not matchers: %s", matchers)
		}
		for _, m := range matcher.FindAllStringSubmatch(matchers, -1) {
			if !slices.Contains(append(labels, "instance", "job"), m[1]) {
				return fmt.Errorf("%s has no label %s", name, m[1])
			}
		}
	}
	left := all
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		var named []string
		for label := range strings.SplitSeq(g[2], ",") {
			named = append(named, strings.TrimSpace(label))
			if !slices.Contains(all, strings.TrimSpace(label)) {
				return fmt.Errorf("what is asked for has no label %s", label)
			}
		}
		if g[1] == "by" {
			left = named
		}
	}
	for _, l := range legend.FindAllStringSubmatch(legendFormat, -1) {
		if !slices.Contains(left, l[1]) {
			return fmt.Errorf("the label %s is not left", l[1])
		}
	}
	return nil
}

// labelsOf are those of a metric, a histogram's series included.
func labelsOf(name string) (labels []string, kind prometheus.ValueType, known bool) {
	for _, f := range Families() {
		if f.Name == name {
			return slices.Clone(f.Labels), f.Kind, true
		}
		if base, of := strings.CutPrefix(name, f.Name); of && slices.Contains([]string{"_bucket", "_sum", "_count"}, base) {
			return append(slices.Clone(f.Labels), "le"), prometheus.CounterValue, true
		}
	}
	return nil, 0, false
}
