package protocol_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/protocol"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

const goldenDir = storepath.Dir("/tmp/gbproto/store")

// A recording is a file of testdata/golden/protocol.
type recording struct {
	Title       string
	Connections []struct {
		Client  string `json:"client_to_server"`
		Server  string `json:"server_to_client"`
		Decoded []message
	}
}

type message struct {
	Dir, What string
	Fields    [][2]any
	Hex       string
}

// all gives the values of the fields of that name.
func (m *message) all(name string) []any {
	var out []any
	for _, f := range m.Fields {
		if f[0] == name {
			out = append(out, f[1])
		}
	}
	return out
}

func (m *message) text(name string) string {
	if vs := m.all(name); len(vs) > 0 {
		return fmt.Sprint(vs[0])
	}
	return ""
}

func (m *message) number(name string) uint64 { return uint64(m.all(name)[0].(float64)) }

func (m *message) texts(name string) []string {
	var out []string
	for _, v := range m.all(name)[0].([]any) {
		out = append(out, v.(string))
	}
	return out
}

func (m *message) paths(name string) []storepath.Path {
	var out []storepath.Path
	for _, s := range m.texts(name) {
		out = append(out, storepath.Path(s))
	}
	return out
}

func recordings(t *testing.T, pattern string) []recording {
	t.Helper()
	names, _ := filepath.Glob("../../testdata/golden/protocol/" + pattern)
	if len(names) == 0 {
		t.Fatalf("there are no recordings '%s'", pattern)
	}
	var all []recording
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var r recording
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, r)
	}
	return all
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecordedSessions has the client say what real clients said, byte for
// byte, and understand what real servers answered.
func TestRecordedSessions(t *testing.T) {
	for _, r := range recordings(t, "*serve.json") {
		for i, conn := range r.Connections {
			t.Run(fmt.Sprintf("%s/%d", r.Title, i), func(t *testing.T) {
				var sent bytes.Buffer
				answers := bytes.NewReader(unhex(t, conn.Server))
				c, err := protocol.NewServeClient(answers, &sent, goldenDir, protocol.Version(conn.Decoded[0].number("client version")))
				if err != nil {
					t.Fatal(err)
				}
				for j := 2; j+1 < len(conn.Decoded); j += 2 {
					replay(t, c, &conn.Decoded[j], &conn.Decoded[j+1])
				}
				if err := c.Err(); err != nil {
					t.Error(err)
				}
				if want := unhex(t, conn.Client); !bytes.Equal(sent.Bytes(), want) {
					t.Errorf("sent\n%x, want\n%x", sent.Bytes(), want)
				}
				if _, err := c.ValidPaths(nil, protocol.ValidOptions{}); !errors.Is(err, io.EOF) {
					t.Errorf("at the end of the recording: %v", err)
				}
			})
		}
	}
}

func replay(t *testing.T, c *protocol.ServeClient, req, rep *message) {
	t.Helper()
	switch req.What {
	case "QueryValidPaths":
		got, err := c.ValidPaths(req.paths("paths"), protocol.ValidOptions{Lock: req.number("lock") == 1, Substitute: req.number("substitute") == 1})
		if err != nil || !slices.Equal(got, rep.paths("valid")) {
			t.Errorf("valid: %v, %v", got, err)
		}
	case "QueryPathInfos":
		got, err := c.PathInfos(req.paths("paths"))
		if err != nil {
			t.Error(err)
		}
		checkInfos(t, got, rep)
	case "DumpStorePath":
		var b bytes.Buffer
		err := c.DumpPath(storepath.Path(req.text("path")), func(r *protocol.Reader) error { return nar.Skip(io.TeeReader(r, &b)) })
		if err != nil || hex.EncodeToString(b.Bytes()) != rep.Hex {
			t.Errorf("archive %x, %v", b.Bytes(), err)
		}
	case "AddToStoreNar":
		replayAdd(t, c, req)
	case "BuildDerivation":
		replayBuild(t, c, req, rep)
	default:
		t.Errorf("no test for %s", req.What)
	}
}

func checkInfos(t *testing.T, got []protocol.PathInfo, rep *message) {
	t.Helper()
	names := rep.all("path") // the last is the empty one at the end
	if len(got) != len(names)-1 {
		t.Fatalf("%d infos, want %d", len(got), len(names)-1)
	}
	for i, info := range got {
		if string(info.Path) != names[i] || string(info.Deriver) != rep.all("deriver")[i] ||
			info.NarHash.String() != rep.all("narHash")[i] || float64(info.NarSize) != rep.all("narSize")[i] {
			t.Errorf("info %+v of %v", info, rep.Fields)
		}
	}
}

