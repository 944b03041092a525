package builders

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A pkg is a tree to be linked into an environment. Of two files with one name
// that of the lower priority number is linked.
type pkg struct {
	path     string
	priority int
}

// buildenv makes an environment: one tree of links to the files of packages.
func (b *build) buildenv() error {
	values, err := b.attributes("out", "derivations", "manifest")
	if err != nil {
		return err
	}
	out, manifest := values[0], values[2]
	pkgs, err := parsePackages(values[1])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	e := &environment{build: b, out: out, priorities: map[string]int{}, done: map[string]bool{}}
	if err := e.addAll(pkgs); err != nil {
		return err
	}
	return os.Symlink(manifest, filepath.Join(out, "manifest.nix"))
}

// firstPropagated is the priority of the first package that is linked because
// another one asks for it; each further one has one more.
const firstPropagated = 1000

// parsePackages reads the active packages: for each derivation whether it is
// active, its priority, the number of its outputs, and these.
func parsePackages(text string) ([]pkg, error) {
	words := strings.Fields(text)
	next := func() (word string) {
		if len(words) > 0 {
			word, words = words[0], words[1:]
		}
		return word
	}
	var pkgs []pkg
	for len(words) > 0 {
		active := next() != "false"
		priority, err := strconv.Atoi(next())
		if err != nil {
			return nil, errors.New("the attribute 'derivations' has no number where a priority is expected")
		}
		count, err := strconv.Atoi(next())
		if err != nil || count > len(words) {
			return nil, errors.New("the attribute 'derivations' ends in the middle of a list of outputs")
		}
		for range count {
			if p := next(); active {
				pkgs = append(pkgs, pkg{p, priority})
			}
		}
	}
	return pkgs, nil
}

// An environment is what has been linked so far.
type environment struct {
	*build
	out        string
	priorities map[string]int  // of links, by their paths
	done       map[string]bool // packages
}

// addAll links packages in the order of their priorities, then those that they
// propagate.
func (e *environment) addAll(pkgs []pkg) error {
	slices.SortFunc(pkgs, func(a, b pkg) int {
		if a.priority != b.priority {
			return a.priority - b.priority
		}
		return strings.Compare(a.path, b.path)
	})
	for priority := firstPropagated; len(pkgs) > 0; {
		propagated := map[string]bool{}
		for _, p := range pkgs {
			if err := e.add(p, propagated); err != nil {
				return err
			}
		}
		pkgs = pkgs[:0]
		var names []string
		for name := range propagated {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			pkgs = append(pkgs, pkg{name, priority})
			priority++
		}
	}
	return nil
}

// add links a package, and notes what it propagates.
func (e *environment) add(p pkg, propagated map[string]bool) error {
	if e.done[p.path] {
		return nil
	}
	e.done[p.path] = true
	if err := e.link(p.path, e.out, p.priority); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(p.path, "nix-support", "propagated-user-env-packages"))
	if err != nil && !missing(err) {
		return err
	}
	for _, name := range strings.FieldsFunc(string(text), func(c rune) bool { return c == ' ' || c == '\n' }) {
		if !e.done[name] {
			propagated[name] = true
		}
	}
	return nil
}

// missing tells whether a file is not there, nor its directory.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// leftOut tells files that no environment has: they are of no use there, or all
// packages have them.
func leftOut(path string) bool {
	return slices.ContainsFunc([]string{"/propagated-build-inputs", "/nix-support", "/perllocal.pod", "/info/dir", "/log",
		"/manifest.nix", "/manifest.json"}, func(end string) bool { return strings.HasSuffix(path, end) })
}

// link links the contents of the directory src into the directory dst.
func (e *environment) link(src, dst string, priority int) error {
	entries, err := os.ReadDir(src)
	if errors.Is(err, unix.ENOTDIR) {
		e.warn("not including '%s' in the user environment because it's not a directory", src)
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		from, to := src+"/"+entry.Name(), dst+"/"+entry.Name()
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		info, err := os.Stat(from)
		switch {
		case err != nil && missing(err):
			e.warn("skipping dangling symlink '%s'", to)
			continue
		case err != nil:
			return err
		case leftOut(from):
			continue
		case info.IsDir():
			err = e.linkDir(from, to, priority)
		default:
			err = e.linkFile(from, to, priority)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linkDir makes to lead to the directory from: as a link, until a second
// directory is to be found at to as well.
func (e *environment) linkDir(from, to string, priority int) error {
	there, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.symlink(from, to, priority)
	case err != nil:
		return err
	case there.IsDir():
		return e.link(from, to, priority)
	case there.Mode()&fs.ModeSymlink == 0:
		return e.symlink(from, to, priority) // fails, and says why
	}
	target, err := filepath.EvalSymlinks(to)
	if err != nil {
		return err
	}
	if info, err := os.Lstat(target); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("collision between '%s' and non-directory '%s'", from, target)
	}
	if err := os.Remove(to); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if err := e.link(target, to, e.priorities[to]); err != nil {
		return err
	}
	return e.link(from, to, priority)
}

// linkFile links a file unless a better one is linked already.
func (e *environment) linkFile(from, to string, priority int) error {
	there, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.symlink(from, to, priority)
	case err != nil:
		return err
	case there.IsDir():
		return fmt.Errorf("collision between non-directory '%s' and directory '%s'", from, to)
	case there.Mode()&fs.ModeSymlink == 0:
		return e.symlink(from, to, priority)
	}
	switch before := e.priorities[to]; {
	case before == priority:
		other, err := os.Readlink(to)
		if err != nil {
			return err
		}
		return fmt.Errorf("packages '%s' and '%s' have the same priority %d; use 'nix-env --set-flag priority NUMBER INSTALLED_PKGNAME' "+
			"to change the priority of one of the conflicting packages (0 being the highest priority)", from, other, priority)
	case before < priority:
		return nil
	}
	if err := os.Remove(to); err != nil {
		return err
	}
	return e.symlink(from, to, priority)
}

func (e *environment) symlink(from, to string, priority int) error {
	e.priorities[to] = priority
	return os.Symlink(from, to)
}
