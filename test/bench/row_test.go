package bench_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// row is one measurement beside its peer's.
type row struct {
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Peer   string  `json:"peer"`
	Beside float64 `json:"peer_value"` // in the same unit
	Ratio  float64 `json:"ratio"`      // Value to Beside; not a number where that is no peer
	Wanted *goal   `json:"wanted,omitempty"`
}

// goal is what is hoped for of a row.
type goal struct {
	Below   float64 `json:"below"`              // in the row's unit, or a ratio
	AtLeast float64 `json:"at_least,omitempty"` // likewise, where more is better; Below is 0 then
	IsRatio bool    `json:"is_ratio"`           // to the peer
	Met     bool    `json:"met"`
}

// below is a goal for the value itself.
func below(limit float64) *goal { return &goal{Below: limit} }

// ratioBelow is a goal for the ratio to the peer.
func ratioBelow(limit float64) *goal { return &goal{Below: limit, IsRatio: true} }

// ratioAtLeast is a goal for the ratio to the peer where more is better.
func ratioAtLeast(limit float64) *goal { return &goal{AtLeast: limit, IsRatio: true} }

// judged is the row with its ratio, and whether it is what was hoped for. What
// took less than the clock's tick, or was not measured, is no peer.
func (m row) judged() row {
	m.Ratio = math.NaN()
	if m.Beside > 0 && isFinite(m.Beside) {
		m.Ratio = m.Value / m.Beside
	}
	if m.Wanted != nil {
		wanted := *m.Wanted
		got := m.Value
		if wanted.IsRatio {
			got = m.Ratio
		}
		wanted.Met = isFinite(got) && (wanted.AtLeast == 0 && got <= wanted.Below || wanted.AtLeast > 0 && got >= wanted.AtLeast)
		m.Wanted = &wanted
	}
	return m
}

// ratio is the ratio for people.
func (m row) ratio() string {
	if !isFinite(m.Ratio) {
		return "none"
	}
	return strconv.FormatFloat(m.Ratio, 'f', 2, 64)
}

// MarshalJSON implements json.Marshaler: null for what is no number, of which JSON has none.
func (m row) MarshalJSON() ([]byte, error) {
	type plain row
	return json.Marshal(struct {
		plain
		Value  *float64 `json:"value"`
		Beside *float64 `json:"peer_value"`
		Ratio  *float64 `json:"ratio"`
	}{plain(m), finite(m.Value), finite(m.Beside), finite(m.Ratio)})
}

func finite(v float64) *float64 {
	if !isFinite(v) {
		return nil
	}
	return &v
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

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
	if g.AtLeast > 0 {
		return fmt.Sprintf("≥ %s%s: %s", number(g.AtLeast), unit, verdict)
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

// A row that could not be measured is in the report, judged a miss, and the
// report is JSON still.
func TestRowWithoutNumbers(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, c := range map[string]struct {
		row        row
		ratio, met string
		json       string
	}{
		"measured":           {row{Value: 3, Beside: 2, Wanted: ratioBelow(2)}, "1.50", "≤ 2×: met", `"value":3,"peer_value":2,"ratio":1.5`},
		"above":              {row{Value: 3, Beside: 2, Wanted: ratioBelow(1)}, "1.50", "≤ 1×: MISSED", `"ratio":1.5`},
		"enough":             {row{Value: 3, Beside: 2, Wanted: ratioAtLeast(1.5)}, "1.50", "≥ 1.5×: met", `"at_least":1.5`},
		"not enough":         {row{Value: 3, Beside: 2, Wanted: ratioAtLeast(3)}, "1.50", "≥ 3×: MISSED", `"ratio":1.5`},
		"enough of nothing":  {row{Value: 3, Beside: 0, Wanted: ratioAtLeast(3)}, "none", "≥ 3×: MISSED", `"ratio":null`},
		"a value alone":      {row{Value: 3, Beside: 0, Unit: "ms", Wanted: below(4)}, "none", "≤ 4 ms: met", `"value":3,"peer_value":0,"ratio":null`},
		"no peer":            {row{Value: 3, Beside: 0, Wanted: ratioBelow(2)}, "none", "≤ 2×: MISSED", `"ratio":null`},
		"nothing beside it":  {row{Value: 0, Beside: 0, Wanted: ratioBelow(2)}, "none", "≤ 2×: MISSED", `"ratio":null`},
		"infinite":           {row{Value: inf, Beside: 2, Wanted: ratioBelow(2)}, "none", "≤ 2×: MISSED", `"value":null,"peer_value":2,"ratio":null`},
		"infinitely little":  {row{Value: -inf, Beside: 2, Wanted: below(2)}, "none", "≤ 2 : MISSED", `"value":null`},
		"beside an infinite": {row{Value: 3, Beside: inf, Wanted: ratioBelow(2)}, "none", "≤ 2×: MISSED", `"value":3,"peer_value":null,"ratio":null`},
		"not a number":       {row{Value: nan, Beside: nan, Wanted: below(2)}, "none", "≤ 2 : MISSED", `"value":null,"peer_value":null,"ratio":null`},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.row.judged()
			text, err := json.Marshal(got)
			if err != nil || !strings.Contains(string(text), c.json) || !strings.Contains(string(text), `"what":""`) {
				t.Errorf("%s, %v; want %s in it", text, err, c.json)
			}
			if got.ratio() != c.ratio || got.Wanted.text(got.Unit) != c.met {
				t.Errorf("ratio %s, wanted %q; want %s and %q", got.ratio(), got.Wanted.text(got.Unit), c.ratio, c.met)
			}
			if cells := number(got.Value) + number(got.Beside); cells == "" {
				t.Error("nothing is shown to people")
			}
		})
	}
}
