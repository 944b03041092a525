package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"gobuild/internal/protocol"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/storepath"
)

func TestValuesSurvive(t *testing.T) {
	texts := []string{"", "a", "1234567", "12345678", "123456789", strings.Repeat("x", 100_000), "\x00\xff\n"}
	paths := []storepath.Path{pathB, pathA}
	now := time.Unix(1_700_000_000, 0)
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	w.Uint64(1<<64 - 1)
	w.Uint64(7)
	w.Bool(true)
	w.Bool(false)
	w.Texts(texts)
	w.Paths(paths)
	w.Time(now)
	w.Time(time.Time{})
	w.Seconds(1500 * time.Millisecond)
	w.Path("")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%8 != 0 {
		t.Errorf("%d bytes written", b.Len())
	}
	r := protocol.NewReader(iotest.OneByteReader(&b))
	if got := r.Uint64(); got != 1<<64-1 {
		t.Error(got)
	}
	if got := r.Int(); got != 7 {
		t.Error(got)
	}
	if !r.Bool() || r.Bool() {
		t.Error("truth values changed")
	}
	if got := r.Texts(protocol.MaxText); !slices.Equal(got, texts) {
		t.Errorf("%q", got)
	}
	if got := r.Paths(goldenDir); !slices.Equal(got, []storepath.Path{pathB, pathA}) {
		t.Errorf("%q", got)
	}
	if got := r.Time(); !got.Equal(now) {
		t.Error(got)
	}
	if got := r.Time(); !got.IsZero() {
		t.Error(got)
	}
	if got := r.Seconds(); got != 2*time.Second {
		t.Error(got)
	}
	if got := r.OptionalPath(goldenDir); got != "" || r.Err() != nil {
		t.Error(got, r.Err())
	}
	if r.Uint64(); r.Err() != io.EOF {
		t.Errorf("at the end: %v", r.Err())
	}
}

func TestTheEndInsideAValueIsAnError(t *testing.T) {
	for n, stream := range [][]byte{words(3)[:5], words("hello")[:8], words("hello")[:10], words("hello")[:14]} {
		r := protocol.NewReader(bytes.NewReader(stream))
		r.Name()
		if !errors.Is(r.Err(), io.ErrUnexpectedEOF) {
			t.Errorf("stream %d: %v", n, r.Err())
		}
	}
}

func TestClaimsCostNothing(t *testing.T) {
	for name, read := range map[string]func(r *protocol.Reader){
		"text":       func(r *protocol.Reader) { r.Text(protocol.MaxText) },
		"texts":      func(r *protocol.Reader) { r.Texts(protocol.MaxText) },
		"paths":      func(r *protocol.Reader) { r.Paths(goldenDir) },
		"result":     func(r *protocol.Reader) { r.BuildResult(true, true) },
		"derivation": func(r *protocol.Reader) { r.Derivation(goldenDir, "x") },
	} {
		for _, claim := range []int{1 << 62, protocol.MaxText, protocol.MaxList / 32} {
			r := protocol.NewReader(bytes.NewReader(words(claim, 4)))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			read(r)
			runtime.ReadMemStats(&after)
			if taken := after.TotalAlloc - before.TotalAlloc; r.Err() == nil || taken > 128<<10 {
				t.Errorf("%s claiming %d: %d bytes taken, %v", name, claim, taken, r.Err())
			}
		}
	}
}

func TestDerivationsSurvive(t *testing.T) {
	want := &drv.Derivation{
		Name:      "x",
		Outputs:   []drv.Output{{ID: "dev", Path: pathA}, {ID: "out", MethodAlgo: "r:sha256", Hash: strings.Repeat("0", 64)}},
		InputSrcs: []storepath.Path{pathB, pathA},
		Platform:  "x86_64-linux", Builder: "/bin/sh", Args: []string{"-c", ""},
		Env: []drv.EnvVar{{Name: "a", Value: "\x01"}, {Name: "b", Value: ""}},
	}
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	w.Derivation(want, []storepath.Path{pathA, pathB})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := protocol.NewReader(&b)
	got := r.Derivation(goldenDir, "x")
	if r.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, r.Err())
	}
	for name, stream := range map[string][]byte{
		"variable": words(0, 0, "", "", 0, 2, "a", "1", "a", "2"),
		"output":   words(2, "o", "", "", "", "o", "", "", "", 0, "", "", 0, 0),
	} {
		r := protocol.NewReader(bytes.NewReader(stream))
		if d := r.Derivation(goldenDir, "x"); d != nil || r.Err() == nil || !strings.Contains(r.Err().Error(), "is there twice") {
			t.Errorf("%s given twice: %v, %v", name, d, r.Err())
		}
	}
}

