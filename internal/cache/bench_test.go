package cache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// BenchmarkLookup is a path of a web cache, of whose questions 25 are open at
// once. Compare BenchmarkPlainGet.
func BenchmarkLookup(b *testing.B) {
	sh := newShelf(50)
	for n := range manyPaths {
		sh.put(path(n), nil)
	}
	web := httptest.NewServer(sh)
	defer web.Close()
	o := (&lab{}).options()
	o.dial, o.RequireSigs = nil, false
	s, err := NewSet(b.Context(), []string{web.URL}, o)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	atOnce(b, func(n int) error {
		_, err := s.Lookup(b.Context(), path(n%manyPaths), 0)
		return err
	})
}

func BenchmarkPlainGet(b *testing.B) {
	sh := newShelf(50)
	for n := range manyPaths {
		sh.put(path(n), nil)
	}
	web := httptest.NewServer(sh)
	defer web.Close()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 25, MaxIdleConnsPerHost: 25}}
	defer client.CloseIdleConnections()
	atOnce(b, func(n int) error {
		resp, err := client.Get(web.URL + "/" + path(n%manyPaths).HashPart() + ".narinfo")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	})
}

func atOnce(b *testing.B, do func(n int) error) {
	work := make(chan int)
	var wg sync.WaitGroup
	for range 25 {
		wg.Go(func() {
			for n := range work {
				if err := do(n); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for n := range b.N {
		work <- n
	}
	close(work)
	wg.Wait()
}

func BenchmarkLookupFile(b *testing.B) {
	o := (&lab{}).options()
	dir := b.TempDir()
	sh := newShelf(50)
	for n := range manyPaths {
		sh.put(path(n), nil)
	}
	c, err := Open("file://"+dir, o)
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range sh {
		if err := c.Put(b.Context(), name, "", strings.NewReader(text), -1); err != nil {
			b.Fatal(err)
		}
	}
	o.RequireSigs = false
	s, err := NewSet(b.Context(), []string{"file://" + dir}, o)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	atOnce(b, func(n int) error {
		_, err := s.Lookup(b.Context(), path(n%manyPaths), 0)
		return err
	})
}
