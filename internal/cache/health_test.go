package cache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gobuild/internal/store/storepath"
)

const manyPaths = 500

// fetchAll looks up and downloads many paths, as many at once as asked for, and
// returns how long it took.
func fetchAll(t *testing.T, s *Set, atOnce int) time.Duration {
	t.Helper()
	began := time.Now()
	work := make(chan storepath.Path)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for p := range work {
				if err := fetchPath(t, s, p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range manyPaths {
		work <- path(n)
	}
	close(work)
	wg.Wait()
	return time.Since(began)
}

// fetchPath goes on with the next source after a failure, as the engine does.
func fetchPath(t *testing.T, s *Set, p storepath.Path) error {
	var failed error
	for after := 0; ; {
		found, err := s.Lookup(t.Context(), p, after)
		if err != nil {
			return errors.Join(err, failed)
		}
		text, err := fetchFrom(t, s, found)
		if err == nil {
			if text != "contents of "+string(p) {
				return fmt.Errorf("'%s' has the contents %q", p, text)
			}
			return nil
		}
		failed = errors.Join(failed, err)
		after = found.Source + 1
	}
}

func fetchFrom(t *testing.T, s *Set, found Found) (string, error) {
	body, err := s.OpenNar(t.Context(), found.Source, found.Info)
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return string(text), err
}

// One of three caches cannot be reached, or does not answer, or drips: all
// paths of the others arrive, and the time that it costs does not grow with
// their number. Without the dead cache all of it takes no time here.
func TestDeadCache(t *testing.T) {
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			_ = sleep(r.Context(), time.Second)
		}
	}
	key, keys := newKey(t)
	for name, c := range map[string]struct {
		lose      func(l *lab)
		says      string
		positions []int
	}{
		"packets are dropped": {func(l *lab) { l.blackhole("dead") }, "deadline exceeded", []int{0, 1, 2}},
		"refuses":             {func(*lab) {}, "refused", []int{0}},
		"never answers":       {func(l *lab) { l.serve("dead", never) }, "did not answer", []int{0}},
		"drips":               {func(l *lab) { l.serve("dead", drip) }, "did not answer", []int{0}},
		"is broken": {func(l *lab) {
			l.serve("dead", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		}, "HTTP status 502", []int{0}},
	} {
		for _, atOnce := range []int{1, 40} {
			for _, position := range c.positions {
				t.Run(fmt.Sprintf("%s, %d at once, position %d", name, atOnce, position), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						l := newLab(t)
						c.lose(l)
						even, odd := newShelf(50), newShelf(50)
						for n := range manyPaths {
							[]shelf{even, odd}[n%2].put(path(n), key)
						}
						l.serve("even", even.ServeHTTP)
						l.serve("odd", odd.ServeHTTP)
						urls := []string{"http://even", "http://odd"}
						urls = append(urls[:position], append([]string{"http://dead"}, urls[position:]...)...)
						o := l.options()
						o.TrustedKeys = keys
						began := time.Now()
						s := l.set(o, urls...)
						fetchAll(t, s, atOnce)
						if took := time.Since(began); took > 2*o.ConnectTimeout {
							t.Errorf("it took %v", took)
						}
						// Whoever has not been answered for long is not there.
						_, err := s.Lookup(t.Context(), path(manyPaths), 0)
						var unknown *UnknownError
						if !errors.As(err, &unknown) || len(unknown.Errs) != 1 {
							t.Errorf("a path that nobody has: %v", err)
						}
						wantFault(t, err, c.says)
						if said := l.said(); len(said) != 1 || !strings.Contains(said[0], "'http://dead' is out of service") {
							t.Errorf("warnings: %q", said)
						}
						if n := l.dials["dead"]; n > 2*25 {
							t.Errorf("the dead cache was dialled %d times", n)
						}
						s.Close()
					})
				})
			}
		}
	}
}

// A cache that breaks while it is in use, between lookups and downloads.
func TestCacheDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		key, keys := newKey(t)
		sh := newShelf(40)
		for n := range 10 {
			sh.put(path(n), key)
		}
		spare := newShelf(50)
		for n := range 10 {
			spare.put(path(n), key)
		}
		l.serve("best", sh.ServeHTTP)
		l.serve("spare", spare.ServeHTTP)
		o := l.options()
		o.TrustedKeys = keys
		s := l.set(o, "http://spare", "http://best")
		found, err := s.Lookup(t.Context(), path(0), 0)
		if err != nil || found.URI != "http://best" || found.Source != 0 {
			t.Fatalf("%+v, %v", found, err)
		}
		l.hosts["best:80"].server.Close()
		var down *DownError
		if _, err := s.OpenNar(t.Context(), found.Source, found.Info); !errors.As(err, &down) || down.URI != "http://best" {
			t.Errorf("its archive: %v", err)
		}
		next, err := s.Lookup(t.Context(), path(0), found.Source+1)
		if err != nil || next.URI != "http://spare" {
			t.Errorf("the next one: %+v, %v", next, err)
		}
		s.Close()
	})
}

// Out of service means one attempt after each pause, which grows, by one of all
// who ask; and one answer ends it.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		c := l.open("http://c", l.options())
		get := func() error {
			_, err := fetch(t, c, "nix-cache-info")
			return err
		}
		die := func() {
			l.hosts["c:80"].server.Close()
			c.(*server).close()
			l.blackhole("c")
		}
		l.serve("c", newShelf(1).ServeHTTP)
		if err := get(); err != nil {
			t.Fatal(err)
		}
		die()
		var attempts []time.Duration
		began := time.Now()
		for before := l.dialled("c"); time.Since(began) < 2*time.Hour; time.Sleep(time.Second) {
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if _, ok := errors.AsType[*DownError](get()); !ok {
						t.Error("no DownError")
					}
				})
			}
			synctest.Wait()
			n := l.dialled("c")
			if n != before {
				attempts = append(attempts, time.Since(began).Round(time.Minute))
			}
			if len(attempts) > 1 && n > before+1 {
				t.Errorf("%d attempts at once", n-before)
			}
			before = n
			wg.Wait()
		}
		var want []time.Duration
		for at, pause := time.Duration(0), firstPause; at < 2*time.Hour; at, pause = at+pause, min(2*pause, lastPause) {
			want = append(want, at)
		}
		if len(attempts) != len(want) || !slices.Equal(attempts[:4], want[:4]) {
			t.Errorf("attempts at %v, want them at %v", attempts, want)
		}
		if said := l.said(); len(said) != 1 {
			t.Errorf("warnings: %q", said)
		}
		l.serve("c", newShelf(1).ServeHTTP)
		time.Sleep(lastPause)
		if err := get(); err != nil {
			t.Error(err)
		}
		if last := l.messages[len(l.messages)-1]; !strings.Contains(last, "back in service") {
			t.Errorf("the last message: %q", last)
		}
		die()
		if _, ok := errors.AsType[*DownError](get()); !ok || len(l.said()) != 2 {
			t.Errorf("dead again: %q", l.said())
		}
	})
}
