package finalise

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
	"gobuild/internal/store/refscan"
)

// fileSizes lie around those at which blocks end and goroutines start.
var fileSizes = []int{0, 1, 7, 8, 100, firstBlock - 200, firstBlock, nar.BlockSize - 300, nar.BlockSize, 2*nar.BlockSize + 5, inlineBytes + 1}

// mixed makes a tree with files of many sizes, each twice, and links.
func mixed(t *testing.T, dir string, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range 40 {
		sub := filepath.Join(dir, fmt.Sprint("d", r.IntN(4)))
		must(t, os.MkdirAll(sub, 0o755))
		data := make([]byte, fileSizes[r.IntN(len(fileSizes))])
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		mode := []os.FileMode{0o644, 0o755}[r.IntN(2)]
		must(t, os.WriteFile(filepath.Join(sub, fmt.Sprint("a", i)), data, mode), os.WriteFile(filepath.Join(dir, fmt.Sprint("b", i)), data, mode))
		must(t, os.Symlink(fmt.Sprint("target", i%3), filepath.Join(sub, fmt.Sprint("l", i))))
	}
	must(t, os.Link(filepath.Join(dir, "b0"), filepath.Join(dir, "c0")))
}

// TestFileSums compares hashes taken out of an archive with those of archives
// of single files.
func TestFileSums(t *testing.T) {
	for seed := range uint64(5) {
		dir := filepath.Join(scratch(t), "t")
		mixed(t, dir, seed)
		p := newPipeline(refscan.New(nil), nil)
		p.sumFiles()
		must(t, nar.DumpTree(p, fstree.Walk{Path: dir}, nil))
		p.close()
		var want []optimise.Sum
		must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				want = append(want, optimise.Sum{Inode: lstat(t, path).Ino, Hash: sha256.Sum256(archive(t, path))})
			}
			return err
		}))
		if !slices.Equal(p.files.sums, want) {
			t.Fatalf("seed %d: %d hashes are not the %d of the files", seed, len(p.files.sums), len(want))
		}
	}
}

// linkedAll checks that every file below top is the one that the links have.
func linkedAll(t *testing.T, links, top string) {
	t.Helper()
	must(t, filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		sum := sha256.Sum256(archive(t, path))
		if lstat(t, path).Ino != lstat(t, filepath.Join(links, digest.EncodeNix32(sum[:]))).Ino {
			t.Errorf("'%s' is not linked", path)
		}
		return nil
	}))
}

func TestLinkedOutputs(t *testing.T) {
	for name, change := range map[string]func(*Output){
		"in place": func(o *Output) { o.Dest = "" },
		"moved":    func(*Output) {},
		"copied":   func(o *Output) { o.FreshCopy = true },
		"rewritten": func(o *Output) {
			o.Rewrites = map[string]string{hashB: hashC}
		},
	} {
		dir := scratch(t)
		links := filepath.Join(dir, ".links")
		src, file := filepath.Join(dir, "src"), filepath.Join(dir, "file")
		mixed(t, src, 1)
		write(t, filepath.Join(src, "refers"), "to "+hashB, 0o644)
		write(t, file, "to "+hashB, 0o644)
		req := Request{Derivation: "/nix/store/" + hashC + "-x.drv", Candidates: []string{hashB, hashC}}
		for i, path := range []string{src, file} {
			o := Output{ID: fmt.Sprint("o", i), Name: "/nix/store/" + hashA + "-x", Path: path, Dest: path + ".dest"}
			change(&o)
			req.Outputs = append(req.Outputs, o)
		}
		plain, err := HashAndScan(src, nil)
		must(t, err)
		req.Links = links
		result, err := Run(req)
		must(t, err)
		for _, o := range result.Outputs {
			linkedAll(t, links, o.Path)
			again, err := HashAndScan(o.Path, nil)
			must(t, err)
			if again.NarHash != o.NarHash {
				t.Errorf("%s: output %s has another hash than was told", name, o.ID)
			}
			must(t, filepath.WalkDir(o.Path, func(path string, _ os.DirEntry, err error) error {
				if st := lstat(t, path); st.Mtim != (unix.Timespec{Sec: 1}) || st.Mode&unix.S_IFMT != unix.S_IFLNK && st.Mode&0o7222 != 0 {
					t.Errorf("%s: '%s' has mode %o, time %v", name, path, st.Mode, st.Mtim)
				}
				return err
			}))
		}
		if name != "rewritten" && result.Outputs[0].NarHash != plain.NarHash {
			t.Errorf("%s: the hash has changed", name)
		}
		// "refers" and the other output are equal; most other files exist twice.
		if result.Linked.Files < 50 || len(result.Warnings) > 0 {
			t.Errorf("%s: saved %+v, %q", name, result.Linked, result.Warnings)
		}
		if !slices.Equal(result.Outputs[1].References, map[bool][]string{false: {hashB}, true: {hashC}}[name == "rewritten"]) {
			t.Errorf("%s: references %v", name, result.Outputs[1].References)
		}
	}
}

// TestNothingLinkedUnlessAllPass has one output that cannot be taken.
func TestNothingLinkedUnlessAllPass(t *testing.T) {
	dir := scratch(t)
	write(t, filepath.Join(dir, "good"), "x", 0o644)
	write(t, filepath.Join(dir, "bad"), "x", 0o666)
	req := one(Output{Path: filepath.Join(dir, "good")})
	req.Outputs = append(req.Outputs, Output{ID: "bad", Name: "bad", Path: filepath.Join(dir, "bad")})
	req.Links = filepath.Join(dir, ".links")
	if _, err := Run(req); err == nil || !strings.Contains(err.Error(), "suspicious") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(req.Links); err == nil {
		t.Error("something was linked")
	}
}

// TestLinkWarnings reach the caller, but not without bound.
func TestLinkWarnings(t *testing.T) {
	dir := scratch(t)
	links := filepath.Join(dir, ".links")
	src := filepath.Join(dir, "src")
	must(t, os.Mkdir(src, 0o755), os.Mkdir(links, 0o755))
	for i := range 2 * maxWarnings {
		path := filepath.Join(src, fmt.Sprint(i))
		write(t, path, fmt.Sprint("text ", i), 0o444)
		sum := sha256.Sum256(archive(t, path))
		write(t, filepath.Join(links, digest.EncodeNix32(sum[:])), "something else", 0o444)
	}
	req := one(Output{Path: src})
	req.Links = links
	result, err := Run(req)
	must(t, err)
	if len(result.Warnings) != maxWarnings || !strings.HasPrefix(result.Warnings[0], "removing corrupted link '"+links+"/") {
		t.Errorf("%d warnings, %q", len(result.Warnings), result.Warnings)
	}
	linkedAll(t, links, src)
}