func replayAdd(t *testing.T, c *protocol.ServeClient, req *message) {
	t.Helper()
	hash, err := digest.ParseHex(digest.SHA256, req.text("narHash"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := storepath.ParseContentAddress(req.text("ca"))
	if err != nil {
		t.Fatal(err)
	}
	info := protocol.PathInfo{
		Path: storepath.Path(req.text("path")), Deriver: storepath.Path(req.text("deriver")), NarHash: hash,
		NarSize: req.number("narSize"), References: req.paths("references"), Sigs: req.texts("sigs"), CA: ca,
		Ultimate: req.number("ultimate") == 1,
	}
	if at := req.number("registrationTime"); at != 0 {
		info.Registered = time.Unix(int64(at), 0)
	}
	whole := unhex(t, req.Hex)
	archive := whole[uint64(len(whole))-info.NarSize:]
	err = c.StartAddNar(&info, func(w *protocol.Writer) error {
		_, err := w.Write(archive)
		return err
	})
	if err == nil {
		err = c.Flush()
	}
	if err == nil {
		err = c.FinishAddNar(info.Path)
	}
	if err != nil {
		t.Error(err)
	}
}

func replayBuild(t *testing.T, c *protocol.ServeClient, req, rep *message) {
	t.Helper()
	d := &drv.Derivation{Name: "hello", Platform: req.text("platform"), Builder: req.text("builder"), Args: req.texts("args")}
	outPaths := req.all("path")
	for i, id := range req.all("name") {
		d.Outputs = append(d.Outputs, drv.Output{ID: id.(string), Path: storepath.Path(outPaths[i].(string))})
	}
	values := req.all("value")
	for i, k := range req.all("key") {
		d.Env = append(d.Env, drv.EnvVar{Name: k.(string), Value: values[i].(string)})
	}
	o := protocol.BuildOptions{Deterministic: req.number("enforceDeterminism") == 1, KeepFailed: req.number("keepFailed") == 1}
	res, err := c.BuildDerivation(storepath.Path(req.text("drvPath")), d, req.paths("inputSrcs"), &o)
	if err != nil || uint64(res.Status) != rep.number("status") || !res.Status.Success() ||
		uint64(res.Start.Unix()) != rep.number("startTime") || len(res.Outputs) != 1 || res.Outputs[0].ID != rep.text("id") ||
		res.Outputs[0].Realisation != rep.text("realisation") {
		t.Errorf("result %+v, %v", res, err)
	}
}

// words is a stream of numbers and strings in the protocol's encoding.
func words(values ...any) []byte {
	var b bytes.Buffer
	w := protocol.NewWriter(&b)
	for _, v := range values {
		switch v := v.(type) {
		case int:
			w.Uint64(uint64(v))
		case string:
			w.Text(v)
		case []string:
			w.Texts(v)
		}
	}
	_ = w.Flush()
	return b.Bytes()
}

const (
	pathA = storepath.Path(goldenDir + "/c0k6b6r6fysqq5a55lbjrg98didik67i-a")
	pathB = storepath.Path(goldenDir + "/1p0yc4lsjqcpykx26mkddwndd1ciqljd-b")
)

func TestGreeting(t *testing.T) {
	for _, test := range []struct {
		name, want string
		says       []byte
		version    protocol.Version
	}{
		{"older", "", words(0x5452eecb, 0x202), 0x202},
		{"newer", "", words(0x5452eecb, 0x2ff), 0x207},
		{"nothing", "starting to talk: the other side has ended", nil, 0},
		{"a shell's greeting", `starting to talk: bad message: protocol mismatch, got "Welcome "; a login shell that prints something would cause that`,
			[]byte("Welcome to machine\n"), 0},
		{"another major", "starting to talk: bad message: unsupported version 3.0 of the serve protocol", words(0x5452eecb, 0x300), 0},
		{"cut", "starting to talk: unexpected EOF", words(0x5452eecb, 0x207)[:12], 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := protocol.NewServeClient(bytes.NewReader(test.says), io.Discard, goldenDir, protocol.ServeVersion)
			var lost *protocol.LostError
			switch {
			case test.want == "" && (err != nil || c.Version() != test.version):
				t.Errorf("%v", err)
			case test.want != "" && (err == nil || err.Error() != test.want || !errors.As(err, &lost)):
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

// lies are answers that a client must not believe.
func TestLies(t *testing.T) {
	ask := func(c *protocol.ServeClient) error {
		_, err := c.ValidPaths([]storepath.Path{pathA}, protocol.ValidOptions{})
		return err
	}
	infos := func(c *protocol.ServeClient) error {
		_, err := c.PathInfos([]storepath.Path{pathA, pathB})
		return err
	}
	add := func(c *protocol.ServeClient) error { return c.FinishAddNar(pathA) }
	info := func(p storepath.Path, hash string) []any {
		return []any{string(p), "", []string{}, 8, 8, hash, "", []string{}}
	}
	hash := digest.Of(digest.SHA256, nil).String()
	for _, test := range []struct {
		name, want string
		call       func(*protocol.ServeClient) error
		says       []byte
	}{
		{"not asked for", "an answer about", ask, words([]string{string(pathB)})},
		{"no path", "not a store path", ask, words([]string{"/etc/passwd"})},
		{"escaping path", "not a store path", ask, words([]string{string(goldenDir) + "/../x"})},
		{"huge list", "a list of 1152921504606846976 elements is too long", ask, words(1 << 60)},
		{"huge string", "a string of 4611686018427387904 bytes is too long", ask, words(1, 1<<62)},
		{"padding", "non-zero padding", ask, append(words(1, 1), 'a', 0, 0, 0, 0, 0, 0, 1)},
		{"cut in a list", "unexpected EOF", ask, words(1)},
		{"twice", "two answers", infos, words(append(append(info(pathA, hash), info(pathA, hash)...), "")...)},
		{"too many", "more answers than questions", infos, words(slices.Concat(info(pathA, hash), info(pathB, hash), info(pathA, hash), []any{""})...)},
		{"bad hash", "wrong length", infos, words(append(info(pathA, "sha256:00"), "")...)},
		{"wrong hash", "should have type", infos, words(append(info(pathA, "md5:d41d8cd98f00b204e9800998ecf8427e"), "")...)},
		{"cut after an info", "the other side has ended", infos, words(info(pathA, hash)...)},
		{"no confirmation", "0 instead of a confirmation", add, words(0)},
	} {
		t.Run(test.name, func(t *testing.T) {
			says := append(words(0x5452eecb, 0x207), test.says...)
			c, err := protocol.NewServeClient(bytes.NewReader(says), io.Discard, goldenDir, protocol.ServeVersion)
			if err != nil {
				t.Fatal(err)
			}
			err = test.call(c)
			var lost *protocol.LostError
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.As(err, &lost) {
				t.Errorf("error %v, want '%s'", err, test.want)
			}
			if again := test.call(c); again == nil {
				t.Error("the client goes on after a lie")
			}
		})
	}
}

func TestFailuresOfBuilds(t *testing.T) {
	says := append(words(0x5452eecb, 0x207), words(100, "it does not compile", 0)...)
	c, err := protocol.NewServeClient(bytes.NewReader(says), io.Discard, goldenDir, protocol.ServeVersion)
	if err != nil {
		t.Fatal(err)
	}
	err = c.BuildPaths([]string{string(pathA)}, &protocol.BuildOptions{})
	var failed *protocol.RemoteBuildError
	if !errors.As(err, &failed) || failed.Status != 100 || failed.Message != "it does not compile" {
		t.Errorf("%v", err)
	}
	if err := c.BuildPaths([]string{string(pathA)}, &protocol.BuildOptions{}); err != nil {
		t.Errorf("a connection of no more use: %v", err)
	}
}

func TestOldServers(t *testing.T) {
	c, err := protocol.NewServeClient(bytes.NewReader(words(0x5452eecb, 0x200)), io.Discard, goldenDir, protocol.ServeVersion)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.BuildDerivation(pathA, &drv.Derivation{}, nil, &protocol.BuildOptions{}); !errors.Is(err, protocol.ErrTooOld) {
		t.Errorf("%v", err)
	}
	if c.HasNars() {
		t.Error("version 2.0 knows archives")
	}
}

func TestErrorsOfTheCaller(t *testing.T) {
	mine := errors.New("the disk is full")
	says := append(words(0x5452eecb, 0x207), words(1, 2, 3)...)
	for name, call := range map[string]func(c *protocol.ServeClient) error{
		"receiving": func(c *protocol.ServeClient) error {
			return c.DumpPath(pathA, func(*protocol.Reader) error { return mine })
		},
		"exporting": func(c *protocol.ServeClient) error {
			return c.ExportPaths([]storepath.Path{pathA}, func(*protocol.Reader) error { return mine })
		},
		"importing": func(c *protocol.ServeClient) error {
			return c.ImportPaths(func(*protocol.Writer) error { return mine })
		},
		"adding": func(c *protocol.ServeClient) error {
			return c.StartAddNar(&protocol.PathInfo{Path: pathA}, func(*protocol.Writer) error { return mine })
		},
	} {
		c, err := protocol.NewServeClient(bytes.NewReader(says), io.Discard, goldenDir, protocol.ServeVersion)
		if err != nil {
			t.Fatal(err)
		}
		var lost *protocol.LostError
		if err := call(c); !errors.Is(err, mine) || errors.As(err, &lost) {
			t.Errorf("%s: %v", name, err)
		}
		if c.Err() == nil {
			t.Errorf("%s: the connection is still believed in", name)
		}
	}
}
