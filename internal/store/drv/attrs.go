package drv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// attrs gives typed access to a derivation's attributes, wherever they are:
// variables, or the object in JSONVar.
type attrs struct {
	drv    *Derivation    // the variables, unless structured
	object map[string]any // nil unless structured
}

// attrsOf finds the attributes of d.
func attrsOf(d *Derivation) (attrs, error) {
	text, ok := d.LookupEnv(JSONVar)
	if !ok {
		return attrs{drv: d}, nil
	}
	return decodeAttrs(text)
}

// decodeAttrs reads structured attributes. Numbers stay as they are written.
func decodeAttrs(text string) (attrs, error) {
	bad := func(err error) (attrs, error) {
		return attrs{}, fmt.Errorf("cannot process '%s' attribute: %w", JSONVar, err)
	}
	if !utf8.ValidString(text) {
		return bad(errors.New("invalid UTF-8"))
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return bad(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad(errors.New("text after the end of the value"))
	}
	object, ok := v.(map[string]any)
	if !ok {
		return bad(errors.New("not an object"))
	}
	return attrs{object: object}, nil
}

func (a attrs) structured() bool { return a.object != nil }

// flag reads a Boolean; a variable is true when it is exactly "1".
func (a attrs) flag(name string, unset bool) (bool, error) {
	if !a.structured() {
		v, ok := a.drv.LookupEnv(name)
		if !ok {
			return unset, nil
		}
		return v == "1", nil
	}
	return flagIn(a.object, name, name, unset)
}

// list reads a list of strings, nil only when it is unset.
func (a attrs) list(name string) ([]string, error) {
	if !a.structured() {
		v, ok := a.drv.LookupEnv(name)
		if !ok {
			return nil, nil
		}
		return append([]string{}, Tokens(v)...), nil
	}
	return listIn(a.object, name, name)
}

// flagIn and listIn read an entry of an object; title is what messages call it.
func flagIn(object map[string]any, name, title string, unset bool) (bool, error) {
	v, ok := object[name]
	if !ok {
		return unset, nil
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("attribute '%s' must be a Boolean", title)
	}
	return b, nil
}

func listIn(object map[string]any, name, title string) ([]string, error) {
	v, ok := object[name]
	if !ok {
		return nil, nil
	}
	items, ok := v.([]any)
	list := make([]string, 0, len(items))
	for _, item := range items {
		s, isString := item.(string)
		ok = ok && isString
		list = append(list, s)
	}
	if !ok {
		return nil, fmt.Errorf("attribute '%s' must be a list of strings", title)
	}
	return list, nil
}

// facts reads the attributes that matter before a build.
func (a attrs) facts() (f Facts, err error) {
	f.Structured = a.structured()
	if f.PreferLocalBuild, err = a.flag(attrPreferLocalBuild, false); err != nil {
		return f, err
	}
	if f.AllowSubstitutes, err = a.flag(attrAllowSubstitutes, true); err != nil {
		return f, err
	}
	if f.NoChroot, err = a.flag(attrNoChroot, false); err != nil {
		return f, err
	}
	f.RequiredSystemFeatures, err = a.list(attrRequiredFeatures)
	return f, err
}
