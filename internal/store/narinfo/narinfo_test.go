package narinfo

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

const (
	golden   = "../../../testdata/golden"
	nixStore = storepath.Dir("/nix/store")
	asked    = "hwa8ib7d5q3yhm02mm8prwsy4x951p77.narinfo" // what the bad files pretend to be
)

func goldenFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stricter lists the vectors that Nix accepts and this package refuses, with
// what it says.
var stricter = map[string]string{
	"narhash-sha1":         "NarHash is not a SHA-256 hash",
	"storepath-other-path": "it is about path '/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple'",
	"storepath-twice":      "it is about path '/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple'",
	"url-absolute":         `URL "file:///etc/passwd" is not relative to the cache`,
	"url-dotdot":           `URL "../../x.nar" leads out of the cache`,
}

// otherWords lists the vectors that both refuse, for what is seen first here.
var otherWords = map[string]string{
	"blank-line": "expecting ':' at line 6",
	"crlf":       "store path 'hwa8ib7d5q3yhm02mm8prwsy4x951p77-selfref\r' contains illegal character '\r' at line 1",

	"storepath-relative":    "path 'hwa8ib7d5q3yhm02mm8prwsy4x951p77-selfref' is not in the Nix store at line 1",
	"storepath-other-store": "path '/other/store/hwa8ib7d5q3yhm02mm8prwsy4x951p77-selfref' is not in the Nix store at line 1",
	"references-full-path":  "store path '/nix/store/94f9f6i31zwzwbf0kclq1naqxxi4c7v9-simple' contains illegal base-32 character '/' at line 8",
	"references-bad":        "'foo' is too short to be a valid store path at line 8",
	"deriver-full-path":     "store path '/nix/store/xdmc4szg3vxcn7lg6j37qg5rqqk11cm1-selfref.drv' contains illegal base-32 character '/' at line 9",
	"deriver-empty":         "'' is too short to be a valid store path at line 9",
	"narhash-no-prefix":     "bad hash: hash '0bq8mrv3n8y6xgppwmglpl29iik4i7q82lzpdb845q52ybgpcixp' does not include a type, nor is the type otherwise known from context at line 6",
	"narhash-bad":           "bad hash: hash 'zzz' has wrong length for hash algorithm 'sha256' at line 6",
	"narhash-unknown-algo":  "bad hash: unknown hash algorithm 'sha3', expect 'md5', 'sha1', 'sha256', or 'sha512' at line 6",
	"ca-bad-prefix":         "content address prefix 'foo' is unrecognized. Recogonized prefixes are 'text' or 'fixed' at line 12",
}

// A verdict is what one version of Nix made of a file: text, or a description.
type verdict struct {
	refused string
	info    nixInfo
}

type nixInfo struct {
	CA, Deriver, NarHash, URL, DownloadHash string
	NarSize, DownloadSize                   uint64
	References, Signatures                  []string
}

func (v *verdict) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &v.refused) == nil {
		return nil
	}
	var a struct{ Accepted map[string]nixInfo }
	err := json.Unmarshal(b, &a)
	for _, v.info = range a.Accepted {
	}
	return err
}

func TestGoldenBad(t *testing.T) {
	var all map[string]struct {
		File string
		Nix  verdict `json:"nix-2.26.3"`
	}
	if err := json.Unmarshal(goldenFile(t, "narinfo-bad.json"), &all); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v := all[name]
		t.Run(name, func(t *testing.T) {
			info, err := Parse(nixStore, asked, goldenFile(t, v.File))
			want := stricter[name]
			if want == "" {
				want = otherWords[name]
			}
			if want != "" {
				want = "NAR info file '" + asked + "' is corrupt: " + want
			} else {
				want = strings.TrimPrefix(v.Nix.refused, "rc 1: error: ")
			}
			switch {
			case err == nil && want != "":
				t.Errorf("accepted, want: %s", want)
			case err != nil && err.Error() != want:
				t.Errorf("got  %v\nwant %s", err, want)
			case err == nil:
				compare(t, info, v.Nix.info)
			}
		})
	}
}

// compare holds what was read to what Nix read.
func compare(t *testing.T, info *Info, want nixInfo) {
	t.Helper()
	got := nixInfo{
		CA: info.CA.String(), Deriver: string(info.Deriver), NarHash: info.NarHash.SRI(), URL: info.URL,
		NarSize: info.NarSize, DownloadSize: info.FileSize, Signatures: info.Sigs,
	}
	if info.FileHash.IsSet() {
		got.DownloadHash = info.FileHash.SRI()
	}
	for _, r := range info.References {
		got.References = append(got.References, string(r))
	}
	want.References = slices.Concat(want.References) // nil if empty, as in got
	want.Signatures = slices.Concat(want.Signatures)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func goldenCaches(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(golden + "/cache/*/*.narinfo")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	return files
}

func TestRoundTrip(t *testing.T) {
	for _, file := range goldenCaches(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := Parse(nixStore, filepath.Base(file), text)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if got := info.Append(nil); string(got) != string(text) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, got, text)
		}
		if Name(info.Path) != filepath.Base(file) {
			t.Errorf("%s: would be written as '%s'", file, Name(info.Path))
		}
	}
}

