package config

import (
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Kind names the syntax of a setting's values.
type Kind string

// The kinds of values.
const (
	KindBool    Kind = "bool"
	KindInt     Kind = "integer"
	KindSize    Kind = "bytes"
	KindSeconds Kind = "seconds"
	KindString  Kind = "string"
	KindPath    Kind = "path"
	KindList    Kind = "list"
	KindSet     Kind = "set"
	KindMap     Kind = "map"
	KindSandbox Kind = "sandbox mode"
	KindJobs    Kind = "jobs"
)

// A value knows the syntax of one field of Settings. Every implementation is a
// pointer to that field under another type, so that making one is free.
type value interface {
	parse(name, text string) error
	String() string
	kind() Kind
}

// An appender is a value that "extra-NAME" can add to.
type appender interface{ add(text string) }

type (
	boolean      bool
	integer      int
	size         int64
	seconds      time.Duration
	text         string
	absolutePath string
	optionalPath string
	list         []string
	set          []string
	dict         map[string]string
	jobs         int
)

func invalid(name, text string) error {
	return &ValueError{"setting '" + name + "' has invalid value '" + text + "'"}
}

func (v *boolean) parse(name, text string) error {
	switch text {
	case "true", "yes", "1":
		*v = true
	case "false", "no", "0":
		*v = false
	default:
		return &ValueError{"Boolean setting '" + name + "' has invalid value '" + text + "'"}
	}
	return nil
}

func (v *boolean) String() string { return strconv.FormatBool(bool(*v)) }
func (v *boolean) kind() Kind     { return KindBool }

// parseCount reads a number of at most limit. One of the suffixes K, M, G and
// T multiplies by a power of 1024.
func parseCount(s string, limit int64) (int64, bool) {
	unit := uint64(1)
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]&^0x20); i >= 0 {
			unit <<= 10 * (i + 1)
			s = s[:n-1]
		}
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64)
	if err != nil || n > math.MaxUint64/unit {
		return 0, false
	}
	if n *= unit; n > uint64(limit) {
		// Nix 2.8 writes "unlimited" as the largest unsigned number.
		if n == math.MaxUint64 {
			return limit, true
		}
		return 0, false
	}
	return int64(n), true
}

func (v *integer) parse(name, text string) error {
	n, ok := parseCount(text, math.MaxInt32)
	if !ok {
		return invalid(name, text)
	}
	*v = integer(n)
	return nil
}

func (v *integer) String() string { return strconv.Itoa(int(*v)) }
func (v *integer) kind() Kind     { return KindInt }

func (v *size) parse(name, text string) error {
	n, ok := parseCount(text, math.MaxInt64)
	if !ok {
		return invalid(name, text)
	}
	*v = size(n)
	return nil
}

func (v *size) String() string { return strconv.FormatInt(int64(*v), 10) }
func (v *size) kind() Kind     { return KindSize }

// Longer times than a Duration can hold are as good as its maximum, some 292
// years.
func (v *seconds) parse(name, text string) error {
	n, ok := parseCount(text, math.MaxInt64)
	if !ok {
		return invalid(name, text)
	}
	*v = seconds(min(n, math.MaxInt64/int64(time.Second)) * int64(time.Second))
	return nil
}

func (v *seconds) String() string {
	return strconv.FormatInt(int64(*v)/int64(time.Second), 10)
}
func (v *seconds) kind() Kind { return KindSeconds }

func (v *text) parse(_, s string) error {
	*v = text(s)
	return nil
}

func (v *text) String() string { return string(*v) }
func (v *text) kind() Kind     { return KindString }

func (v *absolutePath) parse(name, text string) error {
	if text == "" {
		return &ValueError{"setting '" + name + "' is a path and paths cannot be empty"}
	}
	return parsePath((*string)(v), text)
}

func parsePath(p *string, text string) error {
	if !strings.HasPrefix(text, "/") {
		return &ValueError{"not an absolute path: '" + text + "'"}
	}
	*p = path.Clean(text)
	return nil
}

func (v *absolutePath) String() string { return string(*v) }
func (v *absolutePath) kind() Kind     { return KindPath }

func (v *optionalPath) parse(_, text string) error {
	if text == "" {
		*v = ""
		return nil
	}
	return parsePath((*string)(v), text)
}

func (v *optionalPath) String() string { return string(*v) }
func (v *optionalPath) kind() Kind     { return KindPath }

func (v *list) parse(_, text string) error {
	*v = strings.Fields(text)
	return nil
}

func (v *list) add(text string) { *v = slices.Concat(*v, strings.Fields(text)) }
func (v *list) String() string  { return strings.Join(*v, " ") }
func (v *list) kind() Kind      { return KindList }

func (v *set) parse(_, text string) error {
	*v = sortedSet(strings.Fields(text))
	return nil
}

func (v *set) add(text string) { *v = sortedSet(slices.Concat(*v, strings.Fields(text))) }
func (v *set) String() string  { return strings.Join(*v, " ") }
func (v *set) kind() Kind      { return KindSet }

// sortedSet takes over its argument.
func sortedSet(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

func (v *dict) parse(_, text string) error {
	*v = pairs(nil, text)
	return nil
}

func (v *dict) add(text string) { *v = pairs(*v, text) }
func (v *dict) kind() Kind      { return KindMap }

// pairs adds "k=v" words to a copy of m. Words without "=" say nothing and are
// skipped, as in Nix.
func pairs(m map[string]string, text string) map[string]string {
	words := strings.Fields(text)
	out := make(map[string]string, len(m)+len(words))
	for k, v := range m {
		out[k] = v
	}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			out[k] = v
		}
	}
	return out
}

func (v *dict) String() string {
	words := make([]string, 0, len(*v))
	for k, x := range *v {
		words = append(words, k+"="+x)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (v *SandboxMode) parse(name, text string) error {
	switch text {
	case "true":
		*v = SandboxOn
	case "false":
		*v = SandboxOff
	case "relaxed":
		*v = SandboxRelaxed
	default:
		return &ValueError{"option '" + name + "' has invalid value '" + text + "'"}
	}
	return nil
}

// String is the mode in nix.conf syntax.
func (v SandboxMode) String() string {
	switch v {
	case SandboxOn:
		return "true"
	case SandboxRelaxed:
		return "relaxed"
	}
	return "false"
}

func (v *SandboxMode) kind() Kind { return KindSandbox }

func (v *jobs) parse(name, text string) error {
	if text == "auto" {
		*v = jobs(availableCPUs())
		return nil
	}
	n, ok := parseCount(text, math.MaxInt32)
	if !ok {
		return &ValueError{"configuration setting '" + name + "' should be 'auto' or an integer"}
	}
	*v = jobs(n)
	return nil
}

func (v *jobs) String() string { return strconv.Itoa(int(*v)) }
func (v *jobs) kind() Kind     { return KindJobs }
