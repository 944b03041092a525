package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

// fill registers n paths with about five references each to earlier ones. The
// last path reaches all of them.
func fill(tb testing.TB, s *Store, n int) []storepath.Path {
	tb.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	paths := make([]storepath.Path, n)
	infos := make([]Info, n)
	for i := range paths {
		paths[i] = fakePath(s.dir, rng.IntN(1<<40)*n+i, fmt.Sprintf("package-%d", i))
		var refs []storepath.Path
		if i > 0 {
			refs = append(refs, paths[i-1])
		}
		for range min(4, i) {
			refs = append(refs, paths[rng.IntN(i)])
		}
		infos[i] = fakeInfo(paths[i], refs...)
	}
	mustRegister(tb, s, infos...)
	return paths
}

// cpuPerOp reports processor time, which a busy machine disturbs less than the
// clock. Call it before the loop and its result after.
func cpuPerOp(b *testing.B) func() {
	spent := func() float64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
	}
	before := spent()
	return func() { b.ReportMetric((spent()-before)/float64(b.N), "cpu-µs/op") }
}

// large is a store of 100,000 paths and 500,000 references.
func large(b *testing.B) (*Store, []storepath.Path) {
	s := newStore(b)
	return s, fill(b, s, 100_000)
}

func BenchmarkClosureLarge(b *testing.B) {
	s, paths := large(b)
	for _, bc := range []struct {
		name string
		run  func() ([]storepath.Path, error)
	}{
		{"references", func() ([]storepath.Path, error) { return s.Closure(paths[len(paths)-1]) }},
		{"referrers", func() ([]storepath.Path, error) { return s.ReferrersClosure(paths[0]) }},
		{"sorted", func() ([]storepath.Path, error) { return s.Topological(paths) }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			defer cpuPerOp(b)()
			for b.Loop() {
				found, err := bc.run()
				if err != nil || len(found) != len(paths) {
					b.Fatal(len(found), err)
				}
			}
		})
	}
	runtime.KeepAlive(s)
}

// A closure of 30 in a store of 20,000, as a fresh process computes it.
func BenchmarkClosureSmall(b *testing.B) {
	s := newStore(b)
	paths := fill(b, s, 20_000)
	defer cpuPerOp(b)()
	for b.Loop() {
		found, err := s.Closure(paths[29])
		if err != nil || len(found) != 30 {
			b.Fatal(len(found), err)
		}
	}
}

// Opening, one question and closing, as in a run with nothing to do.
func BenchmarkOpen(b *testing.B) {
	cfg := testConfig(b)
	s, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	paths := fill(b, s, 20_000)
	s.Close()
	defer cpuPerOp(b)()
	for b.Loop() {
		s, err := Open(cfg)
		if err != nil {
			b.Fatal(err)
		}
		if ok, err := s.IsValid(paths[5]); !ok || err != nil {
			b.Fatal(ok, err)
		}
		s.Close()
	}
}

func BenchmarkRegister(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := newStore(b)
			base := fill(b, s, 10)
			n := 0
			defer cpuPerOp(b)()
			for b.Loop() {
				infos := make([]Info, size)
				for i := range infos {
					infos[i] = fakeInfo(fakePath(s.dir, 1<<50+n, "x"), base[:3]...)
					n++
				}
				if err := s.Register(infos); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/path")
		})
	}
}

func BenchmarkIsValid(b *testing.B) {
	s := newStore(b)
	paths := fill(b, s, 20_000)
	i := 0
	defer cpuPerOp(b)()
	for b.Loop() {
		if ok, err := s.IsValid(paths[i%len(paths)]); !ok || err != nil {
			b.Fatal(ok, err)
		}
		i++
	}
}

func BenchmarkValidity(b *testing.B) {
	s := newStore(b)
	paths := fill(b, s, 20_000)
	defer cpuPerOp(b)()
	for b.Loop() {
		v := s.NewValidity()
		for _, p := range paths {
			if ok, err := v.IsValid(p); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	}
}

func BenchmarkTempRoots(b *testing.B) {
	s := newStore(b)
	n := 0
	defer cpuPerOp(b)()
	for b.Loop() {
		if err := s.AddTempRoots(fakePath(s.dir, n, "x")); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
