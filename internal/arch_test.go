// Package internal_test holds the whole program to the rules of ARCHITECTURE.md,
// and the documents that are made from code to that code.
package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport lists for each package of the program what it imports beside the
// standard library: packages of this module by their path below internal, and
// others by their whole path. A package that is not here may not exist; an
// entry that is not used may not stay.
var mayImport = map[string]string{
	"cmd/gobuild": cobra + " " + unix + " activity builtin cache/wire config goal hook logzip netprogram protocol remote remote/buildhook sandbox store store/archive store/digest store/drv store/drv/drvjson" +
		" store/finalise store/gc store/nar store/sign store/storepath ui worker worker/proc",

	"cmd/gobuild-net": "builtin builtin/builders cache/fetch cache/upload cache/wire",

	"activity": "",
	"cache": aws + " " + httpproxy + " " + unix + " activity cache/compress cache/infocache cache/netrc cache/wire store/narinfo" +
		" store/sign store/storepath",
	"cache/fetch": unix + " activity cache cache/compress cache/wire store/digest store/finalise store/fstree store/nar" +
		" store/narinfo store/optimise store/storepath",
	"cache/infocache":  sqlite,
	"cache/netrc":      "",
	"builtin":          "",
	"builtin/builders": httpproxy + " " + unix + " activity builtin cache/compress cache/netrc store/nar",
	"cache/compress":   brotli + " " + bzip2 + " " + gzip + " " + zstd,
	"cache/upload": unix + " activity cache cache/compress cache/wire store/digest store/fstree store/nar store/narinfo store/sign" +
		" store/storepath",
	"cache/wire": "activity store/digest store/storepath",
	"config":     unix + " store/storepath",
	"goal": bzip2 + " " + unix + " activity builtin cache/wire hook logline logzip sandbox store store/digest store/drv store/finalise store/fstree" +
		" store/pathlock store/readahead store/sign store/storepath worker worker/proc",
	"hook":        unix + " store/digest store/storepath worker/proc",
	"logline":     "activity",
	"logzip":      bzip2 + " " + unix,
	"netprogram":  unix,
	"protocol":    "store/digest store/drv store/storepath",
	"remote":      unix + " protocol store store/archive store/digest store/nar store/storepath",
	"sandbox":     unix + " store/pathlock worker/proc",
	"ui":          unix + " activity store/storepath",
	"worker":      unix + " worker/proc",
	"worker/proc": unix,

	"store": sqlite + " " + unix + " store/digest store/drv store/finalise store/fstree store/nar store/optimise store/pathlock" +
		" store/storepath",
	"store/archive":     unix + " protocol store store/digest store/finalise store/nar store/optimise store/refscan store/storepath",
	"store/digest":      "",
	"store/drv":         "store/digest store/storepath",
	"store/drv/drvjson": "store/digest store/drv store/storepath",
	"store/finalise":    unix + " store/digest store/fstree store/nar store/optimise store/refscan",
	"store/fstree":      unix,
	"store/gc":          unix + " store store/digest store/fstree store/pathlock store/storepath",
	"store/nar":         unix + " store/fstree",
	"store/narinfo":     "store/digest store/storepath",
	"store/optimise":    unix + " store/digest store/fstree store/nar",
	"store/pathlock":    unix,
	"store/readahead":   unix + " store/storepath",
	"store/refscan":     "store/digest",
	"store/sign":        "store/digest store/storepath",
	"store/storepath":   "store/digest",

	"bench":               sqlite + " " + unix + " cache/compress store/digest store/drv store/narinfo store/storepath",
	"conformance":         "",
	"remote/buildhook":    unix + " activity protocol remote store store/drv store/pathlock store/storepath",
	"remote/sshtest":      "",
	"conformance/nixtest": sqlite,
}

