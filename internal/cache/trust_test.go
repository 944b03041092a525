package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
	"gobuild/internal/store/storepath"
)

// Only what somebody vouches for is found; the rest is told once.
func TestTrust(t *testing.T) {
	key, keys := newKey(t)
	other, _ := newKey(t) // of the same name
	fixed := storepath.ContentAddress{Method: storepath.NAR, Digest: digest.Of(digest.SHA256, []byte("contents"))}
	self := storepath.References{Others: []storepath.Path{path(7)}, Self: true}
	byContents, err := storepath.Dir(storeDir).Content(fixed, "fixed", self)
	if err != nil {
		t.Fatal(err)
	}
	withCA := func(i *narinfo.Info) {
		i.CA = fixed
		i.References = []storepath.Path{path(7), i.Path}
		slices.Sort(i.References)
	}
	const unsigned = "ignoring substitute for '%s' from 'http://c', as it's not signed by any of the keys in 'trusted-public-keys'"
	for name, c := range map[string]struct {
		path     storepath.Path
		key      *sign.SecretKey
		change   func(*narinfo.Info)
		spoil    func(text string) string
		params   string
		lax      bool
		found    bool
		warnings []string
	}{
		"signed":          {path: path(1), key: key, found: true},
		"unsigned":        {path: path(1), warnings: []string{fmt.Sprintf(unsigned, path(1))}},
		"another's key":   {path: path(1), key: other, warnings: []string{fmt.Sprintf(unsigned, path(1))}},
		"trusted cache":   {path: path(1), params: "?trusted=1", found: true},
		"nobody cares":    {path: path(1), lax: true, found: true},
		"by its contents": {path: byContents, change: withCA, found: true},
		"not by its contents": {path: path(1), change: withCA, warnings: []string{
			fmt.Sprintf("path '%s' claims to be content-addressed but isn't", path(1)), fmt.Sprintf(unsigned, path(1))}},
		"other references than signed": {path: path(1), key: key, spoil: func(text string) string {
			return strings.Replace(text, "References: ", "References: "+path(2).Base(), 1)
		}, warnings: []string{fmt.Sprintf(unsigned, path(1))}},
		"another path": {path: path(1), key: key, spoil: func(text string) string {
			return strings.Replace(text, "-path-1\n", "-path-2\n", 1)
		}, warnings: []string{fmt.Sprintf("asked 'http://c' for '%s' but got '%s'", path(1), strings.Replace(string(path(1)), "-path-1", "-path-2", 1))}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				sh := newShelf(50)
				var changes []func(*narinfo.Info)
				if c.change != nil {
					changes = append(changes, c.change)
				}
				info := sh.put(c.path, c.key, changes...)
				if c.spoil != nil {
					file := narinfo.Name(c.path)
					sh[file] = c.spoil(sh[file])
				}
				l.serve("c", sh.ServeHTTP)
				o := l.options()
				o.TrustedKeys, o.RequireSigs = keys, !c.lax
				s := l.set(o, "http://c"+c.params)
				for range 2 {
					found, err := s.Lookup(t.Context(), c.path, 0)
					switch {
					case c.found && (err != nil || found.Info.NarHash != info.NarHash || found.Info.Path != c.path):
						t.Errorf("%+v, %v", found, err)
					case !c.found && err != ErrAbsent:
						t.Errorf("%+v, %v", found, err)
					}
				}
				if said := l.said(); !slices.Equal(said, c.warnings) {
					t.Errorf("warnings: %q, want %q", said, c.warnings)
				}
				s.Close()
			})
		})
	}
}

// A cache of another store is passed over, with one warning; so is what is no
// cache. A damaged narinfo is no answer.
func TestUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		key, keys := newKey(t)
		foreign, none, bad := newShelf(1), newShelf(2), newShelf(3)
		foreign["nix-cache-info"] = "StoreDir: /gnu/store\nPriority: 1\n"
		delete(none, "nix-cache-info")
		for n := range 3 {
			for _, sh := range []shelf{foreign, none, bad} {
				sh.put(path(n), key)
			}
			bad[narinfo.Name(path(n))] = "StorePath: nonsense\n"
		}
		l.serve("foreign", foreign.ServeHTTP)
		l.serve("none", none.ServeHTTP)
		l.serve("bad", bad.ServeHTTP)
		l.serve("locked", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		o := l.options()
		o.TrustedKeys = keys
		s := l.set(o, "http://foreign", "http://none", "http://bad", "http://locked")
		for n := range 3 {
			_, err := s.Lookup(t.Context(), path(n), 0)
			wantFault(t, err, "is corrupt")
			wantFault(t, err, "cache 'http://locked' is out of service")
		}
		said := l.said()
		slices.Sort(said)
		if len(said) != 3 ||
			!strings.HasPrefix(said[0], "'http://none' does not appear to be a binary cache") ||
			said[1] != "binary cache 'http://foreign' is for Nix stores with prefix '/gnu/store', not '/nix/store'" ||
			!strings.Contains(said[2], "401") {
			t.Errorf("warnings: %q", said)
		}
		for _, name := range []string{"foreign", "none", "locked"} {
			if n := l.asked(name); n != 1 {
				t.Errorf("'%s' was asked %d times", name, n)
			}
		}
		s.Close()
	})
}
