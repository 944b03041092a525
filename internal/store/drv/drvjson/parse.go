package drvjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

// Parse reads derivations in version 2, 3 or 4: one alone, or an object of
// them as Show prints it. What follows from the rest (outputs' paths, and the
// variables that repeat them) may be left out and is filled in; what is given
// must be right. Keys that name paths tell only which derivation inputs in the
// same text mean.
//
// read gets other input derivations. The result is ordered so that inputs come
// before their users, and each derivation satisfies drv's CheckInvariants.
func Parse(dir storepath.Dir, data []byte, read func(storepath.Path) (*drv.Derivation, error)) ([]Entry, error) {
	top, err := decode(data)
	if err != nil {
		return nil, err
	}
	entries, err := parseAll(dir, top)
	if err != nil {
		return nil, err
	}
	return complete(dir, inOrder(entries), read)
}

// parseAll tells the three shapes of a text apart.
func parseAll(dir storepath.Dir, top map[string]any) ([]Entry, error) {
	f := fields{object: top}
	if _, ok := top["derivations"]; ok {
		f.only("derivations", "version")
		v, all := f.version(0), f.sub("derivations")
		if f.err == nil && v != V4 {
			f.fail("a JSON object of derivations must have version %d", V4)
		}
		if f.err != nil {
			return nil, f.err
		}
		return parseKeyed(dir, v, all)
	}
	if len(top) > 0 && !hasOtherKeys(top) {
		return parseKeyed(dir, V2, top)
	}
	d, err := parseOne(dir, f, V2)
	return []Entry{{Drv: d}}, err
}

func hasOtherKeys(top map[string]any) bool {
	for key := range top {
		if !strings.HasSuffix(key, storepath.DrvSuffix) {
			return true
		}
	}
	return false
}

// parseKeyed reads an object of derivations; usual is the version of those
// that do not say.
func parseKeyed(dir storepath.Dir, usual Version, all map[string]any) ([]Entry, error) {
	var entries []Entry
	for _, key := range slices.Sorted(maps.Keys(all)) {
		p, err := dir.ParseExact(key)
		if !strings.HasPrefix(key, "/") {
			p, err = dir.FromBase(key)
		}
		if err != nil {
			return nil, err
		}
		o, ok := all[key].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("derivation '%s': expected a JSON object", key)
		}
		d, err := parseOne(dir, fields{object: o}, usual)
		if err != nil {
			return nil, fmt.Errorf("derivation '%s': %w", key, err)
		}
		entries = append(entries, Entry{p, d})
	}
	return entries, nil
}

// version reads the member of that name.
func (f *fields) version(usual Version) Version {
	v, ok := f.object["version"]
	if !ok {
		return usual
	}
	n, _ := v.(json.Number)
	i, err := n.Int64()
	if err != nil || i < int64(V3) || i > int64(V4) {
		f.fail("unsupported version '%v' of a JSON derivation", v)
	}
	return Version(i)
}

// parseOne reads a derivation without filling anything in.
func parseOne(dir storepath.Dir, f fields, usual Version) (*drv.Derivation, error) {
	v := f.version(usual)
	d := &drv.Derivation{
		Name: f.str("name"), Platform: f.str("system"), Builder: f.str("builder"), Args: f.strs("args"),
	}
	switch {
	case v == V4:
		f.only("args", "builder", "env", "inputs", "name", "outputs", "structuredAttrs", "system", "version")
		in := fields{object: f.sub("inputs"), err: f.err}
		in.only("drvs", "srcs")
		d.InputSrcs, d.InputDrvs = v.readSrcs(dir, &in, "srcs"), v.readDrvs(dir, &in, "drvs")
		f.err = in.err
	case v == V3:
		f.only("args", "builder", "env", "inputDrvs", "inputSrcs", "name", "outputs", "structuredAttrs", "system", "version")
		d.InputSrcs, d.InputDrvs = v.readSrcs(dir, &f, "inputSrcs"), v.readDrvs(dir, &f, "inputDrvs")
	default:
		f.only("args", "builder", "env", "inputDrvs", "inputSrcs", "name", "outputs", "system")
		d.InputSrcs, d.InputDrvs = v.readSrcs(dir, &f, "inputSrcs"), v.readDrvs(dir, &f, "inputDrvs")
	}
	if err := storepath.CheckName(d.Name + storepath.DrvSuffix); f.err == nil && err != nil {
		f.err = err
	}
	d.Env = v.readEnv(&f)
	outputs := f.sub("outputs")
	for _, id := range slices.Sorted(maps.Keys(outputs)) {
		d.Outputs = append(d.Outputs, v.readOutput(dir, &f, id, outputs[id]))
	}
	return d, f.err
}

