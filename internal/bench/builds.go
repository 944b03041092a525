package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// nixLimit is the number of builds up to which real Nix is measured: beyond it, it takes minutes.
const nixLimit = 1000

// an engine is one program to compare.
type engine struct {
	name string
	argv []string
}

func (b *bench) engines() []engine {
	list := []engine{{"gobuild", []string{b.gobuild, "realise"}}}
	if b.nix != "" {
		list = append(list, engine{"nix", []string{b.nix, "--realise"}})
	}
	return list
}

// A job is what engines are to do in a store.
type job struct {
	place    *place
	args     []string
	wantExit int
	restore  bool // bring the store back before each run
	reps     int
	nixReps  int
}

// compare lets the engines do a job in turn, over and over, and returns the medians.
func (b *bench) compare(j job) (map[string]measurement, error) {
	all := map[string][]measurement{}
	for rep := range max(j.reps, j.nixReps) {
		for _, e := range b.engines() {
			limit := j.reps
			if e.name == "nix" {
				limit = j.nixReps
			}
			if rep >= limit {
				continue
			}
			if j.restore {
				if err := j.place.restore(); err != nil {
					return nil, err
				}
			}
			m, err := b.run(j.place.env(), append(e.argv[:len(e.argv):len(e.argv)], j.args...), j.wantExit)
			if err != nil {
				return nil, err
			}
			all[e.name] = append(all[e.name], m)
		}
	}
	medians := map[string]measurement{}
	for name, ms := range all {
		medians[name] = median(ms)
	}
	return medians, nil
}

// take turns seconds into the row's unit by a factor.
func (r *result) take(m map[string]measurement, factor float64) {
	r.Gobuild, r.RSS = m["gobuild"].Seconds*factor, m["gobuild"].RSS
	r.Nix, r.NixRSS = m["nix"].Seconds*factor, m["nix"].RSS
}

func (b *bench) repetitions(few int) int {
	if b.quick {
		return 1
	}
	return min(b.reps, few)
}

// shellFor is the builder: in a sandbox it is bound at /bin/sh.
func (b *bench) shellFor(sandboxed bool) string {
	if sandboxed {
		return "/bin/sh"
	}
	return b.shell
}

func (b *bench) noop(r *result) error {
	p, err := b.place("noop", false)
	if err != nil {
		return err
	}
	g, err := newGraph(p, b.shell)
	if err != nil {
		return err
	}
	n, err := g.add("valid", "echo > $out")
	if err != nil {
		return err
	}
	if err := g.write(p, true); err != nil {
		return err
	}
	reps := b.repetitions(1000) * 4
	m, err := b.compare(job{place: p, args: []string{string(n.path)}, reps: reps, nixReps: reps})
	if err != nil {
		return err
	}
	r.take(m, 1000)
	var floors []measurement
	for range reps {
		f, err := b.run(nil, []string{b.busybox, "true"}, 0)
		if err != nil {
			return err
		}
		floors = append(floors, f)
	}
	r.Floor = median(floors).Seconds * 1000
	return p.dropAll()
}

// trivial builds n independent derivations, two at a time.
func trivial(n int, sandboxed bool) func(*bench, *result) error {
	return func(b *bench, r *result) error {
		p, err := b.place("trivial", sandboxed)
		if err != nil {
			return err
		}
		g, err := newGraph(p, b.shellFor(sandboxed))
		if err != nil {
			return err
		}
		var leaves []*node
		for i := range n {
			leaf, err := g.add(fmt.Sprintf("trivial-%05d", i), "echo hello > $out")
			if err != nil {
				return err
			}
			leaves = append(leaves, leaf)
		}
		top, err := g.add("zz-all", "echo all > $out", leaves...)
		if err != nil {
			return err
		}
		r.Floor, err = b.spawnFloor(min(n, 400), 2, sandboxed)
		if err != nil {
			return err
		}
		return b.builds(r, p, g, top, n, []string{"-j", "2"})
	}
}

// chain builds n derivations, each of which needs the one before.
func chain(n int, sandboxed bool) func(*bench, *result) error {
	return func(b *bench, r *result) error {
		p, err := b.place("chain", sandboxed)
		if err != nil {
			return err
		}
		g, err := newGraph(p, b.shellFor(sandboxed))
		if err != nil {
			return err
		}
		var top *node
		for i := range n {
			var inputs []*node
			if top != nil {
				inputs = []*node{top}
			}
			if top, err = g.add(fmt.Sprintf("chain-%03d", i), "echo hello > $out", inputs...); err != nil {
				return err
			}
		}
		r.Floor, err = b.spawnFloor(n, 1, sandboxed)
		if err != nil {
			return err
		}
		return b.builds(r, p, g, top, n, nil)
	}
}

func (b *bench) builds(r *result, p *place, g *graph, top *node, n int, args []string) error {
	if err := g.write(p, false); err != nil {
		return err
	}
	if err := p.keep(); err != nil {
		return err
	}
	j := job{place: p, args: append(args, string(top.path)), restore: true, reps: b.repetitions(3)}
	switch {
	case n < 400:
		j.nixReps = j.reps
	case n <= nixLimit:
		j.nixReps = 1
	}
	m, err := b.compare(j)
	if err != nil {
		return err
	}
	r.take(m, 1000/float64(n))
	r.Note = fmt.Sprintf("CPU ms/drv: gobuild %.2f, nix %.2f", m["gobuild"].CPU*1000/float64(n), m["nix"].CPU*1000/float64(n))
	return p.dropAll()
}

// spawnFloor starts the builders themselves, some at a time, in new namespaces where a sandbox would have them, and returns
// milliseconds per process.
func (b *bench) spawnFloor(n, jobs int, sandboxed bool) (float64, error) {
	attr := &syscall.SysProcAttr{}
	if sandboxed {
		if os.Getuid() != 0 {
			return 0, nil
		}
		attr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	}
	dir := b.path("floor")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	begin := time.Now()
	var running []*exec.Cmd
	var failed error
	for i := range n {
		if len(running) == jobs {
			failed = errors.Join(failed, running[0].Wait())
			running = running[1:]
		}
		cmd := exec.Command(b.shell, "-c", "echo hello > $out")
		cmd.Env = []string{"out=" + filepath.Join(dir, fmt.Sprint(i))}
		cmd.SysProcAttr = attr
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		failed = errors.Join(failed, cmd.Wait())
	}
	ms := time.Since(begin).Seconds() * 1000 / float64(n)
	return ms, errors.Join(failed, removeTree(dir))
}
