package finalise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/nar"
)

const (
	hashA = "0a1b2c3d4f5g6h7i8j9k0l1m2n3p4q5r"
	hashB = "9z8y7x6w5v4s3r2q1p0n9m8l7k6j5i4h"
	hashC = "cccccccccccccccccccccccccccccccc"
)

// scratch is a directory in memory where there is such a thing. It goes even
// if the tests leave it in a state that only fstree can delete.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "finalise")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if _, err := fstree.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode))
}

func lstat(t testing.TB, path string) (st unix.Stat_t) {
	t.Helper()
	must(t, unix.Lstat(path, &st))
	return st
}

func archive(t testing.TB, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, nar.Dump(&b, path))
	return b.Bytes()
}

func one(o Output) Request {
	o.ID, o.Name = "out", "/nix/store/"+hashA+"-x"
	return Request{Derivation: "/nix/store/" + hashC + "-x.drv", Outputs: []Output{o}}
}

func tree(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755), os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	write(t, filepath.Join(dir, "bin", "tool"), "#!/nix/store/"+hashB+"-sh\n", 0o755)
	write(t, filepath.Join(dir, "data"), strings.Repeat("x", 20000), 0o644)
	write(t, filepath.Join(dir, "odd \xff\n"), "", 0o644)
	must(t, os.Symlink("/nix/store/"+hashC+"-lib", filepath.Join(dir, "link")), os.Symlink("\x01 nowhere", filepath.Join(dir, "odd link")))
}

func TestRun(t *testing.T) {
	dir := scratch(t)
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	tree(t, src)
	want := archive(t, src)
	req := one(Output{Path: src, Dest: dst, Extra: digest.SHA1})
	req.Candidates, req.Fsync = []string{hashA, hashB, hashC}, true
	result, err := Run(req)
	must(t, err)
	got := result.Outputs[0]
	if !slices.Equal(got.References, []string{hashB, hashC}) || got.ID != "out" || got.Path != dst {
		t.Errorf("result %+v", got)
	}
	if got.NarHash != digest.Of(digest.SHA256, want) || got.NarSize != int64(len(want)) || got.Extra != digest.Of(digest.SHA1, want) {
		t.Errorf("hashes %+v", got)
	}
	if !bytes.Equal(archive(t, dst), want) {
		t.Error("another tree at the destination")
	}
	scanned, err := HashAndScan(dst, req.Candidates)
	must(t, err)
	if scanned.NarHash != got.NarHash || !slices.Equal(scanned.References, got.References) {
		t.Errorf("scanned again: %+v", scanned)
	}
	if nix, err := exec.LookPath("nix-hash"); err == nil {
		text, err := exec.Command(nix, "--type", "sha256", "--base32", dst).Output()
		must(t, err)
		if strings.TrimSpace(string(text)) != got.NarHash.Nix32() {
			t.Errorf("nix-hash says %s, we say %s", text, got.NarHash.Nix32())
		}
	} else {
		t.Log("nix-hash is not installed: not compared")
	}
}

func TestBigFilesHashTheSame(t *testing.T) {
	dir := scratch(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{0, 1, 8191, 16 << 10, 1<<20 - 300, 1 << 20, 3<<20 + 5, 9 << 20} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		if size > 100 {
			copy(data[size-40:], hashB)
		}
		for _, algo := range []digest.Algorithm{digest.MD5, digest.SHA1, digest.SHA256, digest.SHA512} {
			path := filepath.Join(dir, "f")
			write(t, path, string(data), 0o644)
			req := one(Output{Path: path, Flat: true, Extra: algo})
			req.Candidates = []string{hashB}
			result, err := Run(req)
			must(t, err)
			got := result.Outputs[0]
			if got.NarHash != digest.Of(digest.SHA256, archive(t, path)) || got.Extra != digest.Of(algo, data) || (len(got.References) == 1) != (size > 100) {
				t.Errorf("%d bytes with %s: %+v", size, algo, got)
			}
			must(t, os.Remove(path))
		}
	}
}