// TestStrict is what no vector shows.
func TestStrict(t *testing.T) {
	good := string(goldenFile(t, "narinfo-bad/good.narinfo"))
	for _, c := range []struct{ line, want string }{
		{"Sig: two words", `malformed signature "two words" at line 12`},
		{"Sig: ", `malformed signature "" at line 12`},
		{"Sig:", `expecting ' ' at line 12`},
		{"URL: /nar/x", `URL "/nar/x" is not relative to the cache`},
		{"URL: \\\\host\\x", `URL "\\\\host\\x" is not relative to the cache`},
		{"URL: //host/x", `URL "//host/x" is not relative to the cache`},
		{"URL: http://host/x", `URL "http://host/x" is not relative to the cache`},
		{"URL: x:y", `URL "x:y" is not relative to the cache`},
		{"URL: nar/../../x", `URL "nar/../../x" leads out of the cache`},
		{"URL: nar/..", `URL "nar/.." leads out of the cache`},
		{"URL: nar/..?x", `URL "nar/..?x" leads out of the cache`},
		{"URL: nar/a b", `URL "nar/a b" has illegal characters`},
		{"URL: nar/\x00", `URL "nar/\x00" has illegal characters`},
		{"URL: nar/x..y/a:b.nar?hash=1", ""},
		{"FileHash: sha512:xx", "bad hash: hash 'xx' has wrong length for hash algorithm 'sha512' at line 12"},
		{"NarSize: +5", "invalid NarSize at line 12"},
		{"FileSize: ", "invalid FileSize at line 12"},
	} {
		_, err := Parse(nixStore, asked, []byte(good+c.line+"\n"))
		want := "NAR info file '" + asked + "' is corrupt: " + c.want
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: got %v, want %s", c.line, err, c.want)
		}
	}
	if _, err := Parse("/other", asked, []byte(good)); err == nil {
		t.Error("a path of another store is accepted")
	}
}

func TestCacheInfo(t *testing.T) {
	for _, c := range []struct {
		text string
		want CacheInfo
	}{
		{"", CacheInfo{Priority: 50}},
		{"StoreDir: /nix/store\n", CacheInfo{StoreDir: "/nix/store", Priority: 50}},
		{"StoreDir:/a \r\nWantMassQuery: 1\nPriority:  40\n", CacheInfo{"/a", true, 40}},
		{"junk\nOther: x\nWantMassQuery: yes\nPriority: much\nStoreDir: /b", CacheInfo{StoreDir: "/b", Priority: 50}},
		{"Priority: -1\nWantMassQuery: 1\nWantMassQuery: 0", CacheInfo{Priority: -1}},
		{"Priority: 99999999999999999999", CacheInfo{Priority: 50}},
	} {
		if got := ParseCacheInfo([]byte(c.text)); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.text, got, c.want)
		}
	}
	files, _ := filepath.Glob(golden + "/cache/*/" + CacheInfoName)
	if len(files) == 0 {
		t.Fatal("no vectors")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := ParseCacheInfo(text).Append(nil); string(got) != string(text) {
			t.Errorf("%s: got %q, want %q", file, got, text)
		}
	}
	all := CacheInfo{"/x", true, 7}
	if got := ParseCacheInfo(all.Append(nil)); got != all {
		t.Errorf("got %+v, want %+v", got, all)
	}
}

func FuzzParse(f *testing.F) {
	bad, _ := filepath.Glob(golden + "/narinfo-bad/*")
	for _, file := range append(bad, goldenCaches(f)...) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := Parse(nixStore, asked, text)
		if err != nil {
			return
		}
		if info.Path.HashPart()+Suffix != asked || info.NarHash.Algorithm() != digest.SHA256 || info.NarSize == 0 ||
			strings.Contains("/"+info.URL+"/", "/../") || strings.HasPrefix(info.URL, "/") {
			t.Errorf("accepted %+v", info)
		}
		again, err := Parse(nixStore, asked, info.Append(nil))
		if err != nil || !reflect.DeepEqual(info, again) {
			t.Errorf("%+v reads as %+v, %v", info, again, err)
		}
	})
}

func FuzzCacheInfo(f *testing.F) {
	f.Add([]byte("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		info := ParseCacheInfo(text)
		if got := ParseCacheInfo(info.Append(nil)); got != info {
			t.Errorf("%+v reads as %+v", info, got)
		}
	})
}
