package protocol

import (
	"slices"
	"strings"
	"time"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A PathInfo is what a peer says about a valid path. It has been checked for
// its form only.
type PathInfo struct {
	Path       storepath.Path
	Deriver    storepath.Path // "" for unknown
	NarHash    digest.Digest  // SHA-256; not set if the protocol is too old to say
	NarSize    uint64         // bytes
	References []storepath.Path
	Registered time.Time
	Ultimate   bool
	Sigs       []string
	CA         storepath.ContentAddress
}

// ContentAddress reads a content address, or the zero value for none.
func (r *Reader) ContentAddress() storepath.ContentAddress {
	text := r.Name()
	ca, err := storepath.ParseContentAddress(text)
	if err != nil {
		r.Fail(malformed("%s", err))
		return storepath.ContentAddress{}
	}
	return ca
}

// NarHash reads the hash of an archive in any of its written forms; an empty
// string gives a Digest that is not set.
func (r *Reader) NarHash() digest.Digest {
	text := r.Name()
	if r.err != nil || text == "" {
		return digest.Digest{}
	}
	d, err := digest.Parse(text, digest.SHA256)
	if err != nil {
		r.Fail(malformed("%s", err))
	}
	return d
}

// Derivation writes a derivation as one that is ready to be built: its inputs
// are inputs, and it has none that would have to be built first.
func (w *Writer) Derivation(d *drv.Derivation, inputs []storepath.Path) {
	w.Uint64(uint64(len(d.Outputs)))
	for _, o := range d.Outputs {
		w.Text(o.ID)
		w.Path(o.Path)
		w.Text(o.MethodAlgo)
		w.Text(o.Hash)
	}
	w.Paths(inputs)
	w.Text(d.Platform)
	w.Text(d.Builder)
	w.Texts(d.Args)
	w.Uint64(uint64(len(d.Env)))
	for _, v := range d.Env {
		w.Text(v.Name)
		w.Text(v.Value)
	}
}

// Derivation reads a derivation of the given name that is ready to be built:
// its inputs are all in InputSrcs. It is sorted, and nothing in it is there
// twice; whether it makes sense is for the reader to find out.
func (r *Reader) Derivation(dir storepath.Dir, name string) *drv.Derivation {
	d := &drv.Derivation{Name: name}
	r.Each(func() int {
		o := drv.Output{ID: r.Name(), Path: r.OptionalPath(dir), MethodAlgo: r.Name(), Hash: r.Name()}
		d.Outputs = append(d.Outputs, o)
		return len(o.ID) + len(o.Path) + len(o.MethodAlgo) + len(o.Hash)
	})
	d.InputSrcs = r.Paths(dir)
	d.Platform, d.Builder = r.Text(MaxText), r.Text(MaxText)
	d.Args = r.Texts(MaxText)
	r.Each(func() int {
		v := drv.EnvVar{Name: r.Text(MaxText), Value: r.Text(MaxText)}
		d.Env = append(d.Env, v)
		return len(v.Name) + len(v.Value)
	})
	if r.err != nil {
		return nil
	}
	r.sort(d)
	if r.err != nil {
		return nil
	}
	return d
}

// sort gives a derivation the order that its type promises.
func (r *Reader) sort(d *drv.Derivation) {
	slices.SortFunc(d.Outputs, func(a, b drv.Output) int { return strings.Compare(a.ID, b.ID) })
	for i := range len(d.Outputs) - 1 {
		if id := d.Outputs[i].ID; id == d.Outputs[i+1].ID {
			r.Fail(malformed("the output '%s' is there twice", id))
		}
	}
	slices.SortFunc(d.Env, func(a, b drv.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	for i := range len(d.Env) - 1 {
		if name := d.Env[i].Name; name == d.Env[i+1].Name {
			r.Fail(malformed("the variable '%s' is there twice", name))
		}
	}
	slices.Sort(d.InputSrcs)
	d.InputSrcs = slices.Compact(d.InputSrcs)
}
