// Package drvjson converts derivations to and from the JSON forms that tools
// exchange (derivation spec, section 8).
package drvjson

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// A Version is a revision of the JSON form.
type Version int

// The versions. V1 can only be shown: it does not hold derivations' names.
const (
	V1 Version = 1 + iota
	V2         // the usual one
	V3
	V4
)

// An Entry is a derivation with its path.
type Entry struct {
	Path storepath.Path
	Drv  *drv.Derivation
}

// Show prints derivations, sorted by path, indented and with a final line feed.
// It fails on bytes that are not UTF-8, and, from V3 on, on structured
// attributes that are not an object.
func Show(v Version, entries []Entry) ([]byte, error) {
	if v < V1 || v > V4 {
		return nil, fmt.Errorf("unknown version %d of the JSON form of derivations", v)
	}
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	var all object
	for _, e := range sorted {
		shown, err := v.derivation(e.Drv)
		if err != nil {
			return nil, fmt.Errorf("derivation '%s': %w", e.Path, err)
		}
		all = append(all, member{v.path(e.Path), shown})
	}
	if v == V4 {
		all = object{{"derivations", all}, {"version", int(v)}}
	}
	var w writer
	if err := w.value(all, "\n"); err != nil {
		return nil, err
	}
	return append(w.out, '\n'), nil
}

// path is how a version writes store paths.
func (v Version) path(p storepath.Path) string {
	if v >= V3 {
		return p.Base()
	}
	return string(p)
}

// derivation is the value for one derivation, its members in printing order.
func (v Version) derivation(d *drv.Derivation) (object, error) {
	if err := checkText(d); err != nil {
		return nil, err
	}
	outputs, err := v.outputs(d)
	if err != nil {
		return nil, err
	}
	drvs, srcs := v.inputDrvs(d), v.inputSrcs(d)
	if v == V1 {
		return object{
			{"outputs", outputs}, {"inputSrcs", srcs}, {"inputDrvs", drvs}, {"system", d.Platform},
			{"builder", d.Builder}, {"args", d.Args}, {"env", env(d.Env)},
		}, nil
	}
	o := object{{"args", d.Args}, {"builder", d.Builder}}
	structured, hasStructured := d.LookupEnv(drv.JSONVar)
	if v >= V3 && hasStructured {
		rest := slices.DeleteFunc(slices.Clone(d.Env), func(e drv.EnvVar) bool { return e.Name == drv.JSONVar })
		o = append(o, member{"env", env(rest)})
	} else {
		o = append(o, member{"env", env(d.Env)})
	}
	if v == V4 {
		o = append(o, member{"inputs", object{{"drvs", drvs}, {"srcs", srcs}}})
	} else {
		o = append(o, member{"inputDrvs", drvs}, member{"inputSrcs", srcs})
	}
	o = append(o, member{"name", d.Name}, member{"outputs", outputs})
	if v >= V3 && hasStructured {
		attrs, err := decode([]byte(structured))
		if err != nil {
			return nil, fmt.Errorf("structured attributes: %w", err)
		}
		o = append(o, member{"structuredAttrs", attrs})
	}
	o = append(o, member{"system", d.Platform})
	if v >= V3 {
		o = append(o, member{"version", int(v)})
	}
	return o, nil
}

func (v Version) inputSrcs(d *drv.Derivation) []string {
	list := make([]string, len(d.InputSrcs))
	for i, p := range d.InputSrcs {
		list[i] = v.path(p)
	}
	return list
}

func (v Version) inputDrvs(d *drv.Derivation) object {
	var o object
	for _, in := range d.InputDrvs {
		if v == V1 {
			o = append(o, member{v.path(in.Path), in.Outputs})
		} else {
			o = append(o, member{v.path(in.Path), object{{"dynamicOutputs", object{}}, {"outputs", in.Outputs}}})
		}
	}
	return o
}

func env(list []drv.EnvVar) object {
	o := make(object, len(list))
	for i, e := range list {
		o[i] = member{e.Name, e.Value}
	}
	return o
}

func (v Version) outputs(d *drv.Derivation) (object, error) {
	var all object
	for _, out := range d.Outputs {
		o, err := v.output(out)
		if err != nil {
			return nil, fmt.Errorf("output '%s': %w", out.ID, err)
		}
		all = append(all, member{out.ID, o})
	}
	return all, nil
}

func (v Version) output(out drv.Output) (object, error) {
	kind := out.Kind()
	switch {
	case kind == drv.Deferred:
		return object{}, nil
	case kind == drv.InputAddressed:
		return object{{"path", v.path(out.Path)}}, nil
	case v == V1:
		return outputV1(out), nil
	}
	m, algo, err := storepath.ParseMethodAlgo(out.MethodAlgo)
	if err != nil {
		return nil, err
	}
	method := member{"method", methodNames[m]}
	switch kind {
	case drv.Floating:
		return object{{"hashAlgo", algo.String()}, method}, nil
	case drv.Impure:
		return object{{"hashAlgo", algo.String()}, {"impure", true}, method}, nil
	}
	ca, err := out.ContentAddress()
	if err != nil {
		return nil, err
	}
	if v == V4 {
		return object{{"hash", ca.Digest.SRI()}, method}, nil
	}
	o := object{{"hash", ca.Digest.Hex()}, {"hashAlgo", algo.String()}, method}
	if v == V2 {
		o = append(o, member{"path", string(out.Path)})
	}
	return o, nil
}

// outputV1 is the first version's form of a content-addressed output.
func outputV1(out drv.Output) object {
	algo := member{"hashAlgo", out.MethodAlgo}
	switch out.Kind() {
	case drv.Floating:
		return object{algo}
	case drv.Impure:
		return object{algo, {"impure", true}}
	}
	return object{{"path", string(out.Path)}, algo, {"hash", out.Hash}}
}

var methodNames = [...]string{storepath.Flat: "flat", storepath.NAR: "nar", storepath.Git: "git", storepath.Text: "text"}

// checkText refuses what JSON cannot hold.
func checkText(d *drv.Derivation) error {
	ok := utf8.ValidString(d.Platform) && utf8.ValidString(d.Builder)
	for _, a := range d.Args {
		ok = ok && utf8.ValidString(a)
	}
	for _, e := range d.Env {
		ok = ok && utf8.ValidString(e.Name) && utf8.ValidString(e.Value)
	}
	if !ok {
		return errNotUTF8
	}
	return nil
}
