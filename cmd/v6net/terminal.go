package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// screen is what text for people is written for.
type screen struct {
	colour bool
	width  int // columns; 0: without bound, as in a file or a pipe
}

// screenOf is what a file shows text on. Colours are for terminals alone, and not where
// NO_COLOR is set (no-color.org) or the terminal is a dumb one.
func screenOf(f *os.File) screen {
	if !isTerminal(f) {
		return screen{}
	}
	s := screen{colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.width = width
	}
	return s
}

// isTerminal reports whether a file is one.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Colours (ECMA-48 SGR).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	bold   = "1"
	dim    = "2"
)

// paint is text in a colour; empty: its own.
func (s screen) paint(text, colour string) string {
	if !s.colour || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// columns is how wide a text is. Ours are of one column a character.
func columns(text string) int { return len([]rune(text)) }

// pad is a text of so many columns, or its own width if it is wider.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-columns(text)))
}

// Between two columns, the least that text is wrapped into, and how far what belongs to
// a line is set in below it.
const (
	gap       = 2
	narrowest = 24
	below     = 4
)

// page is text for people, line by line, whose cells are divided by tabs. A line that
// begins with a new one begins a block, whose cells are aligned.
type page struct{ lines []string }

func (g *page) printf(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

// print lays the page out. In a block each column is as wide as its widest cell, and the
// last cell of a line is wrapped under itself into what is left of the screen. Where that
// is too little, each cell has a line of its own. Nothing is left out: who looks at this
// looks for what is wrong.
func (g *page) print(w io.Writer, s screen) error {
	var b strings.Builder
	var block [][]string
	for _, line := range g.lines {
		if rest, begins := strings.CutPrefix(line, "\n"); begins {
			s.block(&b, block)
			b.WriteString("\n")
			block, line = nil, rest
		}
		cells := strings.Split(line, "\t")
		for i := range cells {
			cells[i] = printable(cells[i])
		}
		for len(cells) > 1 && cells[len(cells)-1] == "" {
			cells = cells[:len(cells)-1]
		}
		block = append(block, cells)
	}
	s.block(&b, block)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s screen) block(b *strings.Builder, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, c := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(c))
		}
	}
	total := 0
	for _, width := range widths {
		total += width + gap
	}
	for _, row := range rows {
		if s.width > 0 && len(row) > 1 && total+narrowest > s.width {
			s.stack(b, row)
			continue
		}
		at := 0
		for i, c := range row[:len(row)-1] {
			b.WriteString(s.paint(c, lineColour(i, c)) + strings.Repeat(" ", widths[i]-columns(c)+gap))
			at += widths[i] + gap
		}
		last := row[len(row)-1]
		if len(row) == 1 { // what it is set in by stays
			at = columns(last) - columns(strings.TrimLeft(last, " "))
			b.WriteString(last[:at])
		}
		s.wrapped(b, strings.TrimLeft(last, " "), at, lineColour(len(row)-1, last))
	}
}

// stack writes each cell on a line of its own.
func (s screen) stack(b *strings.Builder, row []string) {
	at := columns(row[0]) - columns(strings.TrimLeft(row[0], " "))
	for i, c := range row {
		set := at
		if i > 0 {
			set += below
		}
		if c = strings.TrimLeft(c, " "); c != "" {
			b.WriteString(strings.Repeat(" ", set))
			s.wrapped(b, c, set, lineColour(i, c))
		}
	}
}

// wrapped ends a line with text that begins at a column.
func (s screen) wrapped(b *strings.Builder, text string, at int, colour string) {
	lines := []string{text}
	if s.width > 0 && at+columns(text) > s.width {
		lines = wrap(text, max(s.width-at, narrowest))
	}
	for i, line := range lines {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", at))
		}
		b.WriteString(s.paint(line, colour) + "\n")
	}
}

// lineColour is that of a cell: of the first one by what it begins with.
func lineColour(i int, text string) string {
	text = strings.TrimLeft(text, " ")
	if i > 0 {
		return ""
	}
	for _, c := range []struct{ colour, words string }{
		{red, "DEGRADED OBSTACLE ERROR CONFLICT"}, {yellow, "NOTE"}, {bold, "NETWORK POOL NDP PARENT SOURCE SYSCTL"},
	} {
		for word := range strings.FieldsSeq(c.words) {
			if strings.HasPrefix(text, word) {
				return c.colour
			}
		}
	}
	return ""
}
