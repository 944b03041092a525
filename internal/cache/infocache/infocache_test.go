package infocache

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	cacheURL = "https://cache.example"
	hashPart = "0123456789abcdfghijklmnpqrsvwxyz"
)

// recorder keeps warnings.
type recorder struct{ texts []string }

func (r *recorder) warn(text string) { r.texts = append(r.texts, text) }

func open(t *testing.T, file string) (*DB, *recorder) {
	t.Helper()
	r := new(recorder)
	d := Open(file, 30*24*time.Hour, time.Hour, r.warn)
	t.Cleanup(d.Close)
	return d, r
}

func TestLook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a dir?", "x%y.sqlite")
	synctest.Test(t, func(t *testing.T) {
		d, r := open(t, file)
		want := func(text string, known bool) {
			t.Helper()
			if got, k := d.Look(cacheURL, hashPart); got != text && k || k != known {
				t.Errorf("got %q %v, want %q %v", got, k, text, known)
			}
		}
		d.Set(cacheURL, hashPart, "text")
		want("", false) // nobody described the cache
		d.SetDescription(cacheURL, "Priority: 1\n")
		want("", false)
		d.Set(cacheURL, hashPart, "")
		want("", true)
		d.Set(cacheURL, hashPart, "text")
		want("text", true)
		if _, known := d.Look("https://other.example", hashPart); known {
			t.Error("another cache's answer counts")
		}
		d.Forget(cacheURL, hashPart)
		want("", false)

		d.Set(cacheURL, hashPart, "text")
		time.Sleep(30*24*time.Hour - time.Second)
		want("text", true)
		time.Sleep(time.Second)
		want("text", false)
		d.Set(cacheURL, hashPart, "")
		time.Sleep(time.Hour - time.Second)
		want("", true)
		time.Sleep(time.Second)
		want("", false)

		if text, known, fresh := d.Describe(cacheURL, 31*24*time.Hour); text != "Priority: 1\n" || !known || !fresh {
			t.Errorf("%q %v %v", text, known, fresh)
		}
		if text, known, fresh := d.Describe(cacheURL, 29*24*time.Hour); text != "Priority: 1\n" || !known || fresh {
			t.Errorf("%q %v %v", text, known, fresh)
		}
		if _, known, fresh := d.Describe("https://other.example", time.Hour); known || fresh {
			t.Error("a cache that nobody described is known")
		}
		if len(r.texts) != 0 {
			t.Errorf("warnings: %q", r.texts)
		}
		d.Close()
	})
}

// What is too old is deleted by the next day's first program.
func TestPrune(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.sqlite")
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t, file)
		d.prune() // its clock is another one's
		d.SetDescription(cacheURL, "")
		for n := range 10 {
			d.Set(cacheURL, fmt.Sprintf("there%d", n), "text")
			d.Set(cacheURL, fmt.Sprintf("not%d", n), "")
		}
		rows := func(d *DB) int {
			n := 0
			for k := range 10 {
				for _, kind := range []string{"there", "not"} {
					if _, _, asked := d.ask("look", cacheURL, fmt.Sprintf("%s%d", kind, k)); !asked.IsZero() {
						n++
					}
				}
			}
			return n
		}
		for _, c := range []struct {
			sleep time.Duration
			want  int
		}{{2 * time.Hour, 20}, {23 * time.Hour, 10}, {30 * 24 * time.Hour, 0}} {
			d.Close()
			time.Sleep(c.sleep)
			d, _ = open(t, file)
			if n := rows(d); n != c.want {
				t.Errorf("%d rows, want %d", n, c.want)
			}
		}
		d.Close()
	})
}

// A file that is no database, or a damaged one, is put aside.
func TestDamaged(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"no database": func([]byte) []byte { return bytes.Repeat([]byte("no database\n"), 1000) },
		"damaged": func(b []byte) []byte {
			for i := 100; i < len(b); i++ {
				b[i] = 0xaa
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.sqlite")
			d, _ := open(t, file)
			d.SetDescription(cacheURL, "")
			d.Set(cacheURL, hashPart, "text")
			d.Close()
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			bad := spoil(good)
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			d, r := open(t, file)
			if _, known := d.Look(cacheURL, hashPart); known {
				t.Error("something is known")
			}
			d.SetDescription(cacheURL, "")
			d.Set(cacheURL, hashPart, "text")
			if text, known := d.Look(cacheURL, hashPart); text != "text" || !known {
				t.Errorf("the new file: %q %v", text, known)
			}
			if len(r.texts) != 1 || !strings.Contains(r.texts[0], "is damaged") {
				t.Errorf("warnings: %q", r.texts)
			}
			if kept, err := os.ReadFile(file + ".corrupt"); err != nil || !bytes.Equal(kept, bad) {
				t.Errorf("what was damaged: %v", err)
			}
		})
	}
}

// What does not work is not used, and said once.
func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(file, "c.sqlite"), "/proc/none/c.sqlite"} {
		d, r := open(t, path)
		d.SetDescription(cacheURL, "x")
		d.Set(cacheURL, hashPart, "x")
		d.Forget(cacheURL, hashPart)
		if _, known := d.Look(cacheURL, hashPart); known {
			t.Errorf("'%s' remembers", path)
		}
		if _, known, _ := d.Describe(cacheURL, time.Hour); known {
			t.Errorf("'%s' remembers", path)
		}
		if len(r.texts) != 1 || !strings.Contains(r.texts[0], "is not remembered in '"+path+"'") {
			t.Errorf("'%s': %q", path, r.texts)
		}
	}
	var none *DB
	none.Set(cacheURL, hashPart, "x")
	if _, known := none.Look(cacheURL, hashPart); known {
		t.Error("a nil DB remembers")
	}
	none.Close()
}

// Several users of one file lose nothing but time.
func TestTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.sqlite")
	var wg sync.WaitGroup
	first, _ := open(t, file)
	first.SetDescription(cacheURL, "")
	for n := range 4 {
		d, r := open(t, file)
		wg.Go(func() {
			for k := range 200 {
				hash := fmt.Sprintf("%d-%d", n, k)
				d.Set(cacheURL, hash, "text")
				if text, known := d.Look(cacheURL, hash); known && text != "text" {
					t.Errorf("%q", text)
				}
			}
			if len(r.texts) != 0 {
				t.Errorf("warnings: %q", r.texts)
			}
		})
	}
	wg.Wait()
	if text, known := first.Look(cacheURL, "3-199"); !known || text != "text" {
		t.Errorf("%q %v", text, known)
	}
}

func BenchmarkSetLook(b *testing.B) {
	d := Open(filepath.Join(b.TempDir(), "c.sqlite"), time.Hour, time.Hour, func(text string) { b.Error(text) })
	defer d.Close()
	d.SetDescription(cacheURL, "")
	text := strings.Repeat("x", 700)
	for n := 0; b.Loop(); n++ {
		hash := fmt.Sprintf("%032d", n)
		d.Set(cacheURL, hash, text)
		if got, _ := d.Look(cacheURL, hash); got != text {
			b.Fatal("lost")
		}
	}
}