func TestRejectedOutputs(t *testing.T) {
	const name = "/nix/store/" + hashA + "-x"
	suspicious := "suspicious ownership or permission on '" + name + "' for output 'out'; rejecting this build output"
	flat := "output path '" + name + "' should be a non-executable regular file since recursive hashing is not enabled (outputHashMode=flat)"
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		flat bool
		want string
	}{
		{"missing", func(*testing.T, string) {}, false,
			"builder for '/nix/store/" + hashC + "-x.drv' failed to produce output path for output 'out' at '" + name + "'"},
		{"group-writable file", func(t *testing.T, p string) { write(t, p, "", 0o664) }, false, suspicious},
		{"world-writable directory", func(t *testing.T, p string) { must(t, os.Mkdir(p, 0), os.Chmod(p, 0o757)) }, false, suspicious},
		{"executable for flat", func(t *testing.T, p string) { write(t, p, "", 0o755) }, true, flat},
		{"directory for flat", func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o755)) }, true, flat},
		{"link for flat", func(t *testing.T, p string) { must(t, os.Symlink("/etc/passwd", p)) }, true, flat},
		{"pipe", func(t *testing.T, p string) { must(t, unix.Mkfifo(p, 0o644)) }, false, "file '" + name + "' has an unsupported type"},
		{"pipe below", func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o755), unix.Mkfifo(p+"/pipe", 0o644)) }, false,
			"file '" + name + "/pipe' has an unsupported type"},
		{"socket below", func(t *testing.T, p string) { must(t, os.Mkdir(p, 0o755), unix.Mknod(p+"/s", unix.S_IFSOCK|0o644, 0)) }, false,
			"file '" + name + "/s' has an unsupported type"},
	} {
		for _, fresh := range []bool{false, true} {
			dir := scratch(t)
			path := filepath.Join(dir, "src")
			c.make(t, path)
			_, err := Run(one(Output{Path: path, Dest: filepath.Join(dir, "dst"), Flat: c.flat, FreshCopy: fresh}))
			var fault *OutputError
			if !errors.As(err, &fault) || fault.Output != "out" || err.Error() != c.want {
				t.Errorf("%s (fresh copy %v): %v", c.name, fresh, err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) > 1 {
				t.Errorf("%s (fresh copy %v): left %v", c.name, fresh, entries)
			}
		}
	}
}

func TestMachineTroubleIsNobodysFault(t *testing.T) {
	dir := scratch(t)
	path := filepath.Join(dir, "src")
	write(t, path, "", 0o644)
	var fault *OutputError
	for _, req := range []Request{
		one(Output{Path: path, Dest: filepath.Join(dir, "none", "dst")}),
		one(Output{Path: path, FreshCopy: true}),
		one(Output{Path: path, Dest: path, Rewrites: map[string]string{"a": "b"}}),
		one(Output{Path: path, Extra: 99}),
		{Candidates: []string{"x"}},
	} {
		if _, err := Run(req); err == nil || errors.As(err, &fault) {
			t.Errorf("%+v: %v", req, err)
		}
	}
}

