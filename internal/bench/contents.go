package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A filler makes a mebibyte of contents.
type filler func(random *rand.ChaCha8, block []byte)

func randomBytes(random *rand.ChaCha8, block []byte) {
	_, _ = random.Read(block) // never fails
}

// base32Text looks like hash parts everywhere, with an end of line now and then.
func base32Text(random *rand.ChaCha8, block []byte) {
	const alphabet = "0123456789abcdfghijklmnpqrsvwxyz"
	_, _ = random.Read(block)
	for i := range block {
		block[i] = alphabet[block[i]&31]
		if i%77 == 76 {
			block[i] = '\n'
		}
	}
}

func (b *bench) inputFile(name string, mebibytes int, fill filler) (string, error) {
	path := filepath.Join(b.path("input"), name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	random := rand.NewChaCha8([32]byte{1})
	block := make([]byte, 1<<20)
	for range mebibytes {
		fill(random, block)
		if _, err := f.Write(block); err != nil {
			return "", errors.Join(err, f.Close())
		}
	}
	return path, f.Close()
}

// single prepares a store with one derivation, and another that does next to nothing, whose time is that of the engine.
func (b *bench) single(script string) (p *place, target, idle string, err error) {
	if p, err = b.place("single", false); err != nil {
		return
	}
	g, err := newGraph(p, b.shell)
	if err != nil {
		return
	}
	n, err := g.add("copy", script)
	if err != nil {
		return
	}
	i, err := g.add("idle", "echo > $out")
	if err != nil {
		return
	}
	if err = g.write(p, false); err != nil {
		return
	}
	return p, string(n.path), string(i.path), p.keep()
}

// copyTime is how long the builder's own work takes.
func (b *bench) copyTime(script string, reps int) (float64, error) {
	var all []measurement
	out := b.path("copied")
	for range reps {
		m, err := b.run([]string{"out=" + out}, []string{b.shell, "-c", script}, 0)
		if err != nil {
			return 0, err
		}
		all = append(all, m)
		if err := removeTree(out); err != nil {
			return 0, err
		}
	}
	return median(all).Seconds, nil
}

// finalised measures a build that copies something, and takes away the copying and the idle engine: what is left is the
// finalising of n units.
func (b *bench) finalised(r *result, script string, units float64, nixToo bool, args ...string) error {
	p, target, idle, err := b.single(script)
	if err != nil {
		return err
	}
	reps := b.repetitions(3)
	j := job{place: p, args: append(args, target), restore: true, reps: reps}
	if nixToo {
		j.nixReps = 1
	}
	whole, err := b.compare(j)
	if err != nil {
		return err
	}
	j.args = append(args, idle)
	rest, err := b.compare(j)
	if err != nil {
		return err
	}
	copying, err := b.copyTime(script, reps)
	if err != nil {
		return err
	}
	rate := func(name string) float64 {
		if whole[name].Seconds == 0 {
			return 0
		}
		return units / max(whole[name].Seconds-rest[name].Seconds-copying, 1e-4)
	}
	if nixToo {
		r.Nix, r.NixRSS = rate("nix"), whole["nix"].RSS
	}
	if len(j.args) > 0 && whole["gobuild"].Seconds > 0 {
		r.Gobuild, r.RSS = rate("gobuild"), whole["gobuild"].RSS
		r.Note = fmt.Sprintf("whole %.2f s, copying %.2f s", whole["gobuild"].Seconds, copying)
	}
	return p.dropAll()
}

func bigFile(size, nixSize int, fill filler) func(*bench, *result) error {
	return func(b *bench, r *result) error {
		path, err := b.inputFile("big", size, fill)
		if err != nil {
			return err
		}
		script := "cp " + path + " $out"
		if err := b.finalised(r, script, float64(size), size == nixSize); err != nil {
			return err
		}
		if size != nixSize && b.nix != "" {
			if err := b.nixAlone(r, nixSize, fill); err != nil {
				return err
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		begin := time.Now()
		sha256.Sum256(text)
		r.Floor = float64(len(text)) / (1 << 20) / time.Since(begin).Seconds()
		return os.Remove(path)
	}
}

// nixAlone measures real Nix on a smaller file: the full size would take a minute.
func (b *bench) nixAlone(r *result, size int, fill filler) error {
	path, err := b.inputFile("big", size, fill)
	if err != nil {
		return err
	}
	var small result
	if err := b.finalised(&small, "cp "+path+" $out", float64(size), true); err != nil {
		return err
	}
	r.Nix, r.NixRSS = small.Nix, small.NixRSS
	return nil
}

func smallFiles(n int) func(*bench, *result) error {
	return func(b *bench, r *result) error {
		tree := filepath.Join(b.path("input"), "tree")
		random := rand.NewChaCha8([32]byte{2})
		content := make([]byte, 200)
		for i := range n {
			dir := filepath.Join(tree, fmt.Sprint(i/500))
			if i%500 == 0 {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
			}
			_, _ = random.Read(content)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), content, 0o644); err != nil {
				return err
			}
		}
		if err := b.finalised(r, "cp -r "+tree+" $out", float64(n), b.nix != ""); err != nil {
			return err
		}
		floor, err := touchFloor(tree)
		r.Floor = float64(n) / floor
		return errors.Join(err, removeTree(tree))
	}
}

// touchFloor does to each file what finalising cannot avoid: read, hash, set mode and time.
func touchFloor(tree string) (float64, error) {
	begin := time.Now()
	err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sha256.Sum256(text)
		return errors.Join(os.Chmod(path, 0o444), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	})
	return time.Since(begin).Seconds(), err
}

// logOutput measures a builder that only writes, as fast as the engine reads.
func logOutput(megabytes int, compressed bool) func(*bench, *result) error {
	return func(b *bench, r *result) error {
		var text bytes.Buffer
		words := strings.Fields("checking for gcc yes no compiling linking /usr/include/stdio.h warning: unused variable -O2 -Wall src/main.c ok")
		random := rand.New(rand.NewPCG(3, 3))
		for text.Len() < megabytes*1000*1000 {
			for range 8 {
				fmt.Fprintf(&text, "%s%d ", words[random.IntN(len(words))], random.IntN(1000))
			}
			text.WriteByte('\n')
		}
		path := filepath.Join(b.path("input"), "log")
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			return err
		}
		args := []string{"--option", "compress-build-log", fmt.Sprint(compressed)}
		if err := b.finalised(r, "cat "+path+"; echo > $out", float64(text.Len())/1e6, b.nix != "", args...); err != nil {
			return err
		}
		r.Floor = logFloor(text.Bytes(), compressed)
		return os.Remove(path)
	}
}

// logFloor compresses with bzip2 at its fastest, or copies.
func logFloor(text []byte, compressed bool) float64 {
	begin := time.Now()
	if compressed {
		cmd := exec.Command("bzip2", "-1")
		cmd.Stdin = bytes.NewReader(text)
		if err := cmd.Run(); err != nil {
			return 0
		}
	} else {
		_, _ = io.Copy(io.Discard, bytes.NewReader(bytes.Clone(text)))
	}
	return float64(len(text)) / 1e6 / time.Since(begin).Seconds()
}
