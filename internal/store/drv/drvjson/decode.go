package drvjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

var errNotUTF8 = errors.New("it has strings that are not UTF-8")

// decode reads one object. Numbers stay as they are written; the depth is
// bounded by the decoder.
func decode(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errNotUTF8
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text after the end of the JSON value")
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("expected a JSON object")
	}
	return o, nil
}

// A fields value takes an object apart, and remembers the first complaint so
// that callers need not ask after every member.
type fields struct {
	object map[string]any
	err    error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

// only complains about members that are not among the names.
func (f *fields) only(names ...string) {
	for key := range f.object {
		if !slices.Contains(names, key) {
			f.fail("unexpected key '%s' in JSON derivation", key)
		}
	}
}

func (f *fields) need(name string) any {
	v, ok := f.object[name]
	if !ok {
		f.fail("expected JSON object to contain key '%s' but it doesn't", name)
	}
	return v
}

// required reads a member that must be there and have the type T, which what
// names.
func required[T any](f *fields, name, what string) T {
	v, ok := f.need(name).(T)
	if !ok {
		f.fail("expected JSON key '%s' to be %s", name, what)
	}
	return v
}

func (f *fields) str(name string) string { return required[string](f, name, "a string") }

func (f *fields) sub(name string) map[string]any {
	return required[map[string]any](f, name, "an object")
}

func (f *fields) strs(name string) []string {
	items := required[[]any](f, name, "a list of strings")
	list := make([]string, len(items))
	for i, item := range items {
		s, ok := item.(string)
		if !ok {
			f.fail("expected JSON key '%s' to be a list of strings", name)
		}
		list[i] = s
	}
	return list
}
