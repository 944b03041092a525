package drv

import (
	"bytes"
	"strings"
)

// Facts are the attributes that matter before a build: who may build it, and
// whether substitutes are asked first.
type Facts struct {
	PreferLocalBuild       bool     // not to be offered to build hooks
	AllowSubstitutes       bool     // true unless the derivation says no
	NoChroot               bool     // asks for a build without sandbox
	Structured             bool     // has structured attributes
	RequiredSystemFeatures []string // what the building machine must have
}

// JSONVar is the variable that holds structured attributes; its bytes are part
// of the derivation's identity and must be kept as they are.
const JSONVar = "__json"

// The attributes behind Facts.
const (
	attrPreferLocalBuild = "preferLocalBuild"
	attrAllowSubstitutes = "allowSubstitutes"
	attrNoChroot         = "__noChroot"
	attrRequiredFeatures = "requiredSystemFeatures"
)

// facts reads the environment for nothing but Facts, and the end of the text.
// Structured attributes that cannot be understood leave the facts at their
// defaults: ParseOptions reports them when they come to be used.
func (p *parser) facts() (Facts, error) {
	f := Facts{AllowSubstitutes: true}
	if err := p.expect(",["); err != nil {
		return f, err
	}
	var json span
	for p.more() {
		name, value, err := p.pair()
		if err != nil {
			return f, err
		}
		if n := p.raw(name); string(n) == JSONVar {
			f.Structured, json = true, value
		} else {
			p.fact(&f, n, value)
		}
	}
	if err := p.expect(")"); err != nil || !f.Structured {
		return f, err
	}
	return p.structuredFacts(p.raw(json)), nil
}

func (p *parser) fact(f *Facts, name []byte, value span) {
	switch string(name) {
	case attrPreferLocalBuild:
		f.PreferLocalBuild = isTrue(p.raw(value))
	case attrAllowSubstitutes:
		f.AllowSubstitutes = isTrue(p.raw(value))
	case attrNoChroot:
		f.NoChroot = isTrue(p.raw(value))
	case attrRequiredFeatures:
		f.RequiredSystemFeatures = nil
		for _, w := range Tokens(string(p.raw(value))) {
			f.RequiredSystemFeatures = append(f.RequiredSystemFeatures, p.pool.word([]byte(w)))
		}
	}
}

func isTrue(value []byte) bool { return string(value) == "1" }

// structuredFacts decodes the attributes only if they name one of the facts,
// as few do.
func (p *parser) structuredFacts(json []byte) Facts {
	f := Facts{AllowSubstitutes: true, Structured: true}
	relevant := bytes.IndexByte(json, '\\') >= 0 && bytes.Contains(json, []byte(`\u`))
	for _, name := range [...]string{attrPreferLocalBuild, attrAllowSubstitutes, attrNoChroot, attrRequiredFeatures} {
		relevant = relevant || bytes.Contains(json, []byte(name))
	}
	if !relevant {
		return f
	}
	a, err := decodeAttrs(string(json))
	if err != nil {
		return f
	}
	if got, err := a.facts(); err == nil {
		return got
	}
	return f
}

// Tokens splits a list as it stands in a variable: at white space.
func Tokens(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' })
}
