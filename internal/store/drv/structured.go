package drv

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gobuild/internal/store/storepath"
)

// A ClosureMember is what structured attributes tell of one path in an
// exported graph.
type ClosureMember struct {
	Path        storepath.Path
	NarHash     string // "sha256:" and base-32
	NarSize     uint64
	ClosureSize uint64
	References  []storepath.Path // sorted, with the path itself if it refers to itself
	CA          string           // "" when not content-addressed
	Valid       bool             // whether to say that the path is valid, which older releases do not
}

// An ExportedGraph is a Graph whose closure has been computed.
type ExportedGraph struct {
	Name    string
	Members []ClosureMember // sorted by path
}

// StructuredFiles makes the contents of ".attrs.json" and ".attrs.sh", in
// which a builder finds structured attributes. outputs maps every output ID to
// the path that the builder must write to (derivation spec, section 12).
func StructuredFiles(d *Derivation, outputs map[string]string, graphs []ExportedGraph) (json, sh []byte, err error) {
	a, err := attrsOf(d)
	if err != nil {
		return nil, nil, err
	}
	if !a.structured() {
		return nil, nil, errors.New("the derivation has no structured attributes")
	}
	paths := make(map[string]any, len(outputs))
	for id, p := range outputs {
		paths[id] = p
	}
	a.object["outputs"] = paths
	for _, g := range graphs {
		members := make([]any, len(g.Members))
		for i, m := range g.Members {
			members[i] = m.object()
		}
		a.object[g.Name] = members
	}
	if json, err = appendJSON(nil, a.object); err != nil {
		return nil, nil, err
	}
	return json, appendShell(nil, a.object), nil
}

func (m ClosureMember) object() map[string]any {
	refs := make([]any, len(m.References))
	for i, r := range m.References {
		refs[i] = string(r)
	}
	object := map[string]any{
		"closureSize": json.Number(strconv.FormatUint(m.ClosureSize, 10)),
		"narHash":     m.NarHash,
		"narSize":     json.Number(strconv.FormatUint(m.NarSize, 10)),
		"path":        string(m.Path),
		"references":  refs,
	}
	if m.CA != "" {
		object["ca"] = m.CA
	}
	if m.Valid {
		object["valid"] = true
	}
	return object
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// appendJSON prints a decoded value compactly, to the byte as other builders'
// files are. The decoder has bounded the depth.
func appendJSON(b []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case string:
		return appendJSONString(b, v), nil
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, key := range sortedKeys(v) {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(append(appendJSONString(b, key), ':'), v[key]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("cannot print a %T as JSON", v)
}

// appendJSONString escapes no more than JSON demands.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		if j := strings.IndexByte("\"\\\b\f\n\r\t", c); j >= 0 {
			b = append(b, '\\', `"\bfnrt`[j])
		} else if c < 0x20 {
			b = fmt.Appendf(b, `\u%04x`, c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// integer reads a number written without fraction and exponent that fits 64
// bits, signed or not; bits holds the lower ones either way.
func integer(n json.Number) (text string, bits uint64, ok bool) {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return strconv.FormatInt(i, 10), uint64(i), true
	}
	u, err := strconv.ParseUint(string(n), 10, 64)
	return string(n), u, err == nil
}

func appendNumber(b []byte, n json.Number) ([]byte, error) {
	if text, _, ok := integer(n); ok {
		return append(b, text...), nil
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return nil, fmt.Errorf("number '%s' does not fit a double", n)
	}
	return appendFloat(b, f), nil
}

// appendFloat prints the shortest digits that read back the same: with a
// decimal point from 0.0001 up to 15 integral digits, else with an exponent of
// at least two digits.
func appendFloat(b []byte, f float64) []byte {
	short := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(short, "e")
	if e, err := strconv.Atoi(exponent); err == nil && (e < -4 || e >= 15) {
		return append(b, short...)
	}
	short = strconv.FormatFloat(f, 'f', -1, 64)
	b = append(b, short...)
	if !strings.Contains(short, ".") {
		b = append(b, ".0"...)
	}
	return b
}

// appendShell prints the attributes that a shell can hold, as declarations.
func appendShell(b []byte, object map[string]any) []byte {
	for _, key := range sortedKeys(object) {
		if !isShellName(key) {
			continue
		}
		switch v := object[key].(type) {
		case []any:
			if list, ok := appendShellArray([]byte("declare -a "+key+"=("), v); ok {
				b = append(append(b, list...), ")\n"...)
			}
		case map[string]any:
			if list, ok := appendShellMap([]byte("declare -A "+key+"=("), v); ok {
				b = append(append(b, list...), ")\n"...)
			}
		default:
			if s, ok := shellValue(v); ok {
				b = append(b, "declare "+key+"="+s+"\n"...)
			}
		}
	}
	return b
}

func appendShellArray(b []byte, items []any) ([]byte, bool) {
	for _, item := range items {
		s, ok := shellValue(item)
		if !ok {
			return nil, false
		}
		b = append(append(b, s...), ' ')
	}
	return b, true
}

func appendShellMap(b []byte, object map[string]any) ([]byte, bool) {
	for _, key := range sortedKeys(object) {
		s, ok := shellValue(object[key])
		if !ok {
			return nil, false
		}
		b = append(b, "["+shellQuote(key)+"]="+s+" "...)
	}
	return b, true
}

// shellValue prints a value that is neither a list nor an object; ok is false
// where a shell has no such value.
func shellValue(v any) (_ string, ok bool) {
	switch v := v.(type) {
	case nil:
		return "''", true
	case bool:
		if v {
			return "1", true
		}
		return "", true
	case string:
		return shellQuote(v), true
	case json.Number:
		return shellNumber(v)
	}
	return "", false
}

// shellNumber prints whole numbers, cut to 32 bits as all releases do; whether
// a number is whole is decided in single precision.
func shellNumber(n json.Number) (string, bool) {
	if _, bits, ok := integer(n); ok {
		return strconv.Itoa(int(int32(bits))), true
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if single := float64(float32(f)); err != nil || math.Ceil(single) != single {
		return "", false
	}
	whole := math.Trunc(f)
	if whole < math.MinInt32 || whole > math.MaxInt32 {
		whole = math.MinInt32 // what the conversion gives on common machines
	}
	return strconv.Itoa(int(whole)), true
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// isShellName tells whether a shell could have a variable of that name.
func isShellName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
