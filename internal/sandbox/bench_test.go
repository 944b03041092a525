package sandbox

import (
	"testing"

	"gobuild/internal/worker/proc"
)

// startAndReap runs the shortest builder.
func startAndReap(b *testing.B, sandboxed bool) {
	h := newHost(b)
	log, err := proc.NewPipe()
	if err != nil {
		b.Fatal(err)
	}
	defer proc.Close(log.R, log.W)
	c := Command{Path: "/bin/busybox", Argv: []string{"true"}}
	for b.Loop() {
		w, err := NewWorld(&h.policy, &Build{DrvBase: drv, Sandboxed: sandboxed, System: "x86_64-linux", User: h.user})
		if err != nil {
			b.Fatal(err)
		}
		p, r, err := w.Start(c, log.W)
		if err != nil {
			b.Fatal(err)
		}
		if err := finish(b, p, r); err != nil {
			b.Fatal(err)
		}
		if st, err := p.Wait(); err != nil || !st.OK() {
			b.Fatal(st, err)
		}
		if err := w.Remove(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStartSandboxed(b *testing.B)   { startAndReap(b, true) }
func BenchmarkStartUnsandboxed(b *testing.B) { startAndReap(b, false) }

func BenchmarkPlan(b *testing.B) {
	s := surveyOf(func(s *survey) {
		for range 500 {
			s.inputs = append(s.inputs, node{target: "5df8izilj57a1rfzlh4a866007yphnrq-input-1.0", source: "/nix/store/5df8izilj57a1rfzlh4a866007yphnrq-input-1.0"})
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		if len(s.plan().encode()) == 0 {
			b.Fatal("nothing")
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	newHost(b)
	for b.Loop() {
		if err := Probe(); err != nil {
			b.Fatal(err)
		}
	}
}
