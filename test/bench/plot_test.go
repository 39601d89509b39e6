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

// curve is what one of many takes, by how many there are already.
type curve struct {
	What  string    `json:"what"`
	At    []int     `json:"at"`
	Times []float64 `json:"ms"`
}

func (c *curve) add(at int, milliseconds float64) {
	c.At, c.Times = append(c.At, at), append(c.Times, milliseconds)
}

// plot draws each row's advantage as a bar, on a logarithmic scale that ends at a hundred:
// to the right v6net is better than its peer, to the left it is worse. Below it are the curves, each beside its own beginning.
func plot(rows []row, curves []curve) []byte {
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
	end := y
	if len(curves) > 0 {
		end = drawCurves(&bars, curves, y+50)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1060 %d" font-family="sans-serif" font-size="11">`+"\n", end+10)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	for _, at := range []float64{0.01, 0.1, 1, 10, 100} {
		fmt.Fprintf(&b, `<line x1="%[1]v" y1="%[2]d" x2="%[1]v" y2="%[3]d" stroke="#d0d7de"/><text x="%[1]v" y="%[4]d" text-anchor="middle">%[5]s×</text>`+"\n", place(at), top-4, y, top-10, number(at))
	}
	b.Write(bars.Bytes())
	fmt.Fprintln(&b, "</svg>")
	return b.Bytes()
}

// drawCurves draws by how many times what one takes has grown, up to tenfold, from a height on, and answers
// where it ends.
func drawCurves(b *bytes.Buffer, curves []curve, top int) (end int) {
	const left, width, height, line = 80.0, 560.0, 200.0, 17
	colours := []string{"#0b6e4f", "#1b9aaa", "#c44536", "#6a4c93", "#b8a1d9", "#8a99a8"}
	y := func(times float64) float64 {
		return float64(top) + height*(1-math.Log10(max(min(times, 10), 0.5)/0.5)/math.Log10(20))
	}
	fmt.Fprintf(b, `<text x="%v" y="%d" font-weight="bold">what one takes, beside the first ones, from none to all</text>`+"\n", left, top-14)
	for _, times := range []float64{0.5, 1, 2, 5, 10} {
		fmt.Fprintf(b, `<path d="M%v %.1fh%v" stroke="#d0d7de"/><text x="%v" y="%.1f" text-anchor="end">%s×</text>`+"\n", left, y(times), width, left-8, y(times)+4, number(times))
	}
	for i, c := range curves {
		if len(c.Times) == 0 || c.Times[0] <= 0 {
			continue
		}
		colour := colours[i%len(colours)]
		var points []string
		for j, time := range c.Times {
			points = append(points, fmt.Sprintf("%.1f,%.1f", left+width*float64(c.At[j])/float64(c.At[len(c.At)-1]), y(time/c.Times[0])))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colour)
		at := top + 10 + i*line
		fmt.Fprintf(b, `<path d="M%v %dh20" stroke="%s" stroke-width="3"/><text x="%v" y="%d">%s: %s → %s ms</text>`+"\n",
			left+width+30, at, colour, left+width+56, at+4, html.EscapeString(c.What), number(c.Times[0]), number(c.Times[len(c.Times)-1]))
	}
	return top + max(int(height), len(curves)*line) + 10
}

// The picture is well formed, has a bar for each row that has a ratio, and shows what is
// better on the right whatever the unit.
func TestPlot(t *testing.T) {
	rows := []row{
		row{What: "time & <place>", Value: 1, Unit: "ms", Peer: "slow", Beside: 10, Wanted: ratioBelow(1)}.judged(),
		row{What: "rate", Value: 10, Unit: "/s", Peer: "slow", Beside: 1, Wanted: ratioAtLeast(20)}.judged(),
		row{What: "no peer", Value: 1, Unit: "ms", Peer: "none"}.judged(),
	}
	growth := curve{What: "something <of many>"}
	for i := range 10 {
		growth.add(100*(i+1), float64(10+i))
	}
	svg := plot(rows, []curve{growth, {What: "not measured"}})
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
	if n := strings.Count(string(svg), "<polyline"); n != 1 || !strings.Contains(string(svg), ": 10 → 19 ms") {
		t.Errorf("%d curves are drawn, want the one that was measured:\n%s", n, svg)
	}
	if strings.Contains(string(svg), "no peer") {
		t.Error("a row without a ratio is drawn")
	}
}
