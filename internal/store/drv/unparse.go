package drv

import "gobuild/internal/store/storepath"

// Unparse prints the derivation in the one form that its store path covers.
func (d *Derivation) Unparse() []byte {
	b := d.appendOutputs(make([]byte, 0, d.sizeHint()), plain)
	for i, in := range d.InputDrvs {
		b = appendInput(b, i, string(in.Path), in.Outputs)
	}
	return d.appendRest(b, plain)
}

// A masking says whether what depends on the output paths is left out.
type masking bool

const (
	plain  masking = false
	masked masking = true
)

// sizeHint is a little more than the text's usual length.
func (d *Derivation) sizeHint() int {
	n := 64 + len(d.Platform) + len(d.Builder)
	for _, o := range d.Outputs {
		n += 16 + len(o.ID) + len(o.Path) + len(o.MethodAlgo) + len(o.Hash)
	}
	for _, in := range d.InputDrvs {
		n += 8 + len(in.Path) + 8*len(in.Outputs)
	}
	for _, p := range d.InputSrcs {
		n += 3 + len(p)
	}
	for _, a := range d.Args {
		n += 8 + len(a)
	}
	for _, e := range d.Env {
		n += 8 + len(e.Name) + len(e.Value) + len(e.Value)/16
	}
	return n
}

// appendOutputs prints the text up to the list of input derivations.
func (d *Derivation) appendOutputs(b []byte, m masking) []byte {
	b = append(b, "Derive(["...)
	for i, o := range d.Outputs {
		if m == masked {
			o.Path = ""
		}
		b = appendString(appendSeparator(b, i, '('), o.ID)
		b = appendString(append(b, ','), string(o.Path))
		b = appendString(append(b, ','), o.MethodAlgo)
		b = append(appendString(append(b, ','), o.Hash), ')')
	}
	return append(b, "],["...)
}

// appendInput prints the i-th input; key is a path, or a hash that replaces it.
func appendInput(b []byte, i int, key string, outputs []string) []byte {
	b = appendString(appendSeparator(b, i, '('), key)
	return append(appendList(append(b, ','), outputs), ')')
}

// appendRest prints what follows the last input derivation.
func (d *Derivation) appendRest(b []byte, m masking) []byte {
	b = appendList(append(b, "],"...), d.InputSrcs)
	b = appendString(append(b, ','), d.Platform)
	b = appendString(append(b, ','), d.Builder)
	b = appendList(append(b, ','), d.Args)
	b = append(b, ",["...)
	for i, e := range d.Env {
		if m == masked {
			if _, ok := d.Output(e.Name); ok {
				e.Value = ""
			}
		}
		b = appendString(appendSeparator(b, i, '('), e.Name)
		b = append(appendString(append(b, ','), e.Value), ')')
	}
	return append(b, "])"...)
}

func appendSeparator(b []byte, i int, open byte) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	return append(b, open)
}

func appendList[S string | storepath.Path](b []byte, list []S) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(s))
	}
	return append(b, ']')
}

// appendString quotes s, copying the stretches between special bytes whole.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		e := escapes[s[i]]
		if e == 0 {
			continue
		}
		b = append(append(b, s[from:i]...), '\\', e)
		from = i + 1
	}
	return append(append(b, s[from:]...), '"')
}

// escapes maps each special byte to what is written after the backslash.
var escapes = [256]byte{'"': '"', '\\': '\\', '\n': 'n', '\r': 'r', '\t': 't'}
