package testdoc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// JSON describes, in Markdown, the JSON that a type of the package in dir has, and that
// of every type of the package which is in it: a table each, of the names, kinds and
// comments that the source has. A field without a comment fails the test.
func JSON(t *testing.T, dir, root string) string {
	t.Helper()
	parsed, err := parser.ParseDir(token.NewFileSet(), dir, func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, parser.ParseComments) //nolint:staticcheck // no types are needed
	if err != nil {
		t.Fatal(err)
	}
	d := describer{t: t, types: map[string]*ast.TypeSpec{}, done: map[string]bool{}}
	for _, pkg := range parsed {
		for _, file := range pkg.Files {
			for _, decl := range file.Decls {
				group, ok := decl.(*ast.GenDecl)
				if !ok || group.Tok != token.TYPE {
					continue
				}
				for _, s := range group.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok {
						if ts.Doc == nil {
							ts.Doc = group.Doc
						}
						d.types[ts.Name.Name] = ts
					}
				}
			}
		}
	}
	d.queue = []string{root}
	var b strings.Builder
	for len(d.queue) > 0 {
		name := d.queue[0]
		d.queue = d.queue[1:]
		if d.done[name] {
			continue
		}
		d.done[name] = true
		if name != root {
			fmt.Fprintf(&b, "### %s\n\n", name)
		}
		b.WriteString("| field | kind | |\n| --- | --- | --- |\n")
		d.rows(&b, name)
		b.WriteString("\n")
	}
	return b.String()
}

type describer struct {
	t     *testing.T
	types map[string]*ast.TypeSpec
	queue []string
	done  map[string]bool
}

func (d *describer) rows(b *strings.Builder, name string) {
	s, ok := d.types[name].Type.(*ast.StructType)
	if !ok {
		d.t.Fatalf("%s is no struct", name)
	}
	comment := ""
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 { // embedded: its fields are the struct's
			if id, ok := f.Type.(*ast.Ident); ok {
				d.rows(b, id.Name)
			}
			continue
		}
		if text := words(f); text != "" {
			comment = text
		}
		if f.Tag == nil {
			d.t.Errorf("%s.%s has no JSON name", name, f.Names[0])
			continue
		}
		key, options, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if key == "-" {
			continue
		}
		if words(f) == "" {
			d.t.Errorf("%s.%s (%s) has no comment: say what it is", name, f.Names[0], key)
		}
		kind := d.kind(f.Type)
		if strings.HasPrefix(options, "omit") {
			kind += ", if any"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, kind, strings.NewReplacer("|", "\\|", "nil: ", "none: ").Replace(comment))
	}
}

// words are a field's comments, those above and behind it.
func words(f *ast.Field) string {
	var all []string
	for _, c := range []*ast.CommentGroup{f.Doc, f.Comment} {
		if c != nil {
			all = append(all, strings.Fields(c.Text())...)
		}
	}
	return strings.Join(all, " ")
}

// kind is a type in words; structs of the package come later.
func (d *describer) kind(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return d.kind(e.X)
	case *ast.ArrayType:
		return "list of " + d.kind(e.Elt)
	case *ast.MapType:
		return "object of " + d.kind(e.Value)
	case *ast.IndexExpr:
		return d.kind(e.X)
	case *ast.SelectorExpr:
		switch e.Sel.Name {
		case "Addr":
			return "address"
		case "Time":
			return "time (RFC 3339)"
		}
		return strings.ToLower(e.Sel.Name)
	case *ast.Ident:
		ts, ours := d.types[e.Name]
		switch {
		case !ours && e.Name == "bool":
			return "true or false"
		case !ours && e.Name == "string":
			return "text"
		case !ours:
			return "number"
		case e.Name == "MAC":
			return "MAC address"
		}
		if _, isStruct := ts.Type.(*ast.StructType); !isStruct {
			return d.kind(ts.Type)
		}
		if !slices.Contains(d.queue, e.Name) {
			d.queue = append(d.queue, e.Name)
		}
		return fmt.Sprintf("[%s](#%s)", e.Name, strings.ToLower(e.Name))
	default:
		return "text"
	}
}
