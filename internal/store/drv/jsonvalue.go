package drv

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// AppendJSON prints a value decoded with numbers kept as json.Number: compactly,
// keys sorted, to the byte as other engines do. It recurses as deep as the
// value, so the decoder must have bounded that, as encoding/json does.
func AppendJSON(b []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case string:
		return AppendJSONString(b, v), nil
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = AppendJSON(b, item); err != nil {
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
			if b, err = AppendJSON(append(AppendJSONString(b, key), ':'), v[key]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("cannot print a %T as JSON", v)
}

// AppendJSONString quotes s, whose UTF-8 is not checked, and escapes no more than
// JSON demands.
func AppendJSONString(b []byte, s string) []byte {
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