func TestDeepAndWideOutput(t *testing.T) {
	dir := scratch(t)
	src := filepath.Join(dir, "src")
	must(t, os.Mkdir(src, 0o700))
	fd, err := unix.Open(src, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range 10000 {
		must(t, unix.Mkdirat(fd, "d", 0o755), unix.Mkdirat(fd, "e", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err, unix.Fchmod(fd, 0o700), unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	for _, fresh := range []bool{false, true} {
		dst := filepath.Join(dir, fmt.Sprint("dst", fresh))
		result, err := Run(one(Output{Path: src, Dest: dst, FreshCopy: fresh}))
		must(t, err)
		again, err := HashAndScan(dst, nil)
		must(t, err)
		if again.NarHash != result.Outputs[0].NarHash {
			t.Error("another hash of the moved tree")
		}
		src = dst
	}
}

func TestFreshCopyIsOutOfReach(t *testing.T) {
	for _, samePlace := range []bool{false, true} {
		dir := scratch(t)
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		if samePlace {
			dst = src
		}
		tree(t, src)
		held, err := os.OpenFile(filepath.Join(src, "data"), os.O_WRONLY, 0)
		must(t, err)
		before := archive(t, src)
		result, err := Run(one(Output{Path: src, Dest: dst, FreshCopy: true}))
		must(t, err)
		_, err = held.WriteAt([]byte("evil"), 0)
		must(t, err, held.Close())
		if got := archive(t, dst); !bytes.Equal(got, before) || result.Outputs[0].NarHash != digest.Of(digest.SHA256, got) {
			t.Error("the copy is another tree, or its hash is")
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("left %v", entries)
		}
		if st := lstat(t, filepath.Join(dst, "data")); st.Mode&07777 != 0o444 || st.Mtim.Sec != 1 {
			t.Errorf("the copy has mode %o, time %d", st.Mode&07777, st.Mtim.Sec)
		}
	}
}

func TestRewrites(t *testing.T) {
	dir := scratch(t)
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	must(t, os.Mkdir(src, 0o755))
	long := strings.Repeat("-", 300000) + hashA + "!" + hashA + "\n"
	write(t, filepath.Join(src, hashA+"-name"), long, 0o755)
	write(t, filepath.Join(src, "5"), "", 0o644)
	must(t, os.Symlink("/nix/store/"+hashA+"-x", filepath.Join(src, "link")))
	req := one(Output{Path: src, Dest: dst, Rewrites: map[string]string{hashA: hashB}})
	req.Candidates = []string{hashA, hashB}
	result, err := Run(req)
	must(t, err)
	got := result.Outputs[0]
	if !slices.Equal(got.References, []string{hashB}) || got.NarHash != digest.Of(digest.SHA256, archive(t, dst)) {
		t.Errorf("result %+v", got)
	}
	text, err := os.ReadFile(filepath.Join(dst, hashB+"-name"))
	if err != nil || string(text) != strings.ReplaceAll(long, hashA, hashB) {
		t.Errorf("file has %d bytes, %v", len(text), err)
	}
	if target, err := os.Readlink(filepath.Join(dst, "link")); err != nil || target != "/nix/store/"+hashB+"-x" {
		t.Errorf("link to %s, %v", target, err)
	}
}

func TestSelfHashModulo(t *testing.T) {
	dir := scratch(t)
	var sums []digest.Digest
	for _, self := range []string{hashA, hashB} {
		path := filepath.Join(dir, self)
		write(t, path, "I am "+self, 0o644)
		result, err := Run(one(Output{Path: path, Extra: digest.SHA256, SelfHash: self}))
		must(t, err)
		sums = append(sums, result.Outputs[0].Extra)
	}
	if sums[0] != sums[1] {
		t.Errorf("%s and %s", sums[0], sums[1])
	}
}

func TestChildSpeaksJSON(t *testing.T) {
	path := filepath.Join(scratch(t), "f")
	write(t, path, hashB, 0o644)
	req := one(Output{Path: path, Extra: digest.MD5})
	req.Candidates = []string{hashB}
	text, err := json.Marshal(req)
	must(t, err)
	var out bytes.Buffer
	if code := serve(bytes.NewReader(text), &out); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	got, err := ReadReply(out.Bytes())
	must(t, err)
	want, err := Run(req)
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(want) || !got.Outputs[0].Extra.IsSet() {
		t.Errorf("got %v, want %v", got, want)
	}

	req.Outputs[0].Path += "none"
	text, err = json.Marshal(req)
	must(t, err)
	out.Reset()
	code := serve(bytes.NewReader(text), &out)
	_, err = ReadReply(out.Bytes())
	var fault *OutputError
	if code != 1 || !errors.As(err, &fault) || fault.Output != "out" || !strings.HasPrefix(err.Error(), "builder for ") {
		t.Errorf("exit code %d, error %v", code, err)
	}

	out.Reset()
	code = serve(strings.NewReader("{"), &out)
	if _, err = ReadReply(out.Bytes()); code != 1 || err == nil || !strings.HasPrefix(err.Error(), "reading the request") {
		t.Errorf("exit code %d, error %v", code, err)
	}
	if _, err := ReadReply(nil); err == nil {
		t.Error("no reply is a good reply")
	}
}

func TestSmall(t *testing.T) {
	dir := filepath.Join(scratch(t), "d")
	tree(t, dir)
	if !Small(dir, 20, 1<<20) || Small(dir, 3, 1<<20) || Small(dir, 20, 1000) {
		t.Error("wrong measure")
	}
}

// TestWithoutPrivileges runs the other tests again as nobody.
func TestWithoutPrivileges(t *testing.T) {
	if os.Getenv("FINALISE_UNPRIVILEGED") != "" {
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("is not root, so the other tests have been without privileges")
	}
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	dir := scratch(t)
	must(t, os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "test"), self, 0o755))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777))
	r, w, err := os.Pipe()
	must(t, err)
	p, err := os.StartProcess(filepath.Join(dir, "test"), []string{"test", "-test.short"}, &os.ProcAttr{
		Dir: tmp, Env: []string{"FINALISE_UNPRIVILEGED=1", "TMPDIR=" + tmp}, Files: []*os.File{nil, w, w},
		Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
	})
	must(t, err, w.Close())
	output, err := io.ReadAll(r)
	must(t, err)
	if state, err := p.Wait(); err != nil || !state.Success() {
		t.Errorf("as nobody: %v, %v\n%s", state, err, output)
	}
}
