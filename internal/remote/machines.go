package remote

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Machine is one line of a list of machines.
type Machine struct {
	URI       string // of its store
	Systems   []string
	Key       string // file of the ssh key; "" for ssh's own choice
	MaxJobs   int    // builds at once; 0 takes the machine out of service
	Speed     float64
	Features  []string // that derivations may require
	Mandatory []string // that derivations must require to be built there
	HostKey   string   // base-64 of the public key in ssh's form; "" for any that ssh knows
}

// Supports tells whether the machine has all features.
func (m *Machine) Supports(features []string) bool {
	for _, f := range features {
		if !slices.Contains(m.Features, f) && !slices.Contains(m.Mandatory, f) {
			return false
		}
	}
	return true
}

// Admits tells whether features has all that the machine insists on.
func (m *Machine) Admits(features []string) bool {
	for _, f := range m.Mandatory {
		if !slices.Contains(features, f) {
			return false
		}
	}
	return true
}

// builtin is the platform of derivations that any machine can build.
const builtin = "builtin"

// Runs tells whether the machine builds for the platform.
func (m *Machine) Runs(platform string) bool {
	return platform == builtin || slices.Contains(m.Systems, platform)
}

// Lists is how lists of machines are read.
type Lists struct {
	System string // of machines that do not say
	// ReadFile reads a list that another includes.
	ReadFile func(name string) ([]byte, error)
}

// maxIncludes bounds the files that are read, lest they include each other.
const maxIncludes = 100

// Parse reads the setting "builders": machines separated by line feeds or
// semicolons, comments, and files included by "@FILE". Files that do not exist
// are as good as empty ones.
func (l *Lists) Parse(text string) ([]Machine, error) {
	var machines []Machine
	included := 0
	// rest is what is still to be read: the texts around inclusions, innermost last
	rest := []string{text}
	for len(rest) > 0 {
		top := &rest[len(rest)-1]
		if *top == "" {
			rest = rest[:len(rest)-1]
			continue
		}
		line := *top
		if end := strings.IndexAny(line, "\n;"); end >= 0 {
			line, *top = line[:end], line[end+1:]
		} else {
			*top = ""
		}
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if file, ok := strings.CutPrefix(line, "@"); ok {
			if included++; included > maxIncludes {
				return nil, errors.New("reading the list of machines: more than 100 files are included; do they include each other?")
			}
			more, err := l.include(strings.TrimSpace(file))
			if err != nil {
				return nil, err
			}
			rest = append(rest, more)
			continue
		}
		m, err := l.machine(line)
		if err != nil {
			return nil, err
		}
		machines = append(machines, m)
	}
	return machines, nil
}

func (l *Lists) include(file string) (string, error) {
	data, err := l.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading the list of machines '%s': %w", file, err)
	}
	return string(data), nil
}

// machine reads one line that is not empty. "-" stands for what is not said.
func (l *Lists) machine(line string) (Machine, error) {
	bad := func(what string) (Machine, error) {
		return Machine{}, fmt.Errorf("bad machine specification: %s: '%s'", what, line)
	}
	fields := strings.Fields(line)
	field := func(n int) string {
		if n >= len(fields) || fields[n] == "-" {
			return ""
		}
		return fields[n]
	}
	if field(0) == "" {
		return bad("store URL was not found at the first column of a row")
	}
	m := Machine{
		URI: fullURI(field(0)), Systems: words(field(1)), Key: field(2), MaxJobs: 1, Speed: 1,
		Features: words(field(5)), Mandatory: words(field(6)), HostKey: field(7),
	}
	if len(m.Systems) == 0 {
		m.Systems = []string{l.System}
	}
	if text := field(3); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return bad("failed to convert column #3 in a row")
		}
		m.MaxJobs = int(n)
	}
	if text := field(4); text != "" {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x < 0 || math.IsInf(x, 0) || math.IsNaN(x) {
			return bad("failed to convert column #4 in a row")
		}
		if x > 0 {
			m.Speed = x
		}
	}
	if _, err := base64.StdEncoding.DecodeString(m.HostKey); err != nil {
		return bad("column #7 in a row is not valid base64")
	}
	return m, nil
}

// words splits a list with commas. Empty words are no words.
func words(list string) []string {
	var out []string
	for w := range strings.SplitSeq(list, ",") {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

// fullURI makes a store's address of a bare host's name.
func fullURI(text string) string {
	word, _, _ := strings.Cut(text, "?")
	switch {
	case strings.Contains(text, "://"), strings.Contains(word, "/"), word == "auto", word == "daemon", word == "local":
		return text
	}
	return "ssh://" + text
}
