package config

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Bounds on what configuration files may make us do; no real configuration
// comes near them.
const (
	maxFileSize = 16 << 20
	maxIncludes = 256
)

// An assignment is one "NAME = VALUE" line.
type assignment struct{ name, value string }

// A reader collects the assignments of a file and of those it includes.
type reader struct {
	open     func(file string) (string, error)
	includes int
	stack    []string // files being read, outermost first
	out      []assignment
}

// readFile returns a file's contents, at most maxFileSize bytes.
func readFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFileSize {
		return "", fmt.Errorf("configuration file '%s' is too large", file)
	}
	return string(b), nil
}

// contents reads text that is, or stands for, the named file.
func (r *reader) contents(text, file string) error {
	r.stack = append(r.stack, file)
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if err := r.line(line, file); err != nil {
			return err
		}
	}
	r.stack = r.stack[:len(r.stack)-1]
	return nil
}

func (r *reader) line(line, file string) error {
	line, _, _ = strings.Cut(line, "#")
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return nil
	case len(words) == 2 && (words[0] == "include" || words[0] == "!include"):
		return r.include(words[1], file, words[0] == "include")
	case len(words) < 2 || words[1] != "=":
		return fmt.Errorf("syntax error in configuration line '%s' in '%s'", line, file)
	}
	r.out = append(r.out, assignment{words[0], strings.Join(words[2:], " ")})
	return nil
}

// include reads another file in place of the line that names it. A file that
// exists but cannot be read counts as empty, like the first one.
func (r *reader) include(target, file string, required bool) error {
	if !strings.HasPrefix(target, "/") {
		if dir := path.Dir(file); strings.HasPrefix(dir, "/") {
			target = path.Join(dir, target)
		} else {
			return fmt.Errorf("not an absolute path: '%s/%s'", dir, target)
		}
	}
	target = path.Clean(target)
	if r.includes++; r.includes > maxIncludes {
		return fmt.Errorf("too many included files in '%s'", r.stack[0])
	}
	for _, f := range r.stack {
		if f == target {
			return fmt.Errorf("file '%s' included from '%s' includes itself", target, file)
		}
	}
	text, err := r.open(target)
	switch {
	case err == nil:
		return r.contents(text, target)
	case required && os.IsNotExist(err):
		return fmt.Errorf("file '%s' included from '%s' not found", target, file)
	}
	return nil
}

// parse reads text under the name of a file and returns its assignments in
// the order in which they are to be applied: experimental features first,
// since other lines may need them.
func parse(text, file string, open func(string) (string, error)) ([]assignment, error) {
	r := reader{open: open}
	if err := r.contents(text, file); err != nil {
		return nil, err
	}
	return featuresFirst(r.out), nil
}

func featuresFirst(in []assignment) []assignment {
	out := make([]assignment, 0, len(in))
	for _, a := range in {
		if isFeatures(a.name) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return in
	}
	for _, a := range in {
		if !isFeatures(a.name) {
			out = append(out, a)
		}
	}
	return out
}

func isFeatures(name string) bool {
	return strings.TrimPrefix(name, "extra-") == "experimental-features"
}
