package testdoc

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Shell is the language of blocks whose lines are commands to type.
const Shell = "sh"

// Block is a fenced block of a Markdown page.
type Block struct {
	Page     string // from the module's folder
	Line     int    // of its first line
	Language string // what stands behind the fence
	Text     string
}

func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Pages are all Markdown pages below the module's folder, by their paths from there.
func Pages(module string) ([]string, error) {
	var pages []string
	err := filepath.WalkDir(module, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "build" || strings.HasPrefix(entry.Name(), ".") && path != module):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			page, err := filepath.Rel(module, path)
			pages = append(pages, page)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find pages: %w", err)
	}
	return pages, nil
}

// Blocks reads the fenced blocks of a page.
func Blocks(module, page string) ([]Block, error) {
	text, err := os.ReadFile(filepath.Join(module, page))
	if err != nil {
		return nil, err
	}
	var blocks []Block
	var open *Block
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			open = &Block{Page: page, Line: number + 1, Language: language}
		case fence:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.Text += line
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block is not closed", open)
	}
	return blocks, nil
}
