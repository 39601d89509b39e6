package bench_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Between these a page is written by the benchmark.
const (
	measuredBegin = "<!-- make bench writes what follows -->\n"
	measuredEnd   = "<!-- make bench wrote what precedes -->\n"
)

// measured is all that one run has for the pages.
type measured struct {
	table, picture               []byte
	ndproxyTable, ndproxyPicture []byte // of the NDP proxy beside its peers
}

// publish writes it into the pages of a folder. What people wrote around it stays.
func (m measured) publish(folder string) error {
	bars := m.ndproxyTable[max(bytes.Index(m.ndproxyTable, []byte("| wanted |")), 0):]
	page := fmt.Appendf(nil, "%s\n![how many times better or worse than its peer each is, and what one of many takes](bench.svg)\n\n"+
		"The NDP proxy beside ndppd and the kernel's, in the same run ([the whole](ndproxy.md)):\n\n%s", bytes.TrimLeft(m.table, "\n"), bars)
	return errors.Join(
		rewrite(filepath.Join(folder, "README.md"), page),
		rewrite(filepath.Join(folder, "ndproxy.md"), m.ndproxyTable),
		os.WriteFile(filepath.Join(folder, "bench.svg"), m.picture, 0o644),
		os.WriteFile(filepath.Join(folder, "ndproxy.svg"), m.ndproxyPicture, 0o644),
	)
}

// rewrite puts a text in the place of what a page had from the benchmark.
func rewrite(page string, text []byte) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("write what was measured: %w", err)
	}
	before, rest, began := bytes.Cut(old, []byte(measuredBegin))
	_, after, ended := bytes.Cut(rest, []byte(measuredEnd))
	if !began || !ended {
		return fmt.Errorf("write what was measured: %s has no place for it, between %q and %q", page, measuredBegin, measuredEnd)
	}
	all := bytes.Join([][]byte{before, []byte(measuredBegin), []byte("\n"), bytes.TrimSpace(text), []byte("\n\n"), []byte(measuredEnd), after}, nil)
	if err := os.WriteFile(page, all, 0o644); err != nil {
		return fmt.Errorf("write what was measured: %w", err)
	}
	return nil
}

// The pages that are in the documentation have a place for what is measured, and a run writes
// nothing beside it.
func TestPublish(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"README.md", "ndproxy.md"} {
		page, err := os.ReadFile(filepath.Join("../../docs/benchmarks", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), page, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	around := func(page string) string {
		before, rest, _ := bytes.Cut([]byte(page), []byte(measuredBegin))
		_, after, _ := bytes.Cut(rest, []byte(measuredEnd))
		return string(before) + string(after)
	}
	kept, keptOfProxy := around(read("README.md")), around(read("ndproxy.md"))
	first := measured{[]byte("\n| a row |\n"), []byte("<svg/>"), []byte("| all |\n\n| wanted | measured | |\n| a bar |\n"), []byte("<svg></svg>")}
	second := first
	second.table = []byte("\n| another row |\n")
	for _, m := range []measured{first, second} {
		if err := m.publish(folder); err != nil {
			t.Fatal(err)
		}
	}
	page := read("README.md")
	for text, want := range map[string]bool{"| another row |": true, "| a row |": false, "(bench.svg)": true, "| a bar |": true, "| all |": false} {
		if bytes.Contains([]byte(page), []byte(text)) != want {
			t.Errorf("%q is in the page: %t, want %t:\n%s", text, !want, want, page)
		}
	}
	if proxy := read("ndproxy.md"); around(page) != kept || around(proxy) != keptOfProxy || !bytes.Contains([]byte(proxy), []byte("| all |\n\n| wanted |")) {
		t.Errorf("what people wrote has changed:\n%s\n%s", page, proxy)
	}
	if read("bench.svg") != "<svg/>" || read("ndproxy.svg") != "<svg></svg>" {
		t.Error("the pictures are not there")
	}
	if err := os.WriteFile(filepath.Join(folder, "README.md"), []byte(measuredEnd+measuredBegin), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.publish(folder); err == nil {
		t.Error("a page without a place for it was written")
	}
}
