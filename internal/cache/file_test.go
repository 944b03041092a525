package cache

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a cache")
	o := newLab(t).options()
	c, err := Open("file://"+strings.ReplaceAll(dir, " ", "%20")+"/?compression=xz", o)
	if err != nil || c.URI() != "file://"+dir {
		t.Fatalf("%v, %v", c, err)
	}
	_, err = fetch(t, c, "nar/x")
	if _, down := errors.AsType[*DownError](err); !down {
		t.Errorf("before there is a directory: %v", err)
	}
	if err := c.Put(t.Context(), "nar/x?y", "", strings.NewReader("contents"), 8); err != nil {
		t.Fatal(err)
	}
	if err := c.Put(t.Context(), "nar/x?y", "", strings.NewReader("newer"), -1); err != nil {
		t.Fatal(err)
	}
	if text, err := fetch(t, c, "nar/x?y"); err != nil || text != "newer" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := fetch(t, c, "nar/none"); !errors.Is(err, ErrAbsent) {
		t.Errorf("what is not there: %v", err)
	}
	for name, want := range map[string]bool{"nar/x?y": true, "nar/none": false} {
		if there, err := c.Exists(t.Context(), name); err != nil || there != want {
			t.Errorf("%s: %v, %v", name, there, err)
		}
	}
	// Links are the owner's business, pipes would be waited for.
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if text, err := fetch(t, c, "link"); err != nil || text == "" {
		t.Errorf("%q, %v", text, err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = fetch(t, c, "pipe")
	wantFault(t, err, "not a regular file")
	_, err = fetch(t, c, "nar")
	wantFault(t, err, "not a regular file")
	// Nothing is left of what failed.
	err = c.Put(t.Context(), "nar/half", "", io.MultiReader(strings.NewReader("half"), failing{}), 8)
	wantFault(t, err, "no more")
	if files, _ := filepath.Glob(filepath.Join(dir, "nar", "*")); len(files) != 1 {
		t.Errorf("files: %q", files)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no more") }

func TestOpenErrors(t *testing.T) {
	o := newLab(t).options()
	for url, says := range map[string]string{
		"/nix/store":        "don't know how to open Nix store",
		"ssh://host":        "don't know how to open Nix store 'ssh://host'",
		"file://host/dir":   "is not an absolute path",
		"http:///path":      "names no host",
		"http://a\x00b":     "malformed",
		"https://%zz":       "malformed",
		"http://x?trusted=": "",
	} {
		_, err := Open(url, o)
		if says == "" {
			if err != nil {
				t.Errorf("'%s': %v", url, err)
			}
			continue
		}
		wantFault(t, err, says)
	}
}
