package builders

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/cache/compress"
)

// An entry is a member of an archive that a test makes.
type entry struct {
	name string
	kind byte // of the tar format
	text string
	mode int64 // 0: 0644
}

func tarball(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Format: tar.FormatPAX}
		switch e.kind {
		case tar.TypeReg:
			h.Size = int64(len(e.text))
		case tar.TypeXGlobalHeader:
			h = &tar.Header{Typeflag: e.kind, PAXRecords: map[string]string{"comment": e.text}}
		default:
			h.Linkname = e.text
		}
		if h.Mode == 0 && e.kind != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(0o644)
		switch e.kind {
		case tar.TypeDir:
			mode = fs.ModeDir | 0o755
		case tar.TypeSymlink:
			mode = fs.ModeSymlink | 0o777
		}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (l *lab) channel(archive []byte) error {
	l.t.Helper()
	if err := os.RemoveAll(l.path("out")); err != nil {
		l.t.Fatal(err)
	}
	src := l.write("archive", string(archive))
	return l.run("unpack-channel", nil, map[string]string{"src": src, "channelName": "channel"})
}

var usual = []entry{
	{kind: tar.TypeXGlobalHeader, text: "a commit"},
	{"./", tar.TypeDir, "", 0o755},
	{"./top/", tar.TypeDir, "", 0o555},
	{"./top/file", tar.TypeReg, "one", 0},
	{"./top/run", tar.TypeReg, "two", 0o755},
	{"./top/link", tar.TypeSymlink, "../../../etc/passwd", 0},
	{"./top/hard", tar.TypeLink, "top/file", 0},
	{"top/no/parents//file", tar.TypeReg, "three", 0},
}

const usualTree = `./
channel/
channel/file: one
channel/hard: one
channel/link -> ../../../etc/passwd
channel/no/
channel/no/parents/
channel/no/parents/file: three
channel/run: two
`

func TestUnpackChannel(t *testing.T) {
	plain := tarball(t, usual)
	archives := map[string][]byte{"none": plain}
	for _, method := range []string{"gzip", "xz", "bzip2", "zstd"} {
		var b bytes.Buffer
		w, err := compress.NewWriter(method, &b, -1, false)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		archives[method] = b.Bytes()
	}
	for name, archive := range archives {
		l := newLab(t)
		if err := l.channel(archive); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := l.tree("out"); got != usualTree {
			t.Errorf("%s: the tree is\n%s", name, got)
		}
		if info, err := os.Stat(l.path("out/channel/run")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: the program's mode is %v, %v", name, info, err)
		}
	}
	l := newLab(t)
	if err := l.channel(zipped(t, []entry{usual[2], usual[3], usual[5]})); err != nil {
		t.Fatal(err)
	}
	if got, want := l.tree("out"), "./\nchannel/\nchannel/file: one\nchannel/link -> ../../../etc/passwd\n"; got != want {
		t.Errorf("zip: the tree is\n%s", got)
	}
}

