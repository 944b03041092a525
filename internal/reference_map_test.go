package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const referenceMap = "../docs/reference-map.md"

// TestReferenceMap holds the map to the source: what it names must exist, and
// each behaviour must have a test.
func TestReferenceMap(t *testing.T) {
	text, err := os.ReadFile(referenceMap)
	if err != nil {
		t.Fatal(err)
	}
	names, cases := declared(t), conformanceCases(t)
	rows := 0
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 4 || strings.HasPrefix(cells[0], " Reference") {
			continue
		}
		rows++
		for _, place := range quotedWords(cells[2]) {
			if !names[place] && !there("../internal", place) {
				t.Errorf("line %d: there is no '%s'", i+1, place)
			}
		}
		tests := quotedWords(cells[3])
		if len(tests) == 0 {
			t.Errorf("line %d: no test would notice the loss of: %s", i+1, cells[1])
		}
		for _, test := range tests {
			if !testExists(test, names, cases) {
				t.Errorf("line %d: there is no test '%s'", i+1, test)
			}
		}
	}
	if rows < 100 {
		t.Errorf("the map has only %d rows", rows)
	}
}

// testExists knows "package.TestName", "script NAME" and "case NAME".
func testExists(test string, names, cases map[string]bool) bool {
	if name, ok := strings.CutPrefix(test, "script "); ok {
		return there("../testdata/script", name+".txtar")
	}
	if name, ok := strings.CutPrefix(test, "case "); ok {
		return cases[name]
	}
	_, name, _ := strings.Cut(test, ".")
	return names[test] && strings.HasPrefix(name, "Test")
}

func there(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

var quotedWord = regexp.MustCompile("`([^`]+)`")

func quotedWords(cell string) []string {
	var words []string
	for _, m := range quotedWord.FindAllStringSubmatch(cell, -1) {
		words = append(words, m[1])
	}
	return words
}

// declared are the functions, methods, types and tests of the module, by the
// folder below internal, or by "gobuild" for the command.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, pattern := range []string{"*/*.go", "*/*/*.go", "*/*/*/*.go", "../cmd/gobuild/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			pkg := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../cmd/")
			for _, d := range parsed.Decls {
				addDeclared(names, pkg, d)
			}
		}
	}
	return names
}

func addDeclared(names map[string]bool, pkg string, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			of := d.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			if id, ok := of.(*ast.Ident); ok {
				name = id.Name + "." + name
			}
		}
		names[pkg+"."+name] = true
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if s, ok := s.(*ast.TypeSpec); ok {
				names[pkg+"."+s.Name.Name] = true
			}
		}
	}
}

func conformanceCases(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("conformance/cases_test.go")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]bool{}
	for _, m := range regexp.MustCompile(`\{name: "([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
		cases[m[1]] = true
	}
	return cases
}
