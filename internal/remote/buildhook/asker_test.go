package buildhook

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/protocol"
	"gobuild/internal/store/storepath"
)

const (
	testDir  = storepath.Dir("/nix/store")
	testDrv  = storepath.Path("/nix/store/c0k6b6r6fysqq5a55lbjrg98didik67i-hello.drv")
	testPath = storepath.Path("/nix/store/1p0yc4lsjqcpykx26mkddwndd1ciqljd-hello")
)

// encoded is a stream of numbers, strings and lists of them.
func encoded(values ...any) []byte {
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	for _, v := range values {
		switch v := v.(type) {
		case int:
			w.Uint64(uint64(v))
		case string:
			w.Text(v)
		case storepath.Path:
			w.Path(v)
		case []string:
			w.Texts(v)
		case []byte:
			_, _ = w.Write(v)
		}
	}
	_ = w.Flush()
	return b.Bytes()
}

// TestRecordedRequests reads what real Nix has sent to its own hook.
func TestRecordedRequests(t *testing.T) {
	const dir = storepath.Dir("/tmp/gbproto/store")
	for _, name := range []string{"hook-nix28", "hook-nix226", "hook-decline226"} {
		data, err := os.ReadFile("../../../testdata/golden/protocol/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var recorded struct {
			Stdin []struct {
				Hex, Platform, DrvPath string
				AmWilling              int
				Outputs                []string
			} `json:"stdin_decoded"`
		}
		if err := json.Unmarshal(data, &recorded); err != nil {
			t.Fatal(err)
		}
		stream := encoded(1, "system", "x", 1, "sandbox", "", 0)
		for _, m := range recorded.Stdin[1:] {
			b, err := hex.DecodeString(m.Hex)
			if err != nil {
				t.Fatal(err)
			}
			stream = append(stream, b...)
		}
		asker := NewBinary(bytes.NewReader(stream))
		settings, err := asker.Settings()
		if err != nil || !slices.Equal(settings, []Setting{{"system", "x"}, {"sandbox", ""}}) {
			t.Errorf("%s: settings %v, %v", name, settings, err)
		}
		tried := recorded.Stdin[1]
		r, more, err := asker.next(dir)
		if err != nil || !more || r.willing != (tried.AmWilling == 1) || r.platform != tried.Platform || string(r.drv) != tried.DrvPath || len(r.features) != 0 {
			t.Errorf("%s: request %+v, %v, %v", name, r, more, err)
		}
		if len(recorded.Stdin) > 2 && recorded.Stdin[2].Outputs != nil {
			j, err := asker.job(dir)
			if err != nil || len(j.inputs) != 0 || !slices.Equal(j.outputs, recorded.Stdin[2].Outputs) {
				t.Errorf("%s: job %+v, %v", name, j, err)
			}
		}
		if _, more, err := asker.next(dir); more || err != nil {
			t.Errorf("%s: at the end: %v, %v", name, more, err)
		}
	}
}

func TestTextRequests(t *testing.T) {
	asker := NewText(strings.NewReader("0 x86_64-linux " + string(testDrv) + " \n1 i686-linux " + string(testDrv) + " kvm,big\n" +
		string(testPath) + " " + string(testDrv) + " \n" + string(testPath) + " \n"))
	want := []request{{false, "x86_64-linux", testDrv, nil}, {true, "i686-linux", testDrv, []string{"kvm", "big"}}}
	for _, w := range want {
		if r, more, err := asker.next(testDir); err != nil || !more || !reflect.DeepEqual(r, w) {
			t.Errorf("%+v, %v, %v", r, more, err)
		}
	}
	j, err := asker.job(testDir)
	if err != nil || !slices.Equal(j.inputs, []storepath.Path{testPath, testDrv}) || !slices.Equal(j.paths, []storepath.Path{testPath}) {
		t.Errorf("%+v, %v", j, err)
	}
	if _, more, err := asker.next(testDir); more || err != nil {
		t.Errorf("at the end: %v, %v", more, err)
	}
}

func TestNonsenseFromEngines(t *testing.T) {
	for name, asker := range map[string]Asker{
		"number":    NewText(strings.NewReader("2 x y z\n")),
		"no path":   NewText(strings.NewReader("1 x86_64-linux /etc/passwd kvm\n")),
		"short":     NewText(strings.NewReader("1 x86_64-linux\n")),
		"cut":       NewBinary(bytes.NewReader(encoded("try", 1, "x"))),
		"path":      NewBinary(bytes.NewReader(encoded("try", 1, "x", "/etc/passwd", []string{}))),
		"huge list": NewBinary(bytes.NewReader(encoded("try", 1, "x", testDrv, 1<<60))),
	} {
		if r, more, err := asker.next(testDir); err == nil || more {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, asker := range map[string]Asker{
		"nothing":   NewText(strings.NewReader("")),
		"half":      NewText(strings.NewReader(string(testPath) + "\n")),
		"no path":   NewText(strings.NewReader("x\ny\n")),
		"cut":       NewBinary(bytes.NewReader(encoded(1, testPath))),
		"bad paths": NewBinary(bytes.NewReader(encoded([]string{"x"}, []string{}))),
	} {
		if j, err := asker.job(testDir); err == nil {
			t.Errorf("%s: %+v", name, j)
		}
	}
	if s, err := NewBinary(bytes.NewReader(encoded(1, "a"))).Settings(); err == nil {
		t.Errorf("settings that end in the middle: %v", s)
	}
}

func FuzzAskers(f *testing.F) {
	f.Add(encoded(1, "a", "b", 0, "try", 1, "x86_64-linux", testDrv, []string{"kvm"}, []string{string(testPath)}, []string{"out"}))
	f.Add([]byte("1 x86_64-linux " + string(testDrv) + " kvm\n" + string(testPath) + " \n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := NewBinary(bytes.NewReader(data))
		if _, err := b.Settings(); err != nil {
			return
		}
		for _, asker := range []Asker{b, NewText(bytes.NewReader(data))} {
			r, more, err := asker.next(testDir)
			if more && (err != nil || storepath.CheckBase(r.drv.Base()) != nil) {
				t.Errorf("%+v, %v", r, err)
			}
			if j, err := asker.job(testDir); err == nil {
				for _, p := range j.inputs {
					if p.Dir() != testDir {
						t.Errorf("'%s' is no path of ours", p)
					}
				}
			}
		}
	})
}
