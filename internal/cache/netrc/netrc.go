// Package netrc reads the file in which curl and other programs keep names and
// passwords for servers.
package netrc

import (
	"errors"
	"strings"
)

// A Login is what to tell a server.
type Login struct{ Name, Password string }

// A File is the entries of a netrc file.
type File struct {
	machines []machine
	fallback *Login
}

type machine struct {
	host string // in lower case
	Login
}

// Find returns the first entry for a host.
func (f *File) Find(host string) (Login, bool) {
	host = strings.ToLower(host)
	for _, m := range f.machines {
		if m.host == host {
			return m.Login, true
		}
	}
	return Login{}, false
}

// Default returns the entry for all other hosts, if there is one.
func (f *File) Default() (Login, bool) {
	if f.fallback == nil {
		return Login{}, false
	}
	return *f.fallback, true
}

var errIncomplete = errors.New("it ends in the middle of an entry")

// Parse reads the text of a file: words, possibly quoted, lines that begin with
// '#', and macros, which it skips. Words that it does not know are skipped too.
func Parse(text string) (*File, error) {
	f := new(File)
	var current *Login // where login and password go
	w := words{rest: text}
	for {
		word, ok, err := w.next()
		if err != nil || !ok {
			return f, err
		}
		switch word {
		case "default":
			f.fallback = new(Login)
			current = f.fallback
		case "macdef":
			w.skipMacro()
		case "machine", "login", "password", "account":
			value, ok, err := w.next()
			if err != nil {
				return f, err
			}
			if !ok {
				return f, errIncomplete
			}
			switch {
			case word == "machine":
				f.machines = append(f.machines, machine{host: strings.ToLower(value)})
				current = &f.machines[len(f.machines)-1].Login
			case current == nil:
			case word == "login":
				current.Name = value
			case word == "password":
				current.Password = value
			}
		}
	}
}

// words takes a text apart.
type words struct {
	rest string
	used bool // something was read from the current line
}

const blanks = " \t\r"

func (w *words) next() (word string, ok bool, err error) {
	for {
		w.rest = strings.TrimLeft(w.rest, blanks)
		switch {
		case w.rest == "":
			return "", false, nil
		case w.rest[0] == '\n':
			w.rest, w.used = w.rest[1:], false
		case w.rest[0] == '#' && !w.used:
			_, w.rest, _ = strings.Cut(w.rest, "\n")
		case w.rest[0] == '"':
			w.used = true
			return w.quoted()
		default:
			w.used = true
			end := strings.IndexAny(w.rest, blanks+"\n")
			if end < 0 {
				end = len(w.rest)
			}
			word, w.rest = w.rest[:end], w.rest[end:]
			return word, true, nil
		}
	}
}

// quoted reads a word in quotes, in which a backslash protects what follows.
func (w *words) quoted() (string, bool, error) {
	var b strings.Builder
	for i := 1; i < len(w.rest); i++ {
		switch c := w.rest[i]; c {
		case '"':
			w.rest = w.rest[i+1:]
			return b.String(), true, nil
		case '\n':
			return "", false, errIncomplete
		case '\\':
			if i++; i < len(w.rest) {
				b.WriteByte(unescaped(w.rest[i]))
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", false, errIncomplete
}

func unescaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// skipMacro skips a macro's definition, which ends with an empty line.
func (w *words) skipMacro() {
	_, w.rest, _ = strings.Cut(w.rest, "\n")
	w.used = false
	for w.rest != "" {
		var line string
		line, w.rest, _ = strings.Cut(w.rest, "\n")
		if strings.Trim(line, blanks) == "" {
			return
		}
	}
}
