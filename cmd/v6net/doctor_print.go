package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/v6net/v6net/internal/doctor"
)

// reportWidth is where lines are broken, on a screen that is not narrower.
const reportWidth = 100

// levelWords are how levels are shown, and their colours (ECMA-48 SGR).
var levelWords = map[doctor.Level]struct{ word, colour string }{
	doctor.Problem: {"PROBLEM", red},
	doctor.Warning: {"WARNING", yellow},
	doctor.Note:    {"NOTE", cyan},
}

// printReport writes a report for people.
func printReport(w io.Writer, r report, on screen) error {
	var b strings.Builder
	paint, width := on.paint, reportWidth
	if on.width > 0 {
		width = min(width, max(on.width, narrowest+12))
	}
	for _, c := range r.Set {
		if c.Error != "" {
			fmt.Fprintf(&b, "%s  %s=%s: %s\n", paint("NOT SET", red), c.Key, c.Value, c.Error)
			continue
		}
		fmt.Fprintf(&b, "%s  %s=%s, was %s (undo: sysctl -w %s=%s)\n", paint("SET", green), c.Key, c.Value, c.Before, c.Key, c.Before)
	}
	if len(r.Set) > 0 {
		b.WriteString("These last until the machine starts again; to keep them write them into /etc/sysctl.d.\n\n")
	}
	for _, f := range r.Findings {
		title := f.Check
		if f.On != "" {
			title += ": " + f.On
		}
		level := levelWords[f.Level]
		fmt.Fprintf(&b, "%s  %s\n", paint(level.word, level.colour), printable(title))
		for _, row := range [][2]string{{"found", f.Found}, {"expected", f.Expected}, {"why", f.Why}, {"fix", f.Fix}} {
			for i, line := range wrap(printable(strings.ReplaceAll(row[1], "`", "")), width-12) {
				label := row[0]
				if i > 0 {
					label = ""
				}
				fmt.Fprintf(&b, "  %-10s%s\n", label, line)
			}
		}
		b.WriteString("\n")
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "%s  %s: %s\n", paint("UNKNOWN", yellow), u.What, printable(u.Why))
	}
	if len(r.NotAsked) > 0 {
		fmt.Fprintf(&b, "not asked: %s (--online does)\n", strings.Join(r.NotAsked, ", "))
	}
	b.WriteString(summary(r))
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is the last line.
func summary(r report) string {
	count := map[doctor.Level]int{}
	fixable := 0
	for _, f := range r.Findings {
		count[f.Level]++
		if len(f.Settings) > 0 {
			fixable++
		}
	}
	if len(r.Findings) == 0 && len(r.Unknown) > 0 {
		return fmt.Sprintf("nothing was found, but %s could not be looked at\n", several(len(r.Unknown), "thing"))
	}
	if len(r.Findings) == 0 {
		return fmt.Sprintf("nothing is wrong, by %d checks\n", len(doctor.Checks())-len(r.NotAsked))
	}
	text := fmt.Sprintf("%s, %s, %s", several(count[doctor.Problem], "problem"), several(count[doctor.Warning], "warning"), several(count[doctor.Note], "note"))
	if fixable > 0 {
		text += fmt.Sprintf("; --fix mends %d", fixable)
	}
	return text + "\n"
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printable keeps a text that came from elsewhere from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// wrap breaks a text into lines of so many characters, as far as its words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
