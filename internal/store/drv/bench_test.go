package drv

import (
	"runtime"
	"testing"
)

// typical is an input-addressed derivation of about 400 bytes with one input.
func typical(t testing.TB) (string, []byte) {
	for _, v := range vectors(t) {
		if v.Attr == "withDep" {
			return v.drvName(), v.text(t)
		}
	}
	t.Fatal("no vector")
	return "", nil
}

func BenchmarkParse(b *testing.B) {
	name, text := typical(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(nixStore, name, text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseOutline(b *testing.B) {
	name, text := typical(b)
	pool := NewIntern()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseOutline(nixStore, name, text, pool); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnparse(b *testing.B) {
	name, text := typical(b)
	d, err := Parse(nixStore, name, text)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.Unparse()
	}
}

// BenchmarkOutlineMemory reports what an outline keeps, path strings and all.
func BenchmarkOutlineMemory(b *testing.B) {
	name, text := typical(b)
	const n = 20000
	pool := NewIntern()
	for b.Loop() {
		kept := make([]*Outline, n)
		before := heapInUse()
		for i := range kept {
			kept[i], _ = ParseOutline(nixStore, name, text, pool)
		}
		b.ReportMetric(float64(heapInUse()-before)/n, "B/outline")
		runtime.KeepAlive(kept)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
