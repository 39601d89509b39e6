package main

import (
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

// cell is one of a table's. Its colour does not count as width.
type cell struct{ text, colour string }

// columns is how wide a text is. Ours are of one column a character.
func columns(text string) int { return len([]rune(text)) }

// pad is a text of so many columns, or its own width if it is wider.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-columns(text)))
}

// table lays rows out in columns, each as wide as its widest cell. The last cell of a
// row gets what is left of the screen and is wrapped there, under itself; where too
// little is left it comes on lines of its own, indented.
func (s screen) table(w io.Writer, indent string, rows [][]cell) error {
	var widths []int
	for _, row := range rows {
		for i, c := range row[:max(0, len(row)-1)] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(c.text))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		b.WriteString(indent)
		at := columns(indent)
		for i, c := range row {
			if i < len(row)-1 {
				b.WriteString(s.paint(c.text, c.colour) + strings.Repeat(" ", widths[i]-columns(c.text)+gap))
				at += widths[i] + gap
				continue
			}
			under := at
			lines := []string{c.text}
			if s.width > 0 && at+columns(c.text) > s.width {
				if s.width-at < narrowest { // on lines of its own
					under = columns(indent) + 4
					trimmed := strings.TrimRight(b.String(), " ")
					b.Reset()
					b.WriteString(trimmed + "\n" + strings.Repeat(" ", under))
				}
				lines = wrap(c.text, max(s.width-under, narrowest))
			}
			for j, line := range lines {
				if j > 0 {
					b.WriteString("\n" + strings.Repeat(" ", under))
				}
				b.WriteString(s.paint(line, c.colour))
			}
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Between two columns, and the least that text is wrapped into.
const (
	gap       = 2
	narrowest = 24
)