func TestOptionsAndInfosSurvive(t *testing.T) {
	o := protocol.BuildOptions{MaxSilentTime: time.Minute, Timeout: time.Hour, MaxLogSize: 1 << 20, Repeats: 1, Deterministic: true, KeepFailed: true}
	info := protocol.PathInfo{
		Path: pathA, Deriver: pathB, NarHash: digest.Of(digest.SHA256, []byte("x")), NarSize: 120,
		References: []storepath.Path{pathB, pathA}, Sigs: []string{"k:s"},
	}
	for minor := protocol.Version(0); minor <= 7; minor++ {
		v := 0x200 + minor
		var b bytes.Buffer
		w := protocol.NewWriter(&b)
		w.ServeBuildOptions(v, &o)
		w.ServePathInfo(v, &info)
		w.Text("")
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r := protocol.NewReader(&b)
		gotO := r.ServeBuildOptions(v)
		got, ok := r.ServePathInfo(v, goldenDir)
		if _, more := r.ServePathInfo(v, goldenDir); more || r.Err() != nil {
			t.Errorf("version %x: %v", v, r.Err())
		}
		if minor >= 4 && (!ok || !reflect.DeepEqual(got, info)) || got.Path != pathA || got.NarSize != 120 {
			t.Errorf("version %x: %+v", v, got)
		}
		if minor >= 7 && gotO != o || gotO.Timeout != time.Hour {
			t.Errorf("version %x: %+v", v, gotO)
		}
		if r.Uint64(); r.Err() != io.EOF {
			t.Errorf("version %x: something is left", v)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(words(0, "", 1, 0, 5, 6, 1, "id", "{}"))
	f.Add(words(1, "out", string(pathA), "", "", []string{string(pathB)}, "x", "/bin/sh", []string{"-c"}, 1, "a", "b"))
	f.Add(words(string(pathA), "", []string{}, 8, 8, "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", "", []string{}, ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := protocol.NewReader(bytes.NewReader(data))
		if res := r.BuildResult(true, true); r.Err() == nil {
			var b bytes.Buffer
			w := protocol.NewWriter(&b)
			w.BuildResult(&res, true, true)
			if w.Flush() != nil || b.Len() > len(data) {
				t.Errorf("%d bytes became %d", len(data), b.Len())
			}
		}
		r = protocol.NewReader(bytes.NewReader(data))
		if d := r.Derivation(goldenDir, "x"); (d == nil) != (r.Err() != nil) {
			t.Errorf("%v, %v", d, r.Err())
		}
		r = protocol.NewReader(bytes.NewReader(data))
		if info, ok := r.ServePathInfo(protocol.ServeVersion, goldenDir); ok {
			if err := storepath.CheckBase(info.Path.Base()); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzServeAnswers(f *testing.F) {
	hello := words(0x5452eecb, 0x207)
	f.Add(append(hello, words([]string{string(pathA)}, 0, "", 1, 0, 0, 0, 0)...))
	f.Add(append(hello, words(string(pathA), "", []string{}, 8, 8, "", "", []string{}, "", 1)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := protocol.NewServeClient(bytes.NewReader(data), io.Discard, goldenDir, protocol.ServeVersion)
		if err != nil {
			return
		}
		asked := []storepath.Path{pathA}
		if valid, err := c.ValidPaths(asked, protocol.ValidOptions{}); err == nil && len(valid) > 1 {
			t.Errorf("valid: %v", valid)
		}
		if infos, err := c.PathInfos(asked); err == nil && len(infos) > 1 {
			t.Errorf("infos: %v", infos)
		}
		_, _ = c.BuildDerivation(pathA, &drv.Derivation{}, nil, &protocol.BuildOptions{})
		_, _ = c.Closure(asked, true)
		_ = c.BuildPaths(nil, &protocol.BuildOptions{})
		if err := c.FinishAddNar(pathA); err == nil && c.Err() != nil {
			t.Error(c.Err())
		}
	})
}
