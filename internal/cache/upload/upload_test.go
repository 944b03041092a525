package upload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gobuild/internal/cache"
	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/narinfo"
	"gobuild/internal/store/storepath"
)

const (
	golden   = "../../../testdata/golden"
	nixStore = storepath.Dir("/nix/store")
)

// goldenPaths unpacks the store of the golden caches, each path as it was
// registered: without the signature that the caches' key makes.
func goldenPaths(t *testing.T) []wire.UploadPath {
	t.Helper()
	dir := t.TempDir()
	var paths []wire.UploadPath
	files, _ := filepath.Glob(golden + "/cache/none/*.narinfo")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := narinfo.Parse(nixStore, filepath.Base(file), text)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := os.Open(golden + "/cache/none/" + info.URL)
		if err != nil {
			t.Fatal(err)
		}
		real := filepath.Join(dir, info.Path.Base())
		if err := errors.Join(nar.Restore(archive, real), archive.Close()); err != nil {
			t.Fatal(err)
		}
		info.Sigs = slices.DeleteFunc(info.Sigs, func(s string) bool { return strings.HasPrefix(s, "example-1:") })
		paths = append(paths, wire.UploadPath{
			Path: info.Path, Real: real, NarHash: info.NarHash, NarSize: info.NarSize, References: info.References,
			Deriver: info.Deriver, Sigs: info.Sigs, CA: info.CA.String(),
		})
	}
	if len(paths) == 0 {
		t.Fatal("no vectors")
	}
	// References first; they are told by their number here.
	slices.SortStableFunc(paths, func(a, b wire.UploadPath) int { return len(a.References) - len(b.References) })
	return paths
}

// serveIt runs the job as the network program does, and returns what it says.
func serveIt(t *testing.T, req wire.Upload) []wire.UploadEvent {
	t.Helper()
	req.Version, req.StoreDir = wire.Version, string(nixStore)
	line, err := wire.Encode(req)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Serve(t.Context(), bytes.NewReader(line), &out, nil); err != nil {
		t.Fatal(err)
	}
	var events []wire.UploadEvent
	for d := json.NewDecoder(&out); ; {
		var e wire.UploadEvent
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return events
		} else if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

func failures(events []wire.UploadEvent) (texts []string) {
	for _, e := range events {
		if e.Kind == wire.UploadFailed {
			texts = append(texts, e.Text)
		}
	}
	slices.Sort(texts)
	return texts
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		files[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

const goldenKey = "&write-nar-listing=true&secret-key=" + golden + "/keys/example-1.sec"

// TestGolden writes what Nix wrote, byte for byte.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	req := wire.Upload{To: "file://" + dir + "?compression=none" + goldenKey, Paths: goldenPaths(t)}
	events := serveIt(t, req)
	if f := failures(events); f != nil {
		t.Fatal(f)
	}
	want, got := tree(t, golden+"/cache/none"), tree(t, dir)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: got %q, want %q", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d files, want %d", len(got), len(want))
	}
	var bytes, moved uint64
	for _, e := range events {
		switch e.Kind {
		case wire.UploadPlanned:
			bytes = e.Bytes
		case wire.UploadMoved:
			moved += e.Bytes
		}
	}
	if bytes == 0 || moved != bytes {
		t.Errorf("%d bytes planned, %d moved", bytes, moved)
	}

	// A second time there is nothing to do, whatever the parameters say now.
	req.To = "file://" + dir + "?compression=xz"
	events = serveIt(t, req)
	if len(events) != 1 || events[0].Kind != wire.UploadPlanned || events[0].Paths != 0 {
		t.Errorf("the second time: %+v", events)
	}
	if again := tree(t, dir); !maps.Equal(again, got) {
		t.Errorf("files were rewritten")
	}
}

// TestCompressions reads back what was compressed.
func TestCompressions(t *testing.T) {
	paths := goldenPaths(t)
	for _, c := range []struct{ method, ext string }{
		{"xz", ".xz"}, {"bzip2", ".bz2"}, {"zstd", ".zst"}, {"gzip", ""}, {"br", ".br"}, {"none", ""},
	} {
		t.Run(c.method, func(t *testing.T) {
			dir := t.TempDir()
			events := serveIt(t, wire.Upload{To: "file://" + dir + "?parallel-compression=true&compression=" + c.method, Paths: paths})
			if f := failures(events); f != nil {
				t.Fatal(f)
			}
			for _, p := range paths {
				text, err := os.ReadFile(filepath.Join(dir, narinfo.Name(p.Path)))
				if err != nil {
					t.Fatal(err)
				}
				info, err := narinfo.Parse(nixStore, narinfo.Name(p.Path), text)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(info.URL, ".nar"+c.ext) || info.Compression != c.method {
					t.Errorf("URL %s, compression %s", info.URL, info.Compression)
				}
				checkArchive(t, filepath.Join(dir, info.URL), info)
			}
		})
	}
}

