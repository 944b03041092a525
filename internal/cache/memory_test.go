package cache

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/sign"
)

// What caches said is believed for a while, also by the next process.
func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dir", "caches.sqlite")
	key, keys := newKey(t)
	sh := newShelf(50)
	sh.put(path(1), key)
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.serve("c", sh.ServeHTTP)
		o := l.options()
		o.TrustedKeys, o.CacheFile = keys, file
		for n, c := range []struct {
			sleep    time.Duration
			path     int
			found    bool
			requests int // so far
		}{
			{0, 1, true, 2}, {0, 1, true, 2}, {0, 2, false, 3}, {0, 2, false, 3},
			{59 * time.Minute, 2, false, 3}, {time.Minute, 2, false, 4},
			{22 * time.Hour, 1, true, 4}, {time.Hour, 1, true, 5},
			{7 * 24 * time.Hour, 3, false, 7}, // and the cache's description
		} {
			time.Sleep(c.sleep)
			s := l.set(o, "http://c")
			_, err := s.Lookup(t.Context(), path(c.path), 0)
			if c.found != (err == nil) || !c.found && err != ErrAbsent || l.asked("c") != c.requests {
				t.Errorf("step %d: %v, %d requests", n, err, l.asked("c"))
			}
			s.Close()
		}
		// Trust is decided anew each time.
		s := l.set(o, "http://c")
		if _, err := s.Lookup(t.Context(), path(1), 0); err != nil {
			t.Error(err)
		}
		s.Close()
		o.TrustedKeys = nil
		s = l.set(o, "http://c")
		before := l.asked("c")
		if _, err := s.Lookup(t.Context(), path(1), 0); err != ErrAbsent || l.asked("c") != before {
			t.Errorf("without a key: %v after %d requests", err, l.asked("c")-before)
		}
		s.Close()
	})
}

// A remembered narinfo may be out of date: the archive has another name now, or
// is gone, or is of other contents.
func TestGone(t *testing.T) {
	key, keys := newKey(t)
	for name, c := range map[string]struct {
		change func(sh shelf, i *narinfo.Info)
		found  bool // by who remembers it
		again  bool // and then by who asks again
	}{
		"moved": {func(sh shelf, i *narinfo.Info) {
			text := sh[i.URL]
			delete(sh, i.URL)
			i.URL, i.Compression = "nar/moved.nar", "zstd"
			sh[i.URL] = text
		}, true, true},
		"replaced": {func(sh shelf, i *narinfo.Info) {
			delete(sh, i.URL)
			i.URL, i.NarSize = "nar/moved.nar", i.NarSize+1
			sh[i.URL] = "something else"
		}, false, true},
		"lost":    {func(sh shelf, i *narinfo.Info) { delete(sh, i.URL) }, false, true},
		"deleted": {func(sh shelf, i *narinfo.Info) { delete(sh, i.URL); delete(sh, narinfo.Name(i.Path)) }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				sh := newShelf(50)
				info := sh.put(path(1), nil)
				was := *info
				l.serve("c", sh.ServeHTTP)
				o := l.options()
				o.TrustedKeys, o.CacheFile = keys, filepath.Join(t.TempDir(), "caches.sqlite")
				sign := func() {
					text, _ := sign.Fingerprint(info.Path, info.NarHash, info.NarSize, nil)
					info.Sigs = []string{key.Sign(text)}
					sh[narinfo.Name(info.Path)] = string(info.Append(nil))
				}
				sign()
				s := l.set(o, "http://c")
				found, err := s.Lookup(t.Context(), path(1), 0)
				if err != nil || found.Info.URL != was.URL {
					t.Fatal(found, err)
				}
				if c.change(sh, info); sh[narinfo.Name(path(1))] != "" {
					sign()
				}
				text, err := fetchFrom(t, s, found)
				if c.found != (err == nil) || !c.found && !errors.Is(err, ErrAbsent) || c.found && text != "contents of "+string(path(1)) {
					t.Errorf("the archive: %q, %v", text, err)
				}
				if c.found && (found.Info.URL != info.URL || found.Info.Compression != "zstd") {
					t.Errorf("%+v", found.Info)
				}
				found, err = s.Lookup(t.Context(), path(1), 0)
				if c.again != (err == nil) || c.again && (found.Info.URL != info.URL || found.Info.NarSize != info.NarSize) {
					t.Errorf("asked again: %+v, %v", found, err)
				}
				if _, err := s.OpenNar(t.Context(), 7, &was); err == nil {
					t.Error("a cache that is not there delivered")
				}
				s.Close()
			})
		})
	}
}