const (
	aws = "github.com/aws/aws-sdk-go-v2/aws github.com/aws/aws-sdk-go-v2/aws/signer/v4 github.com/aws/aws-sdk-go-v2/config" +
		" github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	httpproxy = "golang.org/x/net/http/httpproxy"
	brotli    = "github.com/andybalholm/brotli"
	bzip2     = "github.com/dsnet/compress/bzip2"
	cobra     = "github.com/spf13/cobra"
	gzip      = "github.com/klauspost/compress/gzip"
	sqlite    = "github.com/mattn/go-sqlite3"
	unix      = "golang.org/x/sys/unix"
	zstd      = "github.com/klauspost/compress/zstd"
)

// inTheLoop are the packages whose code runs in the engine's event loop, which
// has one thread of control.
var inTheLoop = []string{"goal", "hook", "logline", "sandbox", "store", "worker", "worker/proc"}

// mains are the files in which programs begin and end.
var mains = []string{"cmd/gobuild/main.go", "cmd/gobuild-net/main.go"}

// notTheProgram are a command for developers, and the support of tests.
var notTheProgram = []string{"bench", "conformance", "conformance/nixtest", "remote/sshtest"}

const (
	maxFileLines     = 400
	maxFunctionLines = 80
)

// A source is a file of the module that is not a test.
type source struct {
	pkg   string // as in mayImport
	name  string // relative to the module
	file  *ast.File
	fset  *token.FileSet
	lines int
}

// at is where a node is, for messages.
func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.fset.Position(n.Pos()).Line)
}

func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	for _, root := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && d.Name() == "testdata" {
				return errOr(err, fs.SkipDir)
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			s := &source{name: name[len("../"):], fset: token.NewFileSet()}
			s.pkg = strings.TrimPrefix(path.Dir(s.name), "internal/")
			s.file, err = parser.ParseFile(s.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			s.lines = s.fset.Position(s.file.FileEnd).Line - 1
			all = append(all, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// imports are the packages that a file imports, named as in mayImport; those of
// the standard library are in std instead.
func (s *source) imports() (others, std []string) {
	for _, spec := range s.file.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		own, ok := strings.CutPrefix(p, "gobuild/internal/")
		switch first, _, _ := strings.Cut(p, "/"); {
		case ok:
			others = append(others, own)
		case strings.Contains(first, "."):
			others = append(others, p)
		default:
			std = append(std, p)
		}
	}
	return others, std
}

// TestImports keeps dependencies one way, and few.
func TestImports(t *testing.T) {
	unused := map[string]map[string]bool{}
	for pkg, list := range mayImport {
		unused[pkg] = map[string]bool{}
		for _, p := range strings.Fields(list) {
			unused[pkg][p] = true
		}
	}
	for _, s := range sources(t) {
		list, ok := mayImport[s.pkg]
		if !ok {
			t.Errorf("%s: the package '%s' is not in the table of packages", s.name, s.pkg)
			continue
		}
		others, _ := s.imports()
		for _, p := range others {
			if !slices.Contains(strings.Fields(list), p) {
				t.Errorf("%s: the package '%s' may not import '%s'", s.name, s.pkg, p)
			}
			delete(unused[s.pkg], p)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(unused)) {
		for p := range unused[pkg] {
			t.Errorf("the package '%s' may import '%s', but does not", pkg, p)
		}
	}
}

// TestLayers holds the table itself to the rules from which it follows.
func TestLayers(t *testing.T) {
	for pkg, list := range mayImport {
		for _, p := range strings.Fields(list) {
			switch {
			case pkg == "worker" && (p == "goal" || strings.HasPrefix(p, "store")):
				t.Errorf("the scheduler knows goals by an interface only; it may not import '%s'", p)
			case p == "store" && !slices.Contains([]string{"cmd/gobuild", "goal", "remote", "remote/buildhook", "store/archive", "store/gc"}, pkg):
				t.Errorf("'%s' may not name the database: it may not import 'store'", pkg)
			case p == "goal" && pkg != "cmd/gobuild", p == "config" && pkg != "cmd/gobuild", p == "ui" && pkg != "cmd/gobuild":
				t.Errorf("'%s' may not import '%s', which is for the command line", pkg, p)
			case p == cobra && pkg != "cmd/gobuild":
				t.Errorf("'%s' may not import cobra", pkg)
			case p == sqlite && pkg != "store" && pkg != "cache/infocache" && !slices.Contains(notTheProgram, pkg):
				t.Errorf("'%s' may not import the database driver", pkg)
			case slices.Contains(notTheProgram, p) && !slices.Contains(notTheProgram, pkg):
				t.Errorf("'%s' may not import '%s', which is for developers", pkg, p)
			}
		}
	}
}

// TestOneThread finds concurrency where there must be none.
func TestOneThread(t *testing.T) {
	for _, s := range sources(t) {
		if !slices.Contains(inTheLoop, s.pkg) {
			continue
		}
		_, std := s.imports()
		for _, p := range std {
			if p == "sync" || p == "sync/atomic" {
				t.Errorf("%s: the event loop has one thread; it may not import '%s'", s.name, p)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: the event loop has one thread, and starts no goroutine", s.at(n))
			case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
				t.Errorf("%s: the event loop has one thread, and no channels", s.at(n))
			}
			return true
		})
	}
}

// TestWorldIsAskedInOnePlace keeps the environment and the exit status where
// they can be found.
func TestWorldIsAskedInOnePlace(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains(notTheProgram, s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, _ := sel.X.(*ast.Ident)
			if from == nil || from.Name != "os" {
				return true
			}
			switch sel.Sel.Name {
			case "Exit":
				if !slices.Contains(mains, s.name) {
					t.Errorf("%s: only main ends the program", s.at(n))
				}
			case "Getenv", "LookupEnv", "Environ", "ExpandEnv":
				if !slices.Contains(mains, s.name) && s.pkg != "config" {
					t.Errorf("%s: the environment is read by main and config only", s.at(n))
				}
			}
			return true
		})
	}
}