func checkArchive(t *testing.T, file string, info *narinfo.Info) {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if digest.Of(digest.SHA256, packed) != info.FileHash || uint64(len(packed)) != info.FileSize {
		t.Errorf("the file of '%s' is not what its narinfo says", info.Path)
	}
	r, err := compress.NewReader(info.Compression, bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if digest.Of(digest.SHA256, archive) != info.NarHash || uint64(len(archive)) != info.NarSize {
		t.Errorf("the archive of '%s' is not what its narinfo says", info.Path)
	}
}

func TestRefusals(t *testing.T) {
	paths := goldenPaths(t)
	last := paths[len(paths)-1]
	for _, c := range []struct {
		name, params, info string
		paths              []wire.UploadPath
		want               string
	}{
		{"store", "", "StoreDir: /other\n", paths, "is for Nix stores with prefix '/other', not '/nix/store'"},
		{"method", "compression=foo", "", paths[:1], "unknown compression method 'foo'"},
		{"level", "compression-level=x", "", paths, "the parameter 'compression-level' of the cache's URL: 'x' is not a number"},
		{"flag", "write-nar-listing=maybe", "", paths, "'maybe' is neither true nor false"},
		{"key", "secret-key=/missing", "", paths, "the parameter 'secret-key' of the cache's URL: reading the secret key: open /missing"},
		{"reference", "", "", []wire.UploadPath{last}, "because the reference '" + string(last.References[0]) + "' is not there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.info != "" {
				if err := os.WriteFile(filepath.Join(dir, narinfo.CacheInfoName), []byte(c.info), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			f := failures(serveIt(t, wire.Upload{To: "file://" + dir + "?" + c.params, Paths: c.paths}))
			if len(f) == 0 || !strings.Contains(f[0], c.want) {
				t.Errorf("got %q, want %q", f, c.want)
			}
			for name := range tree(t, dir) {
				if name != narinfo.CacheInfoName {
					t.Errorf("'%s' was written", name)
				}
			}
		})
	}
	if f := failures(serveIt(t, wire.Upload{To: "ssh://host"})); len(f) != 1 || !strings.Contains(f[0], "ssh://host") {
		t.Errorf("got %q", f)
	}
	var out bytes.Buffer
	if err := Serve(t.Context(), strings.NewReader(`{"Version":99}`), &out, nil); err == nil {
		t.Error("another version is served")
	}
	events := serveIt(t, wire.Upload{To: "file://" + t.TempDir() + "?foo=1&priority=3"})
	if events[0].Kind != wire.Message || !strings.Contains(events[0].Text, "'foo'") {
		t.Errorf("got %+v", events)
	}
}

func TestLogs(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "plain")
	if err := os.WriteFile(log, []byte("a log\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	drv := storepath.Path("/nix/store/xdmc4szg3vxcn7lg6j37qg5rqqk11cm1-selfref.drv")
	events := serveIt(t, wire.Upload{To: "file://" + dir + "/cache", Logs: []wire.UploadLog{{Drv: drv, File: log}}})
	if f := failures(events); f != nil {
		t.Fatal(f)
	}
	if got := tree(t, dir+"/cache")["log/"+drv.Base()]; got != "a log\n" {
		t.Errorf("the log is %q", got)
	}
}

// A memory is a cache that remembers in which order it was written.
type memory struct {
	mu     sync.Mutex
	files  map[string]string
	order  []string
	refuse string // a name that cannot be written
}

func (m *memory) URI() string { return "memory://" }

func (m *memory) Get(_ context.Context, name string) (*cache.Body, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.files[name]
	if !ok {
		return nil, cache.ErrAbsent
	}
	return &cache.Body{ReadCloser: io.NopCloser(strings.NewReader(text)), Size: int64(len(text))}, nil
}

func (m *memory) Exists(_ context.Context, name string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.files[name]
	return ok, nil
}

func (m *memory) Put(ctx context.Context, name, _ string, body io.Reader, size int64) error {
	text, err := io.ReadAll(body)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == m.refuse {
		return fmt.Errorf("'%s' is refused", name)
	}
	if int64(len(text)) != size {
		return fmt.Errorf("'%s' has %d bytes, %d promised", name, len(text), size)
	}
	m.files[name] = string(text)
	m.order = append(m.order, name)
	return nil
}

// graph makes paths that refer to earlier ones.
func graph(t *testing.T, n int, r *rand.Rand) []wire.UploadPath {
	t.Helper()
	dir := t.TempDir()
	paths := make([]wire.UploadPath, n)
	for i := range paths {
		text := fmt.Sprintf("contents %d", i)
		p, err := nixStore.Text([]byte(text), fmt.Sprintf("p%d", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		real := filepath.Join(dir, p.Base())
		if err := os.WriteFile(real, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
		var archive bytes.Buffer
		if err := nar.Dump(&archive, real); err != nil {
			t.Fatal(err)
		}
		paths[i] = wire.UploadPath{
			Path: p, Real: real, NarHash: digest.Of(digest.SHA256, archive.Bytes()), NarSize: uint64(archive.Len()),
			References: []storepath.Path{p},
		}
		for range min(i, 3) {
			paths[i].References = append(paths[i].References, paths[r.IntN(i)].Path)
		}
		slices.Sort(paths[i].References)
		paths[i].References = slices.Compact(paths[i].References)
	}
	return paths
}

// upload runs one upload into m and returns the failures.
func (m *memory) upload(t *testing.T, req *wire.Upload) []string {
	t.Helper()
	req.StoreDir, req.Connections = string(nixStore), 8
	p, err := parseParams("x?compression=none")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	u, err := newUploader(m, req, p, &reporter{out: &out, broken: cancel})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.run(ctx); err != nil && !errors.Is(err, errReported) {
		t.Fatal(err)
	}
	var texts []string
	for line := range strings.Lines(out.String()) {
		var e wire.UploadEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == wire.UploadFailed {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// closed fails the test if the cache promises what it does not have, or did so
// for a moment.
func (m *memory) closed(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, name := range m.order {
		if strings.HasSuffix(name, narinfo.Suffix) {
			info, err := narinfo.Parse(nixStore, name, []byte(m.files[name]))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range info.References {
				if r != info.Path && !seen[narinfo.Name(r)] {
					t.Errorf("'%s' came before its reference '%s'", info.Path, r)
				}
			}
			if !seen[info.URL] {
				t.Errorf("'%s' came before its archive", info.Path)
			}
		}
		if seen[name] {
			t.Errorf("'%s' was written twice", name)
		}
		seen[name] = true
	}
}

func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		paths := graph(t, 60, r)
		m := &memory{files: map[string]string{}}
		if f := m.upload(t, &wire.Upload{Paths: paths}); f != nil {
			t.Fatal(f)
		}
		m.closed(t)
		if want := 2*len(paths) + 1; len(m.order) != want {
			t.Errorf("%d files were written, want %d", len(m.order), want)
		}
	}
}

// TestFailures breaks one path and expects that what needs it stays away, and
// with KeepGoing that all else comes.
func TestFailures(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, keepGoing := range []bool{false, true} {
		for _, broken := range []int{0, 10, 39} {
			paths := graph(t, 40, r)
			bad := paths[broken]
			if err := errors.Join(os.Remove(bad.Real), os.WriteFile(bad.Real, []byte("other"), 0o444)); err != nil {
				t.Fatal(err)
			}
			m := &memory{files: map[string]string{}}
			f := m.upload(t, &wire.Upload{Paths: paths, KeepGoing: keepGoing})
			m.closed(t)
			if len(f) == 0 || !slices.ContainsFunc(f, func(s string) bool {
				return strings.Contains(s, "hash of path '"+string(bad.Path)+"' has changed from '"+bad.NarHash.String()+"' to 'sha256:")
			}) {
				t.Errorf("got %q", f)
			}
			if keepGoing {
				checkRest(t, m, paths, bad.Path, len(f))
			}
		}
	}
}

// checkRest finds everything in the cache but what refers to bad, and told as
// failed.
func checkRest(t *testing.T, m *memory, paths []wire.UploadPath, bad storepath.Path, failed int) {
	t.Helper()
	lost := map[storepath.Path]bool{bad: true}
	for _, p := range paths {
		for _, r := range p.References {
			lost[p.Path] = lost[p.Path] || lost[r]
		}
		if _, there := m.files[narinfo.Name(p.Path)]; there == lost[p.Path] {
			t.Errorf("'%s' is there: %v", p.Path, there)
		}
		if !lost[p.Path] {
			delete(lost, p.Path)
		}
	}
	if failed != len(lost) {
		t.Errorf("%d paths failed, want %d", failed, len(lost))
	}
}

func TestCacheRefuses(t *testing.T) {
	paths := graph(t, 20, rand.New(rand.NewPCG(5, 6)))
	m := &memory{files: map[string]string{}, refuse: narinfo.Name(paths[7].Path)}
	f := m.upload(t, &wire.Upload{Paths: paths})
	m.closed(t)
	if len(f) == 0 || !slices.ContainsFunc(f, func(s string) bool { return strings.HasSuffix(s, "is refused") }) {
		t.Errorf("got %q", f)
	}
}

// brokenPipe is a main program that has gone away.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestNobodyListens(t *testing.T) {
	line, err := wire.Encode(wire.Upload{
		Config: wire.Config{Version: wire.Version, StoreDir: string(nixStore)}, To: "file://" + t.TempDir(), Paths: goldenPaths(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), bytes.NewReader(line), brokenPipe{}, nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// TestInterrupted expects a word about it, and no half of a file.
func TestInterrupted(t *testing.T) {
	line, err := wire.Encode(wire.Upload{
		Config: wire.Config{Version: wire.Version, StoreDir: string(nixStore)}, To: "file://" + t.TempDir(), Paths: goldenPaths(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := Serve(ctx, bytes.NewReader(line), &out, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"interrupted by the user"`) || strings.Contains(out.String(), wire.UploadCopied) {
		t.Errorf("it says %s", out.String())
	}
}