func (v Version) readEnv(f *fields) []drv.EnvVar {
	vars := fields{object: f.sub("env"), err: f.err}
	var env []drv.EnvVar
	for name := range vars.object {
		env = append(env, drv.EnvVar{Name: name, Value: vars.str(name)})
	}
	f.err = vars.err
	if _, ok := f.object["structuredAttrs"]; ok && v >= V3 {
		text, err := drv.AppendJSON(nil, f.sub("structuredAttrs"))
		if _, both := vars.object[drv.JSONVar]; both {
			err = fmt.Errorf("variable '%s' stands beside 'structuredAttrs'", drv.JSONVar)
		}
		if err != nil {
			f.fail("%w", err)
		}
		env = append(env, drv.EnvVar{Name: drv.JSONVar, Value: string(text)})
	}
	slices.SortFunc(env, func(a, b drv.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return env
}

// readPath reads a path the way the version writes it.
func (v Version) readPath(dir storepath.Dir, f *fields, s string) storepath.Path {
	read := dir.ParseExact
	if v >= V3 {
		read = dir.FromBase
	}
	p, err := read(s)
	if err != nil {
		f.fail("%w", err)
	}
	return p
}

func (v Version) readSrcs(dir storepath.Dir, f *fields, name string) []storepath.Path {
	var srcs []storepath.Path
	for _, s := range f.strs(name) {
		srcs = append(srcs, v.readPath(dir, f, s))
	}
	slices.Sort(srcs)
	return slices.Compact(srcs)
}

func (v Version) readDrvs(dir storepath.Dir, f *fields, name string) []drv.Input {
	var ins []drv.Input
	drvs := f.sub(name)
	for _, key := range slices.Sorted(maps.Keys(drvs)) {
		of, ok := drvs[key].(map[string]any)
		if list, plain := drvs[key].([]any); plain { // people write it so, and version 1 did
			of, ok = map[string]any{"outputs": list}, true
		}
		if !ok {
			f.fail("expected input derivation '%s' to be an object", key)
			return nil
		}
		in := fields{object: of, err: f.err}
		in.only("outputs", "dynamicOutputs")
		outputs := in.strs("outputs")
		if _, given := of["dynamicOutputs"]; given && len(in.sub("dynamicOutputs")) > 0 {
			in.fail("input derivation '%s': %w", key, drv.ErrDynamic)
		}
		p := v.readPath(dir, &in, key)
		if in.err == nil && !p.IsDerivation() {
			in.fail("store path '%s' is not a valid derivation path", p.Base())
		}
		if len(outputs) == 0 {
			in.fail("input derivation '%s' is listed without an output", key)
		}
		f.err = in.err
		slices.Sort(outputs)
		ins = append(ins, drv.Input{Path: p, Outputs: slices.Compact(outputs)})
	}
	return ins
}

var errOutput = errors.New("invalid JSON for derivation output")

func (v Version) readOutput(dir storepath.Dir, f *fields, id string, value any) drv.Output {
	of, ok := value.(map[string]any)
	if err := storepath.CheckName(id); err != nil || !ok {
		f.fail("%w '%s'", errOutput, id)
		return drv.Output{}
	}
	o := fields{object: of}
	out := drv.Output{ID: id}
	switch shape := strings.Join(slices.Sorted(maps.Keys(of)), " "); {
	case shape == "":
	case shape == "path":
		out.Path = v.readPath(dir, &o, o.str("path"))
	case shape == "hashAlgo method":
		out.MethodAlgo = o.methodAlgo(o.str("hashAlgo"))
	case shape == "hashAlgo impure method" && of["impure"] == true:
		out.MethodAlgo, out.Hash = o.methodAlgo(o.str("hashAlgo")), "impure"
	case v == V4 && shape == "hash method":
		o.fixed(&out, digest.Unknown)
	case v < V4 && shape == "hash hashAlgo method", v == V2 && shape == "hash hashAlgo method path":
		algo, err := digest.ParseAlgorithm(o.str("hashAlgo"))
		if err != nil {
			o.fail("%w", err)
		}
		o.fixed(&out, algo)
		if _, ok := of["path"]; ok {
			out.Path = v.readPath(dir, &o, o.str("path"))
		}
	default:
		o.fail("its keys are '%s'", shape)
	}
	if o.err != nil {
		f.fail("%w '%s': %w", errOutput, id, o.err)
	}
	return out
}

// methodAlgo joins the method with the name of an algorithm as derivations do.
func (f *fields) methodAlgo(algo string) string {
	if _, err := digest.ParseAlgorithm(algo); err != nil {
		f.fail("%w", err)
	}
	name := f.str("method")
	m := slices.Index(methodNames[:], name)
	if m < 0 {
		f.fail("unknown method '%s'", name)
		return ""
	}
	return storepath.Method(m).Prefix() + algo
}

// fixed reads the hash of a fixed output; algo is Unknown where the hash must
// say.
func (f *fields) fixed(out *drv.Output, algo digest.Algorithm) {
	h, err := digest.Parse(f.str("hash"), algo)
	if err != nil {
		f.fail("%w", err)
		return
	}
	out.MethodAlgo, out.Hash = f.methodAlgo(h.Algorithm().String()), h.Hex()
}
