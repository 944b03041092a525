package builders

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"gobuild/internal/cache/compress"
)

// A member is an entry of an archive.
type member struct {
	name     string
	kind     fs.FileMode // type bits
	mode     fs.FileMode // permissions
	link     string      // target: a text for symbolic links, a member for hard links
	hardLink bool
	contents io.Reader
}

// magics are what files begin with that are compressed with a method.
var magics = []struct{ start, method string }{
	{"\x1f\x8b", "gzip"}, {"\xfd7zXZ\x00", "xz"}, {"BZh", "bzip2"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"LZIP", "lzip"},
}

const zipMagic = "PK\x03\x04"

// unpack makes the files of a tar archive, compressed or not, or of a zip
// archive in a directory, and nowhere else.
func unpack(src string, root *os.Root) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	start, err := r.Peek(6)
	if err != nil && err != io.EOF {
		return err
	}
	if bytes.HasPrefix(start, []byte(zipMagic)) {
		return unzip(f, newUnpacker(root))
	}
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.start)) {
			dec, err := compress.NewReader(m.method, r)
			if err != nil {
				return err
			}
			defer dec.Close()
			return untar(dec, newUnpacker(root))
		}
	}
	return untar(r, newUnpacker(root))
}

// untar stops at the end of the archive: what follows is filling.
func untar(r io.Reader, u *unpacker) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		m := member{name: h.Name, mode: fs.FileMode(h.Mode) & fs.ModePerm, link: h.Linkname, contents: t}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		case tar.TypeDir:
			m.kind = fs.ModeDir
		case tar.TypeSymlink:
			m.kind = fs.ModeSymlink
		case tar.TypeLink:
			m.hardLink = true
		default:
			m.kind = fs.ModeIrregular
		}
		if err := u.make(&m); err != nil {
			return err
		}
	}
}

// maxTarget bounds the text of a symbolic link in a zip archive, in bytes.
const maxTarget = 4095

func unzip(f *os.File, u *unpacker) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return err
	}
	for _, entry := range z.File {
		if err := u.makeZipped(entry); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) makeZipped(entry *zip.File) error {
	m := member{name: entry.Name, kind: entry.Mode().Type(), mode: entry.Mode().Perm()}
	if strings.HasSuffix(m.name, "/") {
		m.kind = fs.ModeDir
	}
	if m.kind == fs.ModeDir {
		return u.make(&m)
	}
	r, err := entry.Open()
	if err != nil {
		return fmt.Errorf("'%s': %w", shown(m.name), err)
	}
	defer r.Close()
	if m.contents = r; m.kind == fs.ModeSymlink {
		target, err := io.ReadAll(io.LimitReader(r, maxTarget+1))
		if err != nil {
			return fmt.Errorf("'%s': %w", shown(m.name), err)
		}
		m.link = string(target)
	}
	return u.make(&m)
}

// An unpacker makes members below its root. No member is made, and no hard link
// taken, through a symbolic link, wherever it leads: nothing is looked up in
// directories but those that the unpacker has made itself, and these stay.
type unpacker struct {
	root *os.Root
	dirs map[string]bool
}

func newUnpacker(root *os.Root) *unpacker {
	return &unpacker{root, map[string]bool{".": true}}
}

// shown is a name in a message.
func shown(name string) string {
	const most = 200
	if len(name) > most {
		return name[:most] + "..."
	}
	return name
}

func (u *unpacker) make(m *member) error {
	name, err := clean(m.name)
	if err == nil && name != "." {
		err = u.makeAt(name, m)
	}
	if err != nil {
		return fmt.Errorf("'%s': %w", shown(m.name), err)
	}
	return nil
}

// maxName bounds the path of a member, in bytes, as the kernel bounds paths.
const maxName = 4095

// clean is the path of a member below the root; an absolute one counts from
// there, too.
func clean(name string) (string, error) {
	if len(name) > maxName || strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("the name is too long, or contains a NUL character")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New("the name contains '..'")
		}
	}
	return path.Clean("./" + strings.TrimLeft(name, "/")), nil
}

// makeAt makes a member. An earlier one with its name makes way.
func (u *unpacker) makeAt(name string, m *member) error {
	if err := u.directories(path.Dir(name)); err != nil {
		return err
	}
	if m.kind == fs.ModeDir {
		return u.directory(name, m.mode)
	}
	err := u.leaf(name, m)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if u.dirs[name] {
		return errors.New("a directory is in the way")
	}
	if err := u.root.Remove(name); err != nil {
		return err
	}
	return u.leaf(name, m)
}

// directories makes those that lead to a member and are not there.
func (u *unpacker) directories(name string) error {
	if u.dirs[name] {
		return nil
	}
	if err := u.directories(path.Dir(name)); err != nil {
		return err
	}
	return u.directory(name, 0o755)
}

// directory makes a directory that its owner can fill, if it is not there.
func (u *unpacker) directory(name string, mode fs.FileMode) error {
	if u.dirs[name] {
		return nil
	}
	if err := u.root.Mkdir(name, mode|0o700); errors.Is(err, fs.ErrExist) {
		return errors.New("cannot extract through what is not a directory")
	} else if err != nil {
		return err
	}
	u.dirs[name] = true
	return nil
}

func (u *unpacker) leaf(name string, m *member) error {
	switch {
	case m.hardLink:
		from, err := clean(m.link)
		if err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
		if !u.dirs[path.Dir(from)] {
			return fmt.Errorf("hard link to '%s': there is no such file", shown(m.link))
		}
		return u.root.Link(from, name)
	case m.kind == fs.ModeSymlink:
		if m.link == "" || len(m.link) > maxTarget || strings.IndexByte(m.link, 0) >= 0 {
			return errors.New("the target of the symbolic link is invalid")
		}
		return u.root.Symlink(m.link, name)
	case m.kind != 0:
		return errors.New("it is neither a file nor a directory nor a link")
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, m.mode|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, m.contents)
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}
