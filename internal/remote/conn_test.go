package remote_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/protocol"
	"gobuild/internal/remote"
	"gobuild/internal/remote/sshtest"
	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/storepath"
)

// scratch makes a directory, in memory if it can, for stores.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "remote-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _, _ = fstree.RemoveAll(dir) })
	return dir
}

// twoStores makes a store and the address of another one for real Nix, with the
// same store directory. The far one really lies there, for its builders work
// without a sandbox.
func twoStores(t testing.TB) (near *store.Store, far string) {
	t.Helper()
	dir, root := scratch(t), scratch(t)
	near, err := store.Open(store.Config{
		Dir: storepath.Dir(dir + "/store"), RealDir: root + "/store", StateDir: root + "/var", WAL: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near, "local?store=" + dir + "/store&state=" + dir + "/var&log=" + dir + "/log"
}

// needNix skips a test without real Nix for the far side, and makes its
// configuration.
func needNix(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("nix-store"); err != nil {
		if os.Getenv(sshtest.RequireVar) == "1" {
			t.Fatal("nix-store is not installed")
		}
		t.Skip("skipped: nix-store is not installed")
	}
	conf := t.TempDir()
	text := "sandbox = false\nbuild-users-group =\nsubstituters =\nbuilders =\n"
	if err := os.WriteFile(conf+"/nix.conf", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NIX_CONF_DIR", conf)
	t.Setenv("NIX_USER_CONF_FILES", "")
	t.Setenv("HOME", conf)
}

func dialing(dir storepath.Dir) *remote.Dialing {
	return &remote.Dialing{Dir: dir, Env: os.Environ(), Patience: time.Minute}
}

// logged collects what the far side says.
type logged struct{ bytes.Buffer }

// aTree adds a tree of some size that refers to refs.
func aTree(t testing.TB, s *store.Store, name string, refs ...storepath.Path) storepath.Path {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/big", bytes.Repeat([]byte(name), 100_000), 0o755), os.Symlink("big", dir+"/link"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.AddTree(store.Addition{Name: name, Method: storepath.NAR, Algorithm: digest.SHA256, References: refs}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// aBuild is a derivation that copies a file of its input and refers to that.
func aBuild(t testing.TB, s *store.Store, script string, inputs ...storepath.Path) (storepath.Path, *drv.Derivation) {
	t.Helper()
	d := &drv.Derivation{
		Name: "built", Platform: "x86_64-linux", Builder: "/bin/sh", Args: []string{"-c", script}, InputSrcs: slices.Sorted(slices.Values(inputs)),
		Outputs: []drv.Output{{ID: "doc"}, {ID: "out"}}, Env: []drv.EnvVar{{Name: "doc"}, {Name: "out"}},
	}
	if err := d.FillOutputs(s.Dir(), drv.NewHasher(s.Derivation)); err != nil {
		t.Fatal(err)
	}
	p, err := s.AddDerivation(d)
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

// TestAgainstNix builds in the store of a real nix-store.
func TestAgainstNix(t *testing.T) {
	needNix(t)
	near, far := twoStores(t)
	c, err := remote.Dial(&remote.Machine{URI: far}, dialing(near.Dir()))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, near)
}

// TestOldVersions moves paths as real Nix did when it was younger.
func TestOldVersions(t *testing.T) {
	needNix(t)
	for _, version := range []protocol.Version{0x204, 0x202} {
		t.Run(fmt.Sprintf("%x", uint64(version)), func(t *testing.T) {
			near, far := twoStores(t)
			d := dialing(near.Dir())
			d.Offer = version
			c, err := remote.Dial(&remote.Machine{URI: far}, d)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Version() != version {
				t.Errorf("version %x", uint64(c.Version()))
			}
			one := aTree(t, near, "one")
			two := aTree(t, near, "two", one)
			told := func(storepath.Path) {}
			if err := c.Upload(near, []storepath.Path{one, two}, false, told); err != nil {
				t.Fatal(err)
			}
			if err := near.Invalidate(two, one); err != nil {
				t.Fatal(err)
			}
			wanted := []remote.Wanted{{Path: two}, {Path: one}}
			slices.SortFunc(wanted, func(a, b remote.Wanted) int { return strings.Compare(string(a.Path), string(b.Path)) })
			if err := c.Download(near, wanted, told); err != nil {
				t.Fatal(err)
			}
			info, err := near.Info(two)
			if err != nil || !slices.Equal(info.References, []storepath.Path{one}) {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
}

func roundTrip(t *testing.T, c *remote.Conn, near *store.Store) {
	t.Helper()
	one := aTree(t, near, "one")
	two := aTree(t, near, "two", one)
	p, derivation := aBuild(t, near, "echo to the log >&2; read x <"+string(two)+"/link; echo $x "+string(two)+" >$doc; echo $doc >$out", one, two)
	var moved []storepath.Path
	told := func(p storepath.Path) { moved = append(moved, p) }
	closure, err := near.Closure(two)
	if err != nil {
		t.Fatal(err)
	}
	for round, want := range [][]storepath.Path{{one, two}, nil} {
		moved = nil
		if err := c.Upload(near, closure, false, told); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(moved, want) {
			t.Errorf("round %d: moved %v", round, moved)
		}
	}
	var log logged
	c.Forward(&log)
	res, err := c.BuildDerivation(p, derivation, closure, &protocol.BuildOptions{})
	if err != nil || res.Status != protocol.Built {
		t.Fatalf("%+v, %v", res, err)
	}
	var wanted []remote.Wanted
	for _, o := range derivation.Outputs {
		wanted = append(wanted, remote.Wanted{Path: o.Path, Deriver: p})
	}
	moved = nil
	slices.Reverse(wanted) // the order is not the caller's task
	if err := c.Download(near, wanted, told); err != nil {
		t.Fatal(err)
	}
	if len(moved) != 2 {
		t.Errorf("moved %v", moved)
	}
	doc, out := derivation.Outputs[0].Path, derivation.Outputs[1].Path
	for path, refs := range map[storepath.Path][]storepath.Path{doc: {two}, out: {doc}} {
		info, err := near.Info(path)
		if err != nil || !slices.Equal(info.References, refs) || info.Deriver != p || info.Ultimate {
			t.Errorf("%+v, %v", info, err)
		}
		if good, err := near.ContentsGood(path); err != nil || !good {
			t.Errorf("contents of '%s': %v, %v", path, good, err)
		}
	}
	c.Close()
	if log.String() != "to the log\n" {
		t.Errorf("log %q", log.String())
	}
}

func TestOverSSH(t *testing.T) {
	needNix(t)
	near, far := twoStores(t)
	server, err := sshtest.Start(t.TempDir(), "NIX_CONF_DIR="+os.Getenv("NIX_CONF_DIR"), "NIX_USER_CONF_FILES=", "PATH="+os.Getenv("PATH"))
	if errors.Is(err, sshtest.ErrMissing) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	m := &remote.Machine{
		URI: "ssh://" + sshtest.User() + "@127.0.0.1:" + server.Port + "?remote-store=" + url.QueryEscape(far),
		Key: server.Key, HostKey: server.HostKey,
	}
	d := dialing(near.Dir())
	d.SSH.Options = []string{"-F", "none"}
	c, err := remote.Dial(m, d)
	if err != nil {
		t.Fatalf("%v\n%s", err, server.Log())
	}
	roundTrip(t, c, near)

	t.Run("broken", func(t *testing.T) {
		c, err := remote.Dial(m, d)
		if err != nil {
			t.Fatal(err)
		}
		server.Break()
		_, err = c.ValidPaths(nil, protocol.ValidOptions{})
		var lost *protocol.LostError
		if !errors.As(err, &lost) {
			t.Fatalf("%v", err)
		}
		if err := c.Explain(err); !errors.As(err, &lost) || !strings.Contains(err.Error(), "the other side has ended: ") {
			t.Errorf("%v", err)
		}
	})
	t.Run("another key", func(t *testing.T) {
		other := *m
		other.HostKey = "c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUwrL2pOVlVkRXNGVDVvQ1B3bnNFbFIzSWxLQkp0NXFzRFZ4L1dYUTVPZFc="
		if _, err := remote.Dial(&other, d); err == nil || !strings.Contains(err.Error(), "Host key verification failed") {
			t.Errorf("%v", err)
		}
	})
}

// script is a machine that a shell script plays.
func script(text string) *remote.Machine {
	command := "/bin/sh -c " + strings.ReplaceAll(text, " ", "${IFS}")
	return &remote.Machine{URI: "ssh://h?transport=" + strings.ReplaceAll(url.QueryEscape(command), "+", "%20")}
}

func TestUnreachable(t *testing.T) {
	for name, test := range map[string]struct {
		m    *remote.Machine
		want []string
	}{
		"no ssh server":  {&remote.Machine{URI: "ssh://127.0.0.1:1"}, []string{"starting to talk", "port 1: Connection refused"}},
		"no program":     {&remote.Machine{URI: "ssh://h?transport=/no/such/program"}, []string{"starting '/no/such/program'", "no such file"}},
		"says why":       {script("echo sorry >&2;exit 3"), []string{"the other side has ended: sorry"}},
		"a greeting":     {script("echo Welcome_to_this_machine"), []string{"protocol mismatch", "a login shell"}},
		"no answer":      {script("exec sleep 1000"), []string{"there was no answer for 100ms"}},
		"bad address":    {&remote.Machine{URI: "ssh://-x"}, []string{"invalid SSH host name"}},
		"bad public key": {&remote.Machine{URI: "ssh://h", HostKey: "!"}, []string{"not valid base64"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := dialing("/nix/store")
			d.SSH.Options = []string{"-F", "none"}
			if name == "no answer" {
				d.Patience = 100 * time.Millisecond
			}
			_, err := remote.Dial(test.m, d)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want '%s'", err, want)
				}
			}
		})
	}
}

// TestOutputThatSomebodyHolds: a program in the background that keeps the pipe
// open must not keep us.
func TestOutputThatSomebodyHolds(t *testing.T) {
	start := time.Now()
	_, err := remote.Dial(script("sleep 60 >/dev/null & echo gone >&2; echo $! >&2"), dialing("/nix/store"))
	if err == nil || !strings.Contains(err.Error(), "gone") {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	pid := err.Error()[strings.LastIndexByte(err.Error(), '\n')+1:]
	_ = exec.Command("kill", pid).Run()
}
