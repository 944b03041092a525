package storepath

import (
	"fmt"
	"slices"
	"strings"

	"gobuild/internal/store/digest"
)

// A Method says what of a file system object a content address covers.
type Method uint8

// The methods of spec store-paths.md sections 6 and 7.
const (
	Flat Method = iota // the bytes of one regular file
	NAR                // the archive of a tree, written "r:"
	Git                // a git object id, written "git:" (recognised only)
	Text               // the bytes of a file that may have references, written "text:"
)

var methodPrefixes = [...]string{Flat: "", NAR: "r:", Git: "git:", Text: "text:"}

// Prefix is how the method is written before an algorithm in derivations.
func (m Method) Prefix() string { return methodPrefixes[m] }

// ParseMethodAlgo reads "[r:|git:|text:]algorithm", the form in derivations.
func ParseMethodAlgo(s string) (Method, digest.Algorithm, error) {
	m := Flat
	for c := NAR; c <= Text; c++ {
		if rest, ok := strings.CutPrefix(s, c.Prefix()); ok {
			m, s = c, rest
			break
		}
	}
	a, err := digest.ParseAlgorithm(s)
	return m, a, err
}

// A ContentAddress says by which contents an object may be verified.
type ContentAddress struct {
	Method Method
	Digest digest.Digest
}

// String is the form of databases and caches; "" for the zero value.
func (ca ContentAddress) String() string {
	switch {
	case !ca.Digest.IsSet():
		return ""
	case ca.Method == Text:
		return "text:" + ca.Digest.String()
	}
	return "fixed:" + ca.Method.Prefix() + ca.Digest.String()
}

// ParseContentAddress reads what String prints; "" gives the zero value.
func ParseContentAddress(s string) (ContentAddress, error) {
	if s == "" {
		return ContentAddress{}, nil
	}
	kind, rest, ok := strings.Cut(s, ":")
	if !ok {
		return ContentAddress{}, fmt.Errorf("not a content address because it is not in the form '<prefix>:<rest>': %s", s)
	}
	ca := ContentAddress{Method: Text}
	switch kind {
	case "text":
	case "fixed":
		ca.Method = Flat
		for _, m := range []Method{NAR, Git} {
			if r, ok := strings.CutPrefix(rest, m.Prefix()); ok {
				ca.Method, rest = m, r
				break
			}
		}
	default:
		return ContentAddress{}, fmt.Errorf("content address prefix '%s' is unrecognized. Recogonized prefixes are 'text' or 'fixed'", kind)
	}
	if !strings.Contains(rest, ":") {
		return ContentAddress{}, fmt.Errorf("content address '%s' names no hash algorithm", s)
	}
	var err error
	ca.Digest, err = digest.Parse(rest, digest.Unknown)
	return ca, err
}

// Make computes the path of an object of the given type, inner SHA-256 and
// name.
func (d Dir) Make(kind string, inner digest.Digest, name string) (Path, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	pre := kind + ":sha256:" + inner.Hex() + ":" + string(d) + ":" + name
	sum := digest.Of(digest.SHA256, []byte(pre)).Bytes()
	return Path(string(d) + "/" + digest.EncodeNix32(digest.Compress(sum, 20)) + "-" + name), nil
}

// References of a content-addressed object, for its path.
type References struct {
	Others []Path // without the object itself, in any order
	Self   bool
}

// ReferencesOf sorts out which of the references of p lead to p itself.
func ReferencesOf(p Path, all []Path) References {
	var refs References
	for _, r := range all {
		if r == p {
			refs.Self = true
		} else {
			refs.Others = append(refs.Others, r)
		}
	}
	return refs
}

// Content computes the path of a content-addressed object. refs.Others may be
// given in any order. Flat, git and non-SHA-256 objects can have no references.
func (d Dir) Content(ca ContentAddress, name string, refs References) (Path, error) {
	switch {
	case ca.Method == Text:
		if refs.Self || ca.Digest.Algorithm() != digest.SHA256 {
			return "", fmt.Errorf("text object '%s' must have a sha256 hash and no self-reference", name)
		}
		return d.Make(withRefs("text", refs), ca.Digest, name)
	case ca.Method == NAR && ca.Digest.Algorithm() == digest.SHA256:
		return d.Make(withRefs("source", refs), ca.Digest, name)
	case refs.Self || len(refs.Others) > 0:
		return "", fmt.Errorf("fixed output derivation '%s' is not allowed to refer to other store paths", name)
	}
	pre := FixedPreimage(ca) + ":"
	return d.Make("output:out", digest.Of(digest.SHA256, []byte(pre)), name)
}

// FixedPreimage is "fixed:out:<method><algorithm>:<hex>", the common part of
// what is hashed for fixed outputs' paths and for their derivations modulo.
func FixedPreimage(ca ContentAddress) string {
	return "fixed:out:" + ca.Method.Prefix() + ca.Digest.PrefixedHex()
}

// Text computes the path of a text file such as a derivation.
func (d Dir) Text(contents []byte, name string, refs []Path) (Path, error) {
	ca := ContentAddress{Text, digest.Of(digest.SHA256, contents)}
	return d.Content(ca, name, References{Others: refs})
}

// Output computes the path of an input-addressed output from the derivation's
// hash modulo.
func (d Dir) Output(id string, modulo digest.Digest, drvName string) (Path, error) {
	return d.Make("output:"+id, modulo, OutputName(drvName, id))
}

// OutputName is the store name of an output of a derivation.
func OutputName(drvName, id string) string {
	if id == "out" {
		return drvName
	}
	return drvName + "-" + id
}

func withRefs(kind string, refs References) string {
	var b strings.Builder
	b.WriteString(kind)
	for _, r := range slices.Sorted(slices.Values(refs.Others)) {
		b.WriteByte(':')
		b.WriteString(string(r))
	}
	if refs.Self {
		b.WriteString(":self")
	}
	return b.String()
}

// Placeholder stands for an output's own path where it is not known yet.
func Placeholder(id string) string {
	return "/" + digest.Of(digest.SHA256, []byte("nix-output:"+id)).Nix32()
}

// UpstreamPlaceholder stands for the path of an output of another derivation
// that has not been built yet.
func UpstreamPlaceholder(drv Path, id string) string {
	name := strings.TrimSuffix(drv.Name(), DrvSuffix)
	pre := "nix-upstream-output:" + drv.HashPart() + ":" + OutputName(name, id)
	return "/" + digest.Of(digest.SHA256, []byte(pre)).Nix32()
}

// Scratch computes the path at which a known output is built when its own
// path must not be touched. It is as long as the output's.
func (d Dir) Scratch(drv, out Path) (Path, error) {
	return d.Make("rewrite:"+drv.Base()+":"+out.Base(), digest.New(digest.SHA256, make([]byte, 32)), out.Name())
}

// ScratchUnknown is Scratch for an output whose path is not known.
func (d Dir) ScratchUnknown(drv Path, id string) (Path, error) {
	name := strings.TrimSuffix(drv.Name(), DrvSuffix)
	return d.Make("rewrite:"+drv.Base()+":name:"+id, digest.New(digest.SHA256, make([]byte, 32)), OutputName(name, id))
}
