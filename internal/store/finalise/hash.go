package finalise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

// A Tree is one to be hashed.
type Tree struct {
	Path      string // where it really is
	Algorithm digest.Algorithm
}

// A Sum is what there is to say of a Tree: one of the three.
type Sum struct {
	Digest digest.Digest // of its archive
	Fault  string        `json:",omitempty"` // it is missing, or nothing that can be archived
	Error  string        `json:",omitempty"` // the machine cannot tell
}

// HashTree reads a tree once and changes nothing.
func HashTree(t Tree) Sum {
	sum, err := hashTree(t)
	var fault *fstree.TreeError
	switch {
	case errors.As(err, &fault) || errors.Is(err, fs.ErrNotExist):
		return Sum{Fault: err.Error()}
	case err != nil:
		return Sum{Error: err.Error()}
	}
	return Sum{Digest: sum}
}

func hashTree(t Tree) (digest.Digest, error) {
	if t.Algorithm.Size() == 0 {
		return digest.Digest{}, fmt.Errorf("hashing '%s': unknown hash algorithm", t.Path)
	}
	h := t.Algorithm.New()
	if err := nar.Dump(h, t.Path); err != nil {
		return digest.Digest{}, err
	}
	return digest.FromHash(t.Algorithm, h), nil
}

// HashMain is the entry of a child that hashes trees, several at a time: a JSON
// list of Trees on descriptor 3, on descriptor 4 a line with the JSON form of a
// Sum for each, in order and as soon as it is known. It returns the exit code.
func HashMain() int {
	var trees []Tree
	if err := json.NewDecoder(os.NewFile(3, "request")).Decode(&trees); err != nil {
		fmt.Fprintf(os.Stderr, "error: reading which trees to hash: %v\n", err)
		return 1
	}
	if hashTrees(trees, os.NewFile(4, "reply")) != nil {
		return 1
	}
	return 0
}

func hashTrees(trees []Tree, out io.Writer) error {
	var (
		jobs = make(chan int)
		sums = make([]chan Sum, len(trees))
		wait sync.WaitGroup
	)
	for i := range sums {
		sums[i] = make(chan Sum, 1) // whoever computes it need not wait for it to be written
	}
	for range min(runtime.GOMAXPROCS(0), len(trees)) {
		wait.Go(func() {
			for i := range jobs {
				sums[i] <- HashTree(trees[i])
			}
		})
	}
	wait.Go(func() {
		defer close(jobs)
		for i := range trees {
			jobs <- i
		}
	})
	var err error
	encoder := json.NewEncoder(out)
	for _, sum := range sums {
		if s := <-sum; err == nil {
			err = encoder.Encode(s)
		}
	}
	wait.Wait()
	return err
}