// No archive makes anything outside of the output, or through a link.
func TestUnpackTraversal(t *testing.T) {
	const file, link, hard, dir = tar.TypeReg, tar.TypeSymlink, tar.TypeLink, tar.TypeDir
	long := strings.Repeat("d/", 2500)
	for name, c := range map[string]struct {
		entries []entry
		want    string // error, or the tree
	}{
		"dots":                {[]entry{{"x/../../evil", file, "1", 0}}, "contains '..'"},
		"dots at the start":   {[]entry{{"../evil", file, "1", 0}}, "contains '..'"},
		"absolute":            {[]entry{{"/x/evil", file, "1", 0}}, "./\nchannel/\nchannel/evil: 1\n"},
		"through a link out":  {[]entry{{"x/l", link, "@", 0}, {"x/l/evil", file, "1", 0}}, "cannot extract through"},
		"through a link in":   {[]entry{{"x/d", dir, "", 0}, {"x/l", link, "d", 0}, {"x/l/evil", file, "1", 0}}, "cannot extract through"},
		"directory on a link": {[]entry{{"x/l", link, "@", 0}, {"x/l", dir, "", 0}}, "cannot extract through"},
		"file on a link":      {[]entry{{"x/l", link, "@/victim", 0}, {"x/l", file, "1", 0}}, "./\nchannel/\nchannel/l: 1\n"},
		"link on a link":      {[]entry{{"x/l", link, "@", 0}, {"x/l", link, "y", 0}}, "./\nchannel/\nchannel/l -> y\n"},
		"link on a directory": {[]entry{{"x/d", dir, "", 0}, {"x/d", link, "@", 0}, {"x/d/evil", file, "1", 0}}, "a directory is in the way"},
		"top is a link":       {[]entry{{"x", link, "@", 0}, {"x/evil", file, "1", 0}}, "cannot extract through"},
		"through a file":      {[]entry{{"x", file, "1", 0}, {"x/evil", file, "1", 0}}, "cannot extract through"},
		"hard link out":       {[]entry{{"x/h", hard, "@/victim", 0}, {"x/h", file, "1", 0}}, "there is no such file"},
		"hard link with dots": {[]entry{{"x/h", hard, "x/../../victim", 0}}, "contains '..'"},
		"hard link through a link": {[]entry{{"x/l", link, "@", 0}, {"x/h", hard, "x/l/victim", 0}, {"x/h", file, "1", 0}},
			"there is no such file"},
		"hard link to a link, then written": {[]entry{{"x/l", link, "@/victim", 0}, {"x/h", hard, "x/l", 0}, {"x/h", file, "1", 0}},
			"./\nchannel/\nchannel/h: 1\nchannel/l -> victim\n"},
		"hard link to itself": {[]entry{{"x/h", hard, "x/h", 0}}, "no such file"},
		"fifo":                {[]entry{{"x/p", tar.TypeFifo, "", 0}}, "neither a file nor"},
		"device":              {[]entry{{"x/p", tar.TypeChar, "", 0}}, "neither a file nor"},
		"long name":           {[]entry{{long + "f", file, "", 0}}, "too long"},
		"empty target":        {[]entry{{"x/l", link, "", 0}}, "target"},
		"two":                 {[]entry{{"a", file, "1", 0}, {"b", file, "1", 0}}, "contains more than one file"},
		"nothing":             {nil, "contains more than one file"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			victim := l.write("victim", "safe")
			for i := range c.entries {
				c.entries[i].text = strings.ReplaceAll(c.entries[i].text, "@", l.dir)
			}
			err := l.channel(tarball(t, c.entries))
			if tree, wantsTree := c.want, strings.HasPrefix(c.want, "./"); wantsTree {
				if err != nil {
					t.Fatal(err)
				}
				if got := l.tree("out"); got != tree {
					t.Errorf("the tree is\n%s", got)
				}
			} else {
				l.fails(err, c.want)
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "safe" {
				t.Errorf("a file outside has been changed: %q, %v", text, err)
			}
			if names, _ := filepath.Glob(l.path("*")); len(names) != 3 { // archive, out, victim
				t.Errorf("made outside: %q", names)
			}
		})
	}
	for _, name := range []string{"../evil", "/evil", "x/../../evil", "..\\..\\evil/../../../x"} {
		l := newLab(t)
		err := l.channel(zipped(t, []entry{{name, file, "1", 0}}))
		if names, _ := filepath.Glob(l.path("*")); len(names) != 2 {
			t.Errorf("zip with %q: made outside: %q (%v)", name, names, err)
		}
	}
}

func TestUnpackChannelErrors(t *testing.T) {
	l := newLab(t)
	whole := tarball(t, usual)
	for name, archive := range map[string][]byte{
		"garbage":      bytes.Repeat([]byte("no archive "), 100),
		"cut short":    whole[:len(whole)-2000],
		"no gzip":      []byte("\x1f\x8b garbage"),
		"no zip":       []byte("PK\x03\x04 garbage"),
		"xz cut short": []byte("\xfd7zXZ\x00\x00\x04"),
	} {
		if err := l.channel(archive); err == nil || !strings.HasPrefix(err.Error(), "unpacking '"+l.path("archive")+"': ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	src := l.write("archive", string(whole))
	for _, name := range []string{"a/b", "..", ".", "", "/", "/a"} {
		l.fails(l.run("unpack-channel", nil, map[string]string{"src": src, "channelName": name}), "channelName is not allowed to contain filesystem separators")
	}
	l.fails(l.run("unpack-channel", nil, map[string]string{"channelName": "x"}), "attribute 'src' missing")
}

// FuzzUnpack makes sure that nothing appears beside the output.
func FuzzUnpack(f *testing.F) {
	f.Add(tarball(f, usual))
	f.Add(zipped(f, usual[1:6]))
	f.Add(tarball(f, []entry{{"x/l", tar.TypeSymlink, "..", 0}, {"x/l/evil", tar.TypeReg, "1", 0}}))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		dir := t.TempDir()
		src, out := filepath.Join(dir, "archive"), filepath.Join(dir, "out")
		if err := os.WriteFile(src, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(out, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(out)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = unpack(src, root)
		if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 2 {
			t.Errorf("made outside: %q", names)
		}
	})
}
