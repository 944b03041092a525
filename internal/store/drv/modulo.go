package drv

import (
	"fmt"
	"slices"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// A Modulo is the hash of a derivation "modulo" its fixed inputs: how those
// get their contents does not count, only what the contents are.
type Modulo struct {
	Digest   digest.Digest // SHA-256, the same for every output
	Deferred bool          // some path that the hash should cover is not known yet

	outputs []string
}

// A Hasher computes hashes modulo and remembers those of inputs, without which
// the work would double with every level of a graph.
type Hasher struct {
	read func(storepath.Path) (*Derivation, error)
	memo map[storepath.Path]Modulo // an unset digest marks one that is being computed
}

// NewHasher makes a Hasher that gets the input derivations from read. The
// contents behind a path must not change while the Hasher is in use.
func NewHasher(read func(storepath.Path) (*Derivation, error)) *Hasher {
	return &Hasher{read: read, memo: map[storepath.Path]Modulo{}}
}

// Masked is the hash that the derivation's own output paths are made of.
// Errors of read are passed on as they are.
func (h *Hasher) Masked(d *Derivation) (Modulo, error) {
	if err := h.inputs(d); err != nil {
		return Modulo{}, err
	}
	return h.hash(d, masked)
}

// AsInput is the hash that stands for the derivation among another's inputs.
func (h *Hasher) AsInput(d *Derivation) (Modulo, error) {
	if err := h.inputs(d); err != nil {
		return Modulo{}, err
	}
	return h.hash(d, plain)
}

// A visit is a derivation whose inputs are being hashed.
type visit struct {
	path storepath.Path // "" at the bottom of the stack
	drv  *Derivation
	next int // index of the next input to look at
}

// inputs fills the memo for every input of d. It keeps its own stack: chains
// of derivations may be longer than a call stack is deep.
func (h *Hasher) inputs(d *Derivation) error {
	stack := []visit{{drv: d}}
	defer func() { // after an error, nothing may look as if it were under way
		for _, v := range stack {
			if !h.memo[v.path].Digest.IsSet() {
				delete(h.memo, v.path)
			}
		}
	}()
	for {
		top := &stack[len(stack)-1]
		if path, ok := top.pending(); ok {
			if m, seen := h.memo[path]; seen && m.Digest.IsSet() {
				continue
			} else if seen {
				return fmt.Errorf("derivation '%s' depends on itself", path)
			}
			in, err := h.read(path)
			if err != nil {
				return err
			}
			h.memo[path] = Modulo{}
			stack = append(stack, visit{path: path, drv: in})
			continue
		}
		if len(stack) == 1 {
			return nil
		}
		m, err := h.hash(top.drv, plain)
		if err != nil {
			return err
		}
		h.memo[top.path] = m
		stack = stack[:len(stack)-1]
	}
}

// pending steps to the next input that the hash of the derivation depends on.
func (v *visit) pending() (storepath.Path, bool) {
	if k := v.drv.Kind(); k == Fixed || k == Impure || v.next == len(v.drv.InputDrvs) {
		return "", false
	}
	v.next++
	return v.drv.InputDrvs[v.next-1].Path, true
}

// hash is the last step, when the hashes of all inputs are known.
func (h *Hasher) hash(d *Derivation, m masking) (Modulo, error) {
	res := Modulo{outputs: d.OutputIDs()}
	switch kind := d.Kind(); kind {
	case Fixed:
		o := d.Outputs[0]
		res.Digest = sha256("fixed:out:" + o.MethodAlgo + ":" + o.Hash + ":" + string(o.Path))
		return res, nil
	case Impure:
		res.Digest, res.Deferred = sha256("impure"), true
		return res, nil
	default:
		res.Deferred = kind == Floating
	}
	keys, wanted := make([]string, 0, len(d.InputDrvs)), map[string][]string{}
	for _, in := range d.InputDrvs {
		im := h.memo[in.Path]
		res.Deferred = res.Deferred || im.Deferred
		for _, id := range in.Outputs {
			if _, ok := slices.BinarySearch(im.outputs, id); !ok {
				return Modulo{}, fmt.Errorf("no hash for output '%s' of derivation '%s'", id, d.Name)
			}
		}
		key := im.Digest.Hex()
		if wanted[key] == nil {
			keys = append(keys, key)
		}
		wanted[key] = append(wanted[key], in.Outputs...)
	}
	slices.Sort(keys)
	b := d.appendOutputs(make([]byte, 0, d.sizeHint()), m)
	for i, key := range keys {
		slices.Sort(wanted[key])
		b = appendInput(b, i, key, slices.Compact(wanted[key]))
	}
	res.Digest = digest.Of(digest.SHA256, d.appendRest(b, m))
	return res, nil
}

func sha256(s string) digest.Digest { return digest.Of(digest.SHA256, []byte(s)) }
