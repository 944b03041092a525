// Package sign makes and checks the signatures by which stores trust each
// other's paths (binary-cache spec, section 5).
package sign

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

// A PublicKey verifies what its secret key signed. The zero value verifies
// nothing.
type PublicKey struct {
	name string
	key  ed25519.PublicKey
}

// A SecretKey signs. It prints as its name, so that no message shows it.
type SecretKey struct {
	name string
	key  ed25519.PrivateKey
}

// ParsePublic reads "<name>:<base-64 of 32 bytes>".
func ParsePublic(text string) (PublicKey, error) {
	name, key, err := split(text)
	if err != nil {
		return PublicKey{}, fmt.Errorf("'%s': %w", text, err)
	}
	if len(key) != ed25519.PublicKeySize {
		return PublicKey{}, fmt.Errorf("'%s': public key is not valid", text)
	}
	return PublicKey{name, key}, nil
}

// ParseSecret reads "<name>:<base-64 of 64 bytes>", the seed and the public
// key. Its errors do not repeat the text.
func ParseSecret(text string) (SecretKey, error) {
	name, key, err := split(text)
	if err != nil {
		return SecretKey{}, err
	}
	// The two halves must belong together: signing under another public key
	// would give the secret one away.
	if len(key) != ed25519.PrivateKeySize ||
		!slices.Equal(ed25519.NewKeyFromSeed(key[:ed25519.SeedSize]), ed25519.PrivateKey(key)) {
		return SecretKey{}, errors.New("secret key is not valid")
	}
	return SecretKey{name, key}, nil
}

// ReadSecret reads a secret key from a file, as the settings name it.
func ReadSecret(file string) (SecretKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return SecretKey{}, fmt.Errorf("reading the secret key: %w", err)
	}
	k, err := ParseSecret(string(text))
	if err != nil {
		return SecretKey{}, fmt.Errorf("file '%s': %w", file, err)
	}
	return k, nil
}

// Generate makes a new pair of keys.
func Generate(name string) (SecretKey, error) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == ':' || r == 0x7f }) {
		return SecretKey{}, fmt.Errorf("'%s' cannot name a key: it must not be empty, nor have colons or white space", name)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return SecretKey{}, fmt.Errorf("generating key '%s': %w", name, err)
	}
	return SecretKey{name, key}, nil
}

// split reads what keys and signatures have in common. Line feeds within and
// missing padding are accepted, as files are edited by people.
func split(text string) (name string, data []byte, err error) {
	name, body, _ := strings.Cut(text, ":")
	if name == "" || body == "" {
		return "", nil, errors.New("key is corrupt")
	}
	body = strings.TrimRight(body, "=\r\n")
	if data, err = base64.RawStdEncoding.DecodeString(body); err != nil {
		return "", nil, errors.New("key is corrupt: it is not base-64")
	}
	return name, data, nil
}

// Name is the part before the colon, which signatures repeat.
func (k PublicKey) Name() string { return k.name }

// String is the text that ParsePublic reads, without a line feed.
func (k PublicKey) String() string { return join(k.name, k.key) }

// Name is the part before the colon, which signatures repeat.
func (k SecretKey) Name() string { return k.name }

// String is the name alone.
func (k SecretKey) String() string { return k.name }

// Export is the text that ParseSecret reads, without a line feed, for a file
// that nobody else may read.
func (k SecretKey) Export() string { return join(k.name, k.key) }

// Public is the key that verifies what k signs.
func (k SecretKey) Public() PublicKey {
	return PublicKey{k.name, slices.Clone(ed25519.PublicKey(k.key[ed25519.SeedSize:]))}
}

// Sign makes the signature of a fingerprint, "<name>:<base-64 of 64 bytes>".
func (k SecretKey) Sign(fingerprint string) string {
	return join(k.name, ed25519.Sign(k.key, []byte(fingerprint)))
}

func join(name string, data []byte) string {
	return name + ":" + base64.StdEncoding.EncodeToString(data)
}

// Fingerprint is the text that is signed for a path: its name, contents and
// references, in any order, itself included if it refers to itself.
func Fingerprint(path storepath.Path, narHash digest.Digest, narSize uint64, refs []storepath.Path) (string, error) {
	if narSize == 0 || narHash.Algorithm() != digest.SHA256 || narHash.IsZero() {
		return "", fmt.Errorf("cannot calculate the fingerprint of path '%s' because its size or SHA-256 hash is not known", path)
	}
	if !slices.IsSorted(refs) {
		refs = slices.Sorted(slices.Values(refs))
	}
	b := make([]byte, 0, 128+len(refs)*96)
	b = append(append(b, "1;"...), path...)
	b = append(append(b, ';'), narHash.String()...)
	b = append(strconv.AppendUint(append(b, ';'), narSize, 10), ';')
	for i, r := range refs {
		if i > 0 {
			if r == refs[i-1] {
				continue
			}
			b = append(b, ',')
		}
		b = append(b, r...)
	}
	return string(b), nil
}

// Trusted is a set of public keys, by name. The zero value trusts nobody.
type Trusted struct {
	keys map[string]PublicKey
}

// NewTrusted reads a list of public keys. Of two with one name the first
// counts, as in Nix.
func NewTrusted(texts []string) (Trusted, error) {
	t := Trusted{keys: make(map[string]PublicKey, len(texts))}
	for _, text := range texts {
		k, err := ParsePublic(text)
		if err != nil {
			return Trusted{}, err
		}
		if _, ok := t.keys[k.name]; !ok {
			t.keys[k.name] = k
		}
	}
	return t, nil
}

// Len is how many keys are trusted.
func (t Trusted) Len() int { return len(t.keys) }

// maxTried bounds how often a stranger's list of signatures under one trusted
// name makes Verify compute.
const maxTried = 64

// Verify tells whether at least one of the signatures is a trusted key's for
// that fingerprint. Malformed and foreign signatures count for nothing.
func (t Trusted) Verify(fingerprint string, sigs []string) bool {
	tried := 0
	for _, sig := range sigs {
		name, _, _ := strings.Cut(sig, ":")
		k, ok := t.keys[name]
		if !ok {
			continue
		}
		if tried++; tried > maxTried {
			return false
		}
		_, data, err := split(sig)
		if err == nil && len(data) == ed25519.SignatureSize && ed25519.Verify(k.key, []byte(fingerprint), data) {
			return true
		}
	}
	return false
}