// TestSizes keeps files and functions readable.
func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > maxFileLines {
			t.Errorf("%s has %d lines; at most %d", s.name, s.lines, maxFileLines)
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines; at most %d", s.at(f), f.Name.Name, n, maxFunctionLines)
			}
			if f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: nothing happens before main: no init functions", s.at(f))
			}
		}
	}
}

// TestPackageDocs wants one sentence of purpose for every package.
func TestPackageDocs(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range sources(t) {
		docs[s.pkg] = append(docs[s.pkg], nil...)
		if s.file.Doc == nil {
			continue
		}
		docs[s.pkg] = append(docs[s.pkg], s.name)
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(s.pkg) + " "
		}
		if text := s.file.Doc.Text(); !strings.HasPrefix(text, want) {
			t.Errorf("%s: the package's comment does not begin with '%s'", s.name, want)
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("the package '%s' has %d comments, want one: %s", pkg, len(files), strings.Join(files, ", "))
		}
	}
	for pkg := range docs {
		if slices.Contains([]string{"common", "errors", "helpers", "types", "util", "utils"}, path.Base(pkg)) {
			t.Errorf("'%s' says nothing about what is in the package", pkg)
		}
	}
}

// TestNoGlobalState allows tables, sentinel errors and embedded files only.
func TestNoGlobalState(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains(notTheProgram, s.pkg) {
			continue
		}
		for _, decl := range s.file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR || d.Doc != nil && strings.Contains(directives(d.Doc), "//go:embed ") {
				continue
			}
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				for i, name := range v.Names {
					if name.Name != "_" && (i >= len(v.Values) || !isConstant(v.Values[i])) {
						t.Errorf("%s: '%s' is state of the whole process", s.at(name), name.Name)
					}
				}
			}
		}
	}
}

func directives(doc *ast.CommentGroup) string {
	text := ""
	for _, c := range doc.List {
		text += c.Text + "\n"
	}
	return text
}

// isConstant tells whether an expression makes a value that nobody changes: a
// table, one computed by a function literal, a sentinel or a conversion.
func isConstant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.CallExpr:
		switch f := e.Fun.(type) {
		case *ast.FuncLit, *ast.ArrayType:
			return true
		case *ast.SelectorExpr:
			from, ok := f.X.(*ast.Ident)
			return ok && from.Name == "errors" && f.Sel.Name == "New"
		}
	}
	return false
}
