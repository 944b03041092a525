package upload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

// executableMark is how many bytes an archive spends on saying that a file is
// executable.
const executableMark = 32

// A lister visits a tree while it is archived, and writes down where in the
// archive everything is: the JSON of binary-cache spec, section 6.
type lister struct {
	text  []byte
	dirs  []string // the open directories below the top
	empty bool     // the innermost directory has no entry yet
	bad   string   // a name or target that JSON cannot express
	debug []debugFile
}

// A debugFile holds what debuggers want to know of a program.
type debugFile struct {
	id     string // as the file is called, with its directory's name before it
	member string // where it is in the tree
}

func newLister() *lister { return &lister{text: []byte(`{"version":1,"root":`)} }

// Visit begins a node. What is no directory is described by file, since the
// place of its contents is not known yet.
func (l *lister) Visit(n *fstree.Node) error {
	if !n.Top() {
		if !l.empty {
			l.text = append(l.text, ',')
		}
		l.str(n.Name)
		l.text = append(l.text, ':')
	}
	l.empty = false
	if n.Kind() == unix.S_IFDIR {
		l.text = append(l.text, `{"type":"directory","entries":{`...)
		l.empty = true
		l.dirs = append(l.dirs, n.Name)
	}
	return nil
}

// Leave ends a directory.
func (l *lister) Leave(*fstree.Node) error {
	l.text = append(l.text, "}}"...)
	l.empty = false
	l.dirs = l.dirs[:len(l.dirs)-1]
	return nil
}

// file describes a file or symbolic link; at is where in the archive its
// description begins.
func (l *lister) file(n *fstree.Node, at uint64) error {
	if n.Kind() == unix.S_IFLNK {
		target := make([]byte, unix.PathMax)
		size, err := unix.Readlinkat(n.Dir, n.Name, target)
		if err != nil {
			return fmt.Errorf("reading symbolic link '%s': %w", n.Path(), err)
		}
		l.text = append(l.text, `{"type":"symlink","target":`...)
		l.str(string(target[:size]))
		l.text = append(l.text, '}')
		return nil
	}
	at += uint64(nar.ContentsOffset) - uint64(len(nar.Magic))
	l.text = append(l.text, `{"type":"regular","size":`...)
	l.text = strconv.AppendInt(l.text, n.Stat.Size, 10)
	if n.Stat.Mode&0o100 != 0 {
		l.text = append(l.text, `,"executable":true`...)
		at += executableMark
	}
	l.text = append(l.text, `,"narOffset":`...)
	l.text = strconv.AppendUint(l.text, at, 10)
	l.text = append(l.text, '}')
	l.noteDebug(n)
	return nil
}

// noteDebug keeps in mind lib/debug/.build-id/XX/REST.debug, where debuggers
// look for what belongs to the program with the build id XXREST.
func (l *lister) noteDebug(n *fstree.Node) {
	if len(l.dirs) != 5 || !slices.Equal(l.dirs[1:4], []string{"lib", "debug", ".build-id"}) {
		return
	}
	first := l.dirs[4]
	rest, ok := strings.CutSuffix(n.Name, ".debug")
	if ok && len(first) == 2 && len(rest) == 38 && isHex(first) && isHex(rest) {
		l.debug = append(l.debug, debugFile{first + n.Name, "lib/debug/.build-id/" + first + "/" + n.Name})
	}
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// end returns the whole, which is good for nothing if there was a name that
// JSON cannot express.
func (l *lister) end() ([]byte, error) {
	if l.bad != "" {
		return nil, fmt.Errorf("'%q' cannot be listed, because it is not UTF-8; copy without write-nar-listing", l.bad)
	}
	return append(l.text, '}'), nil
}

func (l *lister) str(s string) {
	if !utf8.ValidString(s) {
		l.bad = s
	}
	l.text = appendString(l.text, s)
}

// appendString writes a JSON string with no more escapes than JSON demands, as
// Nix does: listings are compared byte for byte.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
