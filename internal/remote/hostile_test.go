package remote_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/protocol"
	"gobuild/internal/remote"
	"gobuild/internal/store/archive"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

// playing is a machine that says the same whatever it is asked.
func playing(t *testing.T, version int, answer func(w *protocol.Writer)) *remote.Machine {
	t.Helper()
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	w.Uint64(0x5452eecb)
	w.Uint64(uint64(version))
	answer(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "answer")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return script("cat " + file + "; exec cat >/dev/null")
}

// TestHostileMachine fetches from machines that do not keep their word.
func TestHostileMachine(t *testing.T) {
	var contents bytes.Buffer
	_ = nar.WriteFile(&contents, []byte("good")) // a buffer takes all
	archived := contents.Bytes()
	honest := protocol.PathInfo{NarSize: uint64(len(archived)), NarHash: digest.Of(digest.SHA256, archived)}
	fixed := storepath.ContentAddress{Method: storepath.Flat, Digest: digest.Of(digest.SHA256, []byte("bad"))}
	export := func(w *protocol.Writer, p storepath.Path) {
		w.Uint64(1)
		_, _ = w.Write(archived)
		w.Uint64(0x4558494e)
		w.Path(p)
		w.Uint64(0)
		w.Text("")
		w.Uint64(0)
	}
	for name, test := range map[string]struct {
		version int
		ca      storepath.ContentAddress
		answer  func(w *protocol.Writer, p, other storepath.Path)
		want    string
		lost    bool // the machine is to blame for breaking the connection
	}{
		"says nothing": {0x207, storepath.ContentAddress{}, func(w *protocol.Writer, _, _ storepath.Path) { w.Text("") }, "has only 0", false},
		"another archive": {0x207, storepath.ContentAddress{}, func(w *protocol.Writer, p, _ storepath.Path) {
			info := honest
			info.Path, info.NarHash = p, digest.Of(digest.SHA256, nil)
			w.ServePathInfo(0x207, &info)
			w.Text("")
			_, _ = w.Write(archived)
		}, "hash mismatch importing path", false},
		"an endless archive": {0x207, storepath.ContentAddress{}, func(w *protocol.Writer, p, _ storepath.Path) {
			info := honest
			info.Path, info.NarSize = p, 64
			w.ServePathInfo(0x207, &info)
			w.Text("")
			_, _ = w.Write(archived)
		}, "is longer than announced", false},
		"no archive": {0x207, storepath.ContentAddress{}, func(w *protocol.Writer, p, _ storepath.Path) {
			info := honest
			info.Path = p
			w.ServePathInfo(0x207, &info)
			w.Text("")
			w.Text("nix-archive-1")
			w.Text("{")
		}, "bad archive", false},
		"unknown references": {0x207, storepath.ContentAddress{}, func(w *protocol.Writer, p, other storepath.Path) {
			info := honest
			info.Path, info.References = p, []storepath.Path{other}
			w.ServePathInfo(0x207, &info)
			w.Text("")
			_, _ = w.Write(archived)
		}, "is not valid", false},
		"a path of its own choice": {0x207, storepath.ContentAddress{}, func(w *protocol.Writer, _, other storepath.Path) {
			info := honest
			info.Path = other
			w.ServePathInfo(0x207, &info)
			w.Text("")
		}, "which was not asked for", true},
		"not the fixed contents": {0x207, fixed, func(w *protocol.Writer, p, _ storepath.Path) {
			info := honest
			info.Path = p
			w.ServePathInfo(0x207, &info)
			w.Text("")
			_, _ = w.Write(archived)
		}, "hash mismatch importing path", false},
		"exports another path": {0x202, storepath.ContentAddress{}, func(w *protocol.Writer, _, other storepath.Path) {
			export(w, other)
			w.Uint64(0)
		}, "which nobody asked for", false},
		"exports nothing": {0x202, storepath.ContentAddress{}, func(w *protocol.Writer, _, _ storepath.Path) { w.Uint64(0) }, "has sent only 0", false},
		"exports not the fixed contents": {0x202, fixed, func(w *protocol.Writer, p, _ storepath.Path) {
			export(w, p)
			w.Uint64(0)
		}, "hash mismatch importing path", false},
	} {
		t.Run(name, func(t *testing.T) {
			near, _ := twoStores(t)
			p := storepath.Path(near.Dir() + "/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-x")
			if test.ca.Digest.IsSet() {
				var err error
				if p, err = near.Dir().Content(test.ca, "x", storepath.References{}); err != nil {
					t.Fatal(err)
				}
			}
			m := playing(t, test.version, func(w *protocol.Writer) { test.answer(w, p, p+"y") })
			c, err := remote.Dial(m, dialing(near.Dir()))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = c.Download(near, []remote.Wanted{{Path: p, CA: test.ca}}, func(storepath.Path) {})
			var lost *protocol.LostError
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &lost) != test.lost {
				t.Errorf("%v, want '%s'", err, test.want)
			}
			if valid, err := near.AllValid(); err != nil || len(valid) > 0 {
				t.Errorf("valid: %v, %v", valid, err)
			}
			var mismatch *archive.MismatchError
			if strings.HasPrefix(test.want, "hash mismatch") && !errors.As(err, &mismatch) {
				t.Errorf("%T", err)
			}
		})
	}
}

// TestSendingToTheDeaf: a machine that ends in the middle must not leave the
// sender waiting.
func TestSendingToTheDeaf(t *testing.T) {
	near, _ := twoStores(t)
	var paths []storepath.Path
	for _, name := range []string{"a", "b", "c"} {
		paths = append(paths, aTree(t, near, name, paths...))
	}
	for name, m := range map[string]*remote.Machine{
		"ends":         script("head -c 16 >/dev/null; printf '\\313\\356RT\\0\\0\\0\\0\\7\\2\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0'; head -c 100000 >/dev/null; echo no_room >&2"),
		"closes early": script("printf '\\313\\356RT\\0\\0\\0\\0\\7\\2\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0'; echo no_room >&2; exec >&-; exec sleep 1000"),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := remote.Dial(m, dialing(near.Dir()))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Upload(near, paths, false, func(storepath.Path) {})
			var lost *protocol.LostError
			if !errors.As(err, &lost) {
				t.Fatalf("%v", err)
			}
			if name == "ends" {
				if err := c.Explain(err); !strings.Contains(err.Error(), "no_room") {
					t.Errorf("%v", err)
				}
			}
			c.Abort()
		})
	}
}
