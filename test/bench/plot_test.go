package bench_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"testing"
)

// advantage is by how much v6net is better than its peer: below 1 it is worse.
func (m row) advantage() float64 {
	if strings.HasSuffix(m.Unit, "/s") {
		return m.Ratio
	}
	return 1 / m.Ratio
}

// plot draws each row's advantage as a bar, on a logarithmic scale that ends at a hundred:
// to the right v6net is better than its peer, to the left it is worse.
func plot(rows []row) []byte {
	const (
		middle, tenfold = 760.0, 110.0 // pixels
		line, top       = 17, 34
	)
	place := func(advantage float64) float64 { return middle + tenfold*max(min(math.Log10(advantage), 2), -2) }
	var bars bytes.Buffer
	y := top
	for _, m := range rows {
		if !isFinite(m.Ratio) || m.Ratio <= 0 {
			continue
		}
		colour := "#8a99a8"
		if m.Wanted != nil {
			colour = map[bool]string{true: "#0b6e4f", false: "#c44536"}[m.Wanted.Met]
		}
		x := place(m.advantage())
		fmt.Fprintf(&bars, `<text x="%v" y="%d" text-anchor="end">%s | %s</text>`+"\n", middle-2*tenfold-10, y+12, html.EscapeString(m.What), html.EscapeString(m.Peer))
		fmt.Fprintf(&bars, `<rect x="%.1f" y="%d" width="%.1f" height="11" fill="%s"/>`+"\n", min(x, middle), y+2, max(math.Abs(x-middle), 1), colour)
		fmt.Fprintf(&bars, `<text x="%v" y="%d">%s×</text>`+"\n", middle+2*tenfold+10, y+12, number(m.advantage()))
		y += line
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1060 %d" font-family="sans-serif" font-size="11">`+"\n", y+10)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	for _, at := range []float64{0.01, 0.1, 1, 10, 100} {
		fmt.Fprintf(&b, `<line x1="%[1]v" y1="%[2]d" x2="%[1]v" y2="%[3]d" stroke="#d0d7de"/><text x="%[1]v" y="%[4]d" text-anchor="middle">%[5]s×</text>`+"\n", place(at), top-4, y, top-10, number(at))
	}
	b.Write(bars.Bytes())
	fmt.Fprintln(&b, "</svg>")
	return b.Bytes()
}

// The picture is well formed, has a bar for each row that has a ratio, and shows what is
// better on the right whatever the unit.
func TestPlot(t *testing.T) {
	rows := []row{
		row{What: "time & <place>", Value: 1, Unit: "ms", Peer: "slow", Beside: 10, Wanted: ratioBelow(1)}.judged(),
		row{What: "rate", Value: 10, Unit: "/s", Peer: "slow", Beside: 1, Wanted: ratioAtLeast(20)}.judged(),
		row{What: "no peer", Value: 1, Unit: "ms", Peer: "none"}.judged(),
	}
	svg := plot(rows)
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
	if n := strings.Count(string(svg), `<rect x="760.0"`); n != 2 {
		t.Errorf("%d bars begin at the middle and go to the right, want 2:\n%s", n, svg)
	}
	for _, colour := range []string{"#0b6e4f", "#c44536"} {
		if !strings.Contains(string(svg), colour) {
			t.Errorf("no bar is %s: met and missed do not differ", colour)
		}
	}
	if strings.Contains(string(svg), "no peer") {
		t.Error("a row without a ratio is drawn")
	}
}
