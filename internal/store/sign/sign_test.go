package sign

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

const golden = "../../../testdata/golden"

func goldenFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type signatures struct {
	PublicKeys map[string]string
	Entries    []struct {
		File, Fingerprint string
		Sigs              []string
		Verified          bool
	}
}

func goldenSignatures(t testing.TB) (all signatures) {
	t.Helper()
	if err := json.Unmarshal([]byte(goldenFile(t, "signatures.json")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// pairs are the key pairs that signed the vectors, by name.
func pairs(t testing.TB) map[string]SecretKey {
	t.Helper()
	all := map[string]SecretKey{}
	for _, base := range []string{"example-1", "other-2"} {
		k, err := ReadSecret(filepath.Join(golden, "keys", base+".sec"))
		if err != nil {
			t.Fatal(err)
		}
		pub := strings.TrimSpace(goldenFile(t, "keys/"+base+".pub"))
		if k.Public().String() != pub {
			t.Errorf("public key of '%s' is %s, want %s", base, k.Public(), pub)
		}
		if text := strings.TrimSpace(goldenFile(t, "keys/"+base+".sec")); k.Export() != text {
			t.Errorf("secret key '%s' does not print as it was", base)
		}
		all[k.Name()] = k
	}
	return all
}

func TestGoldenSignatures(t *testing.T) {
	all := goldenSignatures(t)
	var texts []string
	for name, key := range all.PublicKeys {
		texts = append(texts, name+":"+key)
	}
	trusted, err := NewTrusted(texts)
	if err != nil {
		t.Fatal(err)
	}
	keys := pairs(t)
	if len(all.Entries) == 0 {
		t.Fatal("no vectors")
	}
	for _, e := range all.Entries {
		for _, sig := range e.Sigs {
			if got := trusted.Verify(e.Fingerprint, []string{sig}); got != e.Verified {
				t.Errorf("%s: verified %v, want %v", e.File, got, e.Verified)
			}
			name, _, _ := strings.Cut(sig, ":")
			if got := keys[name].Sign(e.Fingerprint); got != sig {
				t.Errorf("%s: signed\n%s, want\n%s", e.File, got, sig)
			}
		}
		if trusted.Verify(e.Fingerprint+" ", e.Sigs) {
			t.Errorf("%s: the signature is good for another text", e.File)
		}
	}
}

func TestFingerprint(t *testing.T) {
	for _, e := range goldenSignatures(t).Entries {
		part := strings.Split(e.Fingerprint, ";")
		hash, err := digest.Parse(part[2], digest.Unknown)
		if err != nil {
			t.Fatal(err)
		}
		var size uint64
		if err := json.Unmarshal([]byte(part[3]), &size); err != nil {
			t.Fatal(err)
		}
		var refs []storepath.Path
		for r := range strings.SplitSeq(part[4], ",") {
			if r != "" { // backwards and twice
				refs = append([]storepath.Path{storepath.Path(r), storepath.Path(r)}, refs...)
			}
		}
		got, err := Fingerprint(storepath.Path(part[1]), hash, size, refs)
		if err != nil || got != e.Fingerprint {
			t.Errorf("got  %s, %v\nwant %s", got, err, e.Fingerprint)
		}
	}
	sum := digest.Of(digest.SHA256, nil)
	for _, c := range []struct {
		hash digest.Digest
		size uint64
	}{{sum, 0}, {digest.Digest{}, 1}, {digest.Of(digest.SHA1, nil), 1}, {digest.New(digest.SHA256, make([]byte, 32)), 1}} {
		if got, err := Fingerprint("/nix/store/x", c.hash, c.size, nil); err == nil {
			t.Errorf("fingerprint of what is not known: %s", got)
		}
	}
}

func TestBadKeys(t *testing.T) {
	pub := strings.TrimSpace(goldenFile(t, "keys/example-1.pub"))
	sec := strings.TrimSpace(goldenFile(t, "keys/example-1.sec"))
	for _, c := range []struct{ text, public, secret string }{
		{"", "key is corrupt", "key is corrupt"},
		{"name", "key is corrupt", "key is corrupt"},
		{"name:", "key is corrupt", "key is corrupt"},
		{":" + pub, "key is corrupt", "key is corrupt"},
		{"name:*", "key is corrupt", "key is corrupt"},
		{"name:AAAA", "public key is not valid", "secret key is not valid"},
		{pub, "", "secret key is not valid"},
		{pub + "\n", "", "secret key is not valid"},
		{strings.TrimRight(pub, "="), "", "secret key is not valid"},
		{sec, "public key is not valid", ""},
		{sec[:len(sec)-8] + "AAAAAA==", "public key is not valid", "secret key is not valid"}, // halves do not match
	} {
		check := func(what string, err error, want string) {
			t.Helper()
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s key %q: %v, want %q", what, c.text, err, want)
			}
		}
		_, err := ParsePublic(c.text)
		check("public", err, c.public)
		_, err = ParseSecret(c.text)
		check("secret", err, c.secret)
		if err != nil && len(c.text) > 20 && strings.Contains(err.Error(), c.text[12:20]) {
			t.Errorf("the message shows the secret: %v", err)
		}
	}
	if _, err := NewTrusted([]string{pub, "bad"}); err == nil {
		t.Error("a bad key is trusted")
	}
}

func TestGenerate(t *testing.T) {
	for _, name := range []string{"", "a:b", "a b", "a\n"} {
		if _, err := Generate(name); err == nil {
			t.Errorf("a key has the name %q", name)
		}
	}
	k, err := Generate("mine-1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSecret(k.Export())
	if err != nil {
		t.Fatal(err)
	}
	other, err := Generate("mine-1")
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := NewTrusted([]string{k.Public().String(), other.Public().String()})
	if err != nil {
		t.Fatal(err)
	}
	if !trusted.Verify("text", []string{"garbage", "x:y", other.Sign("text"), again.Sign("text")}) {
		t.Error("a good signature among bad ones is not found")
	}
	if trusted.Verify("text", []string{other.Sign("text")}) {
		t.Error("of two keys with one name the second counts")
	}
	if (Trusted{}).Verify("text", []string{k.Sign("text")}) {
		t.Error("nobody is trusted, but the signature counts")
	}
	flood := make([]string, maxTried, maxTried+1)
	for i := range flood {
		flood[i] = other.Sign("text")
	}
	if trusted.Verify("text", append(flood, k.Sign("text"))) {
		t.Error("any number of signatures is computed")
	}
	if s := k.String(); s != "mine-1" {
		t.Errorf("the secret key prints as %q", s)
	}
}

func FuzzKeys(f *testing.F) {
	for _, base := range []string{"example-1.sec", "example-1.pub", "other-2.pub"} {
		f.Add(goldenFile(f, "keys/"+base))
	}
	f.Add("a:=")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParsePublic(text); err == nil {
			if again, err := ParsePublic(k.String()); err != nil || again.String() != k.String() {
				t.Errorf("%q reads as %v, %v", k, again, err)
			}
		}
		if k, err := ParseSecret(text); err == nil {
			if trusted, err := NewTrusted([]string{k.Public().String()}); err != nil || !trusted.Verify(text, []string{k.Sign(text)}) {
				t.Errorf("%q does not verify what it signs: %v", text, err)
			}
		}
	})
}

func FuzzVerify(f *testing.F) {
	all := goldenSignatures(f)
	trusted, err := NewTrusted([]string{"example-1:" + all.PublicKeys["example-1"]})
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range all.Entries {
		f.Add(e.Fingerprint, e.Sigs[0])
	}
	known := map[string]bool{}
	for _, e := range all.Entries {
		known[e.Fingerprint] = true
	}
	f.Fuzz(func(t *testing.T, fingerprint, sig string) {
		if trusted.Verify(fingerprint, []string{sig}) && !known[fingerprint] {
			t.Errorf("%q verifies %q", sig, fingerprint)
		}
	})
}
