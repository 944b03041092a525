package conformance_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gobuild/internal/conformance/nixtest"
	"gobuild/internal/netprogram"
	"gobuild/internal/worker/proc"
)

const (
	eventWords = "Nix writes terminal colours, and each step of a download, to this log"
	otherWords = "what went wrong is said by another library"
)

// wording accepts another text of an error in the log of a failed build.
var wording = allow(string(nixtest.Logs), otherWords, string(nixtest.Stderr), otherWords)

var builtinCases = []testCase{
	{name: "envMerge", users: true},
	{name: "envOther"},
	{name: "envInactive"},
	{name: "envOutputs"},
	{name: "envTwice"},
	{name: "envFlat"},
	{name: "envEmpty"},
	{name: "envNegative"},
	{name: "envConflict", exit: 100},
	{name: "envFileFirst", exit: 100},
	{name: "envFileLast"},
	{name: "envFileLater", exit: 100},
	{name: "envDirs", exit: 100},
	{name: "envMissing", exit: 100},
	{name: "channelTar", users: true},
	{name: "channelGzip"},
	{name: "channelXz"},
	{name: "channelBzip2"},
	{name: "channelZstd"},
	{name: "channelTwo", exit: 100},
	{name: "channelOut", exit: 100, allow: wording, gobuildExit: 100, stderrHas: []string{"contains '..'"}},
	{name: "channelLink", exit: 100, allow: wording, gobuildExit: 100, stderrHas: []string{"cannot extract through"}},
	{name: "channelGarbage", exit: 100, allow: wording, gobuildExit: 100},
	{name: "channelMissing", exit: 100},
	{name: "fetchFile", users: true},
	{name: "fetchFileUrl", where: plainOnly},
	{name: "fetchExecutable"},
	{name: "fetchUnpack"},
	{name: "fetchUnpackXz"},
	{name: "fetchUnpackNot", exit: 1, allow: wording},
	{name: "fetchWrong", exit: 102},
	{name: "fetchNone", exit: 1, allow: wording, stderrHas: []string{"unable to download '", "HTTP error 404"}},
	{name: "fetchMirror"},
	{name: "fetchRedirect"},
}

// TestBuiltins compares what the builders that are part of the engines make.
func TestBuiltins(t *testing.T) {
	if fd, err := netprogram.Open(); err != nil {
		t.Skip("skipped: the network program has not been built; run 'make'")
	} else {
		proc.Close(fd)
	}
	files := builtinFiles(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/hello", http.StatusFound)
			return
		}
		http.ServeFile(w, r, filepath.Join(files, filepath.Clean("/"+r.URL.Path)))
	}))
	defer server.Close()
	for _, mode := range []nixtest.Mode{nixtest.Sandbox, nixtest.Users, nixtest.Plain} {
		t.Run(mode.String(), func(t *testing.T) {
			if mode == nixtest.Users {
				requireBuildUsers(t)
			}
			lab := nixtest.NewLab(t, mode)
			tmpl := lab.Instantiate(t, expression("builtin.nix"), map[string]string{"files": files, "url": `"` + server.URL + `"`})
			nix, gobuild := nixtest.Nix(lab.Tools), nixtest.Gobuild(t)
			for _, c := range builtinCases {
				if !c.runsIn(mode) {
					continue
				}
				c.args = []string{"--option", "hashed-mirrors", server.URL + "/mirror", "--option", "download-attempts", "1"}
				if c.name != "fetchMirror" {
					c.args = c.args[3:]
				}
				c.unordered = true // the order of the plan depends on paths, and these on where the stores are
				if c.allow == nil {
					c.allow = allow(string(nixtest.Logs), eventWords)
				}
				t.Run(c.name, func(t *testing.T) { c.run(t, lab, tmpl, nix, gobuild) })
			}
		})
	}
}

// builtinFiles makes what the builders read.
func builtinFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	// Build users must be able to pass.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := `
		mkdir -p mirror/sha256 top/sub/deep top/empty tree two
		echo hello >hello
		cp hello mirror/sha256/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03
		echo text >top/file; echo '#!/bin/sh' >top/run; chmod 755 top/run; chmod 600 top/sub; chmod 700 top/sub
		ln -s file top/link; ln -s /nowhere top/dangling; ln top/file top/hard; echo deep >top/sub/deep/file; chmod 400 top/sub/deep/file
		tar cf plain.tar top; tar czf packed.tar.gz ./top; tar cJf packed.tar.xz top; tar cjf packed.tar.bz2 top
		tar cf - top | zstd -q >packed.tar.zst
		touch two/a two/b; tar cf two.tar -C two a b
		tar cPf out.tar --transform 's,top/file,top/../../evil,' top/file
		ln -s /tmp two/link; tar cf link.tar two/link; tar rf link.tar --transform 's,hello,two/link/evil,' hello
		echo no archive at all >garbage
		cp -r top/sub tree/; ln -s sub/deep/file tree/link; nix-store --dump tree >tree.nar; xz -k tree.nar`
	cmd := exec.Command("/bin/sh", "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NIX_REMOTE=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("skipped: the archives cannot be made here: %v\n%s", err, out)
	}
	return dir
}
