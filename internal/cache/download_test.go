package cache

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A cut download goes on where it was, if the file is still the same.
func TestResume(t *testing.T) {
	file := strings.Repeat("0123456789abcdef", 4096) // 64 KiB
	for name, c := range map[string]struct {
		tag, second string // ETags of the two answers
		ranges      bool
		works       bool
	}{
		"resumable": {`"v1"`, `"v1"`, true, true},
		"changed":   {`"v1"`, `"v2"`, true, false},
		"weak tag":  {`W/"v1"`, `W/"v1"`, true, false},
		"no tag":    {"", "", true, false},
		"no ranges": {`"v1"`, `"v1"`, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				var ranges []string
				l.serve("c", func(w http.ResponseWriter, r *http.Request) {
					first := l.asked("c") == 1
					ranges = append(ranges, r.Header.Get("Range"))
					w.Header().Set("ETag", c.second)
					if first {
						w.Header().Set("ETag", c.tag)
					}
					if !c.ranges {
						io.WriteString(w, file[:100])
						panic(http.ErrAbortHandler)
					}
					if l.asked("c") < 4 {
						w = &cutter{ResponseWriter: w, left: 10_000}
					}
					http.ServeContent(w, r, "", time.Time{}, strings.NewReader(file))
				})
				cache := l.open("http://c", l.options())
				text, err := fetch(t, cache, "nar/x")
				if c.works != (err == nil && text == file) || c.works && strings.Join(ranges, " ") != " bytes=10000- bytes=20000- bytes=30000-" {
					t.Errorf("got %d bytes, %v; ranges %q", len(text), err, ranges)
				}
				if !strings.HasPrefix(file, text) {
					t.Errorf("the bytes are not the file's: %.100q", text)
				}
				cache.(*server).close()
			})
		})
	}
}

// A cutter ends the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.ResponseWriter.Write(p[:n])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// Downloads that do not get on end, those of slow readers do not.
func TestStalls(t *testing.T) {
	drip := func(each int, pause time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				w.Write(bytes.Repeat([]byte("x"), each))
				w.(http.Flusher).Flush()
				if sleep(r.Context(), pause) != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		ends  time.Duration // 0: it does not
	}{
		"nothing comes":        {drip(0, time.Hour), 300 * time.Second},
		"a byte now and then":  {drip(1, 10*time.Second), 300 * time.Second},
		"enough now and then":  {drip(5000, 200*time.Second), 0},
		"a stop in the middle": {drip(5000, time.Hour), 300 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.serve("c", c.serve)
				cache := l.open("http://c", l.options())
				began := time.Now()
				_, err := fetch(t, cache, "nar/x")
				if c.ends == 0 && err != nil {
					t.Error(err)
				}
				if c.ends > 0 {
					wantFault(t, err, "stalled")
					if took := time.Since(began); took != c.ends {
						t.Errorf("it ended after %v", took)
					}
				}
				cache.(*server).close()
			})
		})
	}
	t.Run("a slow reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			l.serve("c", drip(5000, 0))
			c := l.open("http://c", l.options())
			body, err := c.Get(t.Context(), "nar/x")
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				time.Sleep(time.Hour)
				if _, err := body.Read(make([]byte, 10)); err != nil {
					t.Error(err)
				}
			}
			body.Close()
			c.(*server).close()
		})
	})
}

// A file must be as long as its server said.
func TestLength(t *testing.T) {
	s := local(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		length := map[string]int{"/nar/short": 100, "/nar/exact": 5, "/nar/long": 3}[r.URL.Path]
		fmt.Fprintf(rw, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello", length)
		rw.Flush()
	})
	o := newLab(t).options()
	o.dial, o.Attempts = nil, 1
	c, err := Open(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fetch(t, c, "nar/short")
	wantFault(t, err, "ended after 5 of 100 bytes")
	for name, want := range map[string]string{"nar/exact": "hello", "nar/long": "hel"} {
		if text, err := fetch(t, c, name); err != nil || text != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// What hostile servers send is not taken in without bounds.
func TestBounds(t *testing.T) {
	var served atomic.Int64
	s := local(t, func(w http.ResponseWriter, r *http.Request) {
		block := bytes.Repeat([]byte("x"), 1<<16)
		switch r.URL.Path {
		case "/headers.narinfo":
			w.Header().Set("X", strings.Repeat("y", 2*maxHeader))
		case "/endless.narinfo":
			for range 10 * maxSmall / len(block) {
				n, err := w.Write(block)
				if served.Add(int64(n)); err != nil {
					return
				}
			}
		case "/bomb.narinfo":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 10 * maxSmall / len(block) {
				z.Write(block)
			}
			z.Close()
		case "/packed.narinfo":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "StorePath: x\n")
			z.Close()
		case "/strange.narinfo":
			w.Header().Set("Content-Encoding", "rot13")
		case "/around":
			http.Redirect(w, r, "/around", http.StatusFound)
		}
	})
	o := newLab(t).options()
	o.dial, o.Attempts = nil, 1
	c, err := Open(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name, says string
		down       bool // if that is all it has ever said
	}{
		{"headers.narinfo", "headers exceeded", true},
		{"endless.narinfo", "is larger than", true},
		{"bomb.narinfo", "is larger than", true},
		{"strange.narinfo", "unknown compression method 'rot13'", false},
		{"around", "redirected it 11 times", false},
	} {
		alone, err := Open(s.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fetch(t, alone, bad.name)
		wantFault(t, err, bad.says)
		if _, down := errors.AsType[*DownError](err); down != bad.down {
			t.Errorf("%s: down %v", bad.name, down)
		}
	}
	if n := served.Load(); n > 4*maxSmall {
		t.Errorf("%d bytes of an endless file were taken", n)
	}
	if text, err := fetch(t, c, "packed.narinfo"); err != nil || text != "StorePath: x\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// All downloads share the limit.
func TestSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		file := strings.Repeat("x", 100<<10)
		l.serve("c", shelf{"nar/x": file}.ServeHTTP)
		o := l.options()
		o.DownloadSpeed = 50
		o.complete()
		c := l.open("http://c", o)
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if text, err := fetch(t, c, "nar/x"); err != nil || text != file {
					t.Errorf("%d bytes, %v", len(text), err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began).Seconds(); took < 5.99 || took > 6.01 {
			t.Errorf("300 KiB at 50 KiB/s took %v s", took)
		}
		c.(*server).close()
	})
}

// An interrupt ends whatever goes on.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.serve("c", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		c := l.open("http://c", l.options())
		ctx, cancel := context.WithCancel(t.Context())
		body, err := c.Get(ctx, "nar/x")
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err = io.ReadAll(body)
		if !errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		body.Close()
		body.Close()
		if _, err := c.Get(ctx, "nix-cache-info"); !errors.Is(err, context.Canceled) || len(l.said()) != 0 {
			t.Errorf("%v; %q", err, l.said())
		}
		c.(*server).close()
	})
}
