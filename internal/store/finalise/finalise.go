package finalise

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/optimise"
	"gobuild/internal/store/refscan"
)

// Run finalises the outputs of one derivation. Nothing is moved before all of
// them have passed. A build that is at fault gives an *OutputError.
func Run(req Request) (Result, error) {
	r := &run{req: &req, canonical: newCanonicaliser(Options{Owner: req.Owner, KeepXattrs: req.KeepXattrs})}
	defer r.cleanUp()
	if err := req.check(); err != nil {
		return Result{}, err
	}
	for i := range req.Outputs {
		if err := r.output(&req.Outputs[i]); err != nil {
			return Result{}, err
		}
	}
	for i := range r.results {
		if err := r.link(&req.Outputs[i], &r.results[i], r.sums[i]); err != nil {
			return Result{}, err
		}
	}
	for i := range req.Outputs {
		if err := r.place(&req.Outputs[i], &r.results[i]); err != nil {
			return Result{}, err
		}
	}
	return Result{Outputs: r.results, Linked: r.linked, Warnings: r.warnings}, r.sync()
}

// check finds requests that no caller should make.
func (req *Request) check() error {
	for _, c := range req.Candidates {
		if len(c) != refscan.HashLen {
			return fmt.Errorf("finalising '%s': '%s' is not a hash part", req.Derivation, c)
		}
	}
	for _, o := range req.Outputs {
		if o.copies() && o.Dest == "" {
			return fmt.Errorf("finalising '%s': output '%s' is to be copied to nowhere", req.Derivation, o.ID)
		}
		if o.Extra != digest.Unknown && o.Extra.Size() == 0 {
			return fmt.Errorf("finalising '%s': output '%s' is to be hashed with an unknown algorithm", req.Derivation, o.ID)
		}
	}
	return nil
}

type run struct {
	req       *Request
	canonical *canonicaliser
	results   []OutputResult   // so far
	sums      [][]optimise.Sum // of their files, for linking
	private   []string         // directories made for copies
	linked    optimise.Stats
	warnings  []string
}

// output does all that leaves the output where it is; of one that is copied,
// the copy is then in its private directory.
func (r *run) output(o *Output) error {
	var st unix.Stat_t
	switch err := unix.Lstat(o.Path, &st); {
	case errors.Is(err, unix.ENOENT):
		return o.reject("builder for '%s' failed to produce output path for output '%s' at '%s'", r.req.Derivation, o.ID, o.Name)
	case err != nil:
		return fmt.Errorf("getting status of '%s': %w", o.Name, err)
	}
	path, visitor := o.Path, &checker{output: o, canonical: r.canonical}
	if o.copies() {
		var err error
		if path, err = r.copy(o); err != nil {
			return o.blame(err)
		}
		visitor.canonical = newCanonicaliser(Options{KeepXattrs: r.req.KeepXattrs})
	}
	extra, err := NewExtra(o)
	if err != nil {
		return fmt.Errorf("hashing '%s': %w", o.Name, err)
	}
	p := newPipeline(refscan.New(r.req.Candidates), extra)
	defer p.close()
	if r.req.Links != "" {
		p.sumFiles()
	}
	if err := nar.DumpTree(p, fstree.Walk{Path: path, Name: o.Name, Unlock: true}, visitor); err != nil {
		return o.blame(err)
	}
	result := p.result(o.ID)
	result.Path = path
	r.results = append(r.results, result)
	r.sums = append(r.sums, p.sums(result.NarHash))
	return nil
}

// link makes the output's files one with their equals in the store.
func (r *run) link(o *Output, result *OutputResult, sums []optimise.Sum) error {
	if r.req.Links == "" {
		return nil
	}
	stats, err := optimise.Tree(result.Path, optimise.Options{
		Links: r.req.Links, Name: o.Name, Sums: sums, Verify: r.req.Verify, Warn: r.warn,
	})
	r.linked.Add(stats)
	return err
}

// maxWarnings bounds what is said about one build.
const maxWarnings = 10

func (r *run) warn(text string) {
	if len(r.warnings) < maxWarnings {
		r.warnings = append(r.warnings, text)
	}
}

// place moves an output to where it belongs.
func (r *run) place(o *Output, result *OutputResult) error {
	if o.copies() {
		if _, err := fstree.RemoveAll(o.Path); err != nil {
			return err
		}
	}
	if o.Dest == "" || filepath.Clean(o.Dest) == filepath.Clean(result.Path) {
		return nil
	}
	if err := fstree.Move(result.Path, o.Dest); err != nil {
		return err
	}
	result.Path = o.Dest
	return nil
}

// sync waits until the disks have everything: one call per file system does
// that with less waiting than one per file.
func (r *run) sync() error {
	if !r.req.Fsync {
		return nil
	}
	done := map[string]bool{}
	for i := range r.results {
		dir := filepath.Dir(r.results[i].Path)
		if done[dir] {
			continue
		}
		done[dir] = true
		fd, err := fstree.OpenAt(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Syncfs(fd)
			unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("writing '%s' to disk: %w", dir, err)
		}
	}
	return nil
}

// cleanUp deletes private directories, which after success are empty. What
// cannot be deleted is left to the garbage collector.
func (r *run) cleanUp() {
	for _, dir := range r.private {
		_, _ = fstree.RemoveAll(dir)
	}
}

// A checker is the visitor of an output: what concerns its top, then the
// metadata.
type checker struct {
	output    *Output
	canonical *canonicaliser
}

func (c *checker) Visit(n *fstree.Node) error {
	if n.Top() {
		if err := c.top(n); err != nil {
			return err
		}
	}
	err := c.canonical.Visit(n)
	var foreign *ownershipError
	if errors.As(err, &foreign) {
		return c.output.reject("%w", err)
	}
	return err
}

func (c *checker) Leave(n *fstree.Node) error { return c.canonical.Leave(n) }

func (c *checker) top(n *fstree.Node) error {
	o, owner := c.output, c.canonical.owner
	foreign := owner != nil && (n.Stat.Uid < owner.First || n.Stat.Uid > owner.Last)
	if foreign || n.Kind() != unix.S_IFLNK && n.Stat.Mode&0o022 != 0 {
		return o.suspicious()
	}
	if o.Flat && (n.Kind() != unix.S_IFREG || n.Stat.Mode&0o100 != 0) {
		return o.reject("output path '%s' should be a non-executable regular file since recursive hashing is not enabled (outputHashMode=flat)", o.Name)
	}
	return nil
}

// HashAndScan reads a tree once and changes nothing. The result has no ID. A
// tree that cannot be archived gives a *fstree.TreeError.
func HashAndScan(path string, candidates []string) (OutputResult, error) {
	p := newPipeline(refscan.New(candidates), nil)
	defer p.close()
	if err := nar.DumpTree(p, fstree.Walk{Path: path}, nil); err != nil {
		return OutputResult{}, err
	}
	result := p.result("")
	result.Path = path
	return result, nil
}

// HashAndLink reads a canonical tree once and, unless o.Links is "", makes its
// files one with their equals. The result has no ID.
func HashAndLink(path string, o optimise.Options) (OutputResult, error) {
	p := newPipeline(refscan.New(nil), nil)
	defer p.close()
	if o.Links != "" {
		p.sumFiles()
	}
	if err := nar.DumpTree(p, fstree.Walk{Path: path}, nil); err != nil {
		return OutputResult{}, err
	}
	result := p.result("")
	result.Path = path
	if o.Links == "" {
		return result, nil
	}
	o.Sums = p.sums(result.NarHash)
	_, err := optimise.Tree(path, o)
	return result, err
}
