package drvjson

import (
	"fmt"
	"maps"
	"slices"

	"gobuild/internal/store/drv"
)

// An object is a JSON object whose members are printed in their order.
type object []member

type member struct {
	key   string
	value any
}

// A writer prints values two spaces deeper per level.
type writer struct {
	out []byte
}

// value prints v; newline is a line feed and the current indentation.
func (w *writer) value(v any, newline string) (err error) {
	switch v := v.(type) {
	case object:
		return w.list('{', '}', newline, len(v), func(i int, newline string) error {
			return w.member(v[i].key, v[i].value, newline)
		})
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		return w.list('{', '}', newline, len(keys), func(i int, newline string) error {
			return w.member(keys[i], v[keys[i]], newline)
		})
	case []any:
		return w.list('[', ']', newline, len(v), func(i int, newline string) error { return w.value(v[i], newline) })
	case []string:
		return w.list('[', ']', newline, len(v), func(i int, newline string) error { return w.value(v[i], newline) })
	case string:
		w.out = drv.AppendJSONString(w.out, v)
		return nil
	case int:
		w.out = fmt.Append(w.out, v)
		return nil
	}
	w.out, err = drv.AppendJSON(w.out, v)
	return err
}

// list prints the n items of a list or an object.
func (w *writer) list(open, end byte, newline string, n int, item func(i int, newline string) error) error {
	w.out = append(w.out, open)
	for i := range n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = append(append(w.out, newline...), "  "...)
		if err := item(i, newline+"  "); err != nil {
			return err
		}
	}
	if n > 0 {
		w.out = append(w.out, newline...)
	}
	w.out = append(w.out, end)
	return nil
}

func (w *writer) member(key string, v any, newline string) error {
	w.out = append(drv.AppendJSONString(w.out, key), ": "...)
	return w.value(v, newline)
}
