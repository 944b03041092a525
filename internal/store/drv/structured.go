package drv

import (
	"encoding/json"
	"errors"
	"math"
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
	if json, err = AppendJSON(nil, a.object); err != nil {
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
