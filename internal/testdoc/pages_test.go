package testdoc

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "../.."

// languages are those that a block may be in. What is said to be in Shell is run, by
// TestDocs of test/engine.
var languages = []string{Shell, "text", "yaml", "json", "ini", "nft"}

// command is a line that people would type.
var command = regexp.MustCompile(`^(\$ |# |(sudo )?((bin/)?v6net [a-z]+( |\n)|(apt|bash|cp|curl|docker|docker-compose|echo|firewall-cmd|install|ip|ip6tables|iptables|make|nft|podman|printf|rm|sysctl|systemctl) ))`)

// No command is left out of the tests because its block is not known for one.
func TestBlocksSayWhatTheyAre(t *testing.T) {
	for _, page := range pages(t) {
		blocks, err := Blocks(module, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			if !slices.Contains(languages, b.Language) {
				t.Errorf("%s: the block is in %q, want one of %q behind the fence", b, b.Language, languages)
			}
			for line := range strings.Lines(b.Text) {
				if b.Language == "text" && command.MatchString(line) {
					t.Errorf("%s: commands are in a block of their own, which is in %q: %s", b, Shell, line)
				}
			}
		}
	}
}

// links are those of Markdown, and pictures.
var links = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// What pages link to is there, the heading included.
func TestLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			checked++
			path, heading, _ := strings.Cut(link[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(filepath.Join(module, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", page, link[1])
			} else if heading != "" && !slices.Contains(headings(read(t, target)), heading) {
				t.Errorf("%s links to %s, which has no such heading", page, link[1])
			}
		}
	}
	if checked < 50 {
		t.Errorf("%d links found", checked)
	}
}

// notInHeading is what is left out of a heading's name.
var notInHeading = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// headings are the names by which a page's headings are linked to.
func headings(text string) (names []string) {
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		if title := strings.TrimLeft(line, "#"); title != line && !fenced {
			name := notInHeading.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			names = append(names, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return names
}

func pages(t *testing.T) []string {
	t.Helper()
	pages, err := Pages(module)
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 20 {
		t.Fatalf("%d pages found", len(pages))
	}
	return pages
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(module, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Error messages that a page explains are those of the code: every one in the table
// under "By error message", as far as it is quoted.
func TestMessagesAreOfTheCode(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(module, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		code.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(read(t, "docs/troubleshooting.md"), "\n## By error message\n")
	if !found {
		t.Fatal("docs/troubleshooting.md has no table of messages")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	messages := 0
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, message := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			messages++
			if !strings.Contains(code.String(), message[1]) {
				t.Errorf("docs/troubleshooting.md explains the message %q, which the code does not have", message[1])
			}
		}
	}
	if messages < 15 {
		t.Errorf("%d messages found", messages)
	}
}
