package sandbox

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// goldenDir can be set for a test run that has another working directory.
const goldenDir = "SANDBOX_TEST_GOLDEN"

// recording reads what a builder of the original saw, by section.
func recording(t *testing.T, name string) map[string]string {
	t.Helper()
	dir := os.Getenv(goldenDir)
	if dir == "" {
		dir = "../../testdata/golden/sandbox"
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if os.IsPermission(err) {
		t.Skip("skipped: this user cannot read the recordings")
	}
	if err != nil {
		t.Fatal(err)
	}
	return sections(string(text))
}

func sections(text string) map[string]string {
	s := map[string]string{}
	for part := range strings.SplitSeq("\n"+text, "\n## ") {
		if name, body, ok := strings.Cut(part, "\n"); ok {
			s[name] = strings.TrimSuffix(body, "\n") + "\n"
		}
	}
	return s
}

// look has the builder say what it sees, in the sections of the recordings.
const lookAround = `
section() { echo "## $1"; }
section id; id
section cwd; pwd; ls -la
section root; ls -la /
section dev; ls -la /dev
section etc; ls -la /etc
for f in passwd group hosts nsswitch.conf; do echo "# /etc/$f"; cat /etc/$f 2>/dev/null; done
section mountinfo; cat /proc/self/mountinfo
section personality; cat /proc/self/personality
section uid_map; cat /proc/self/uid_map /proc/self/gid_map
section ns; ls -la /proc/self/ns
section store; ls -la $NIX_STORE; ls -ld /build /tmp $NIX_STORE
section hostname; hostname; cat /proc/sys/kernel/domainname
section net; cat /proc/net/dev
section chmod; touch f; chmod u+s f; echo rc=$?; chmod g+s f; echo rc=$?
section pid; echo $$
`

var listed = regexp.MustCompile(`(?m)^(\S{10})\s+\d+\s+(\S+)\s+(\S+)\s.*?[A-Z][a-z]{2}\s+\d+\s+[0-9:]+\s(.+)$`)

// listing reduces the output of ls to mode, owner and group by name.
func listing(text string) map[string]string {
	files := map[string]string{}
	for _, m := range listed.FindAllStringSubmatch(text, -1) {
		files[m[4]] = m[1] + " " + m[2] + " " + m[3]
	}
	return files
}

func compareListing(t *testing.T, section string, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: '%s' is %q, recorded %q", section, name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: '%s' was not there in the recording", section, name)
		}
	}
}

// recordingFor is the one with the same owner of the host's files.
func recordingFor(t *testing.T) map[string]string {
	if os.Geteuid() == 0 {
		return recording(t, "nix226-sandboxed-nixbld.txt")
	}
	return recording(t, "nix226-sandboxed-none.txt")
}

func TestSandboxLooksAsRecorded(t *testing.T) {
	want := recordingFor(t)
	h := newHost(t)
	w := h.world(t, nil)
	if err := w.AddFile(".attr-15kwh39m9r7v7n8yzicn5c7d1flqd4cwrb273246qikvij7ygpn8", []byte("abc")); err != nil {
		t.Fatal(err)
	}
	c := shell(lookAround)
	c.Env = append(c.Env, "NIX_STORE="+h.policy.StoreDir)
	o := w.run(t, c)
	if o.err != nil || !o.status.OK() {
		t.Fatalf("%v, %v\n%s", o.err, o.status, o.log)
	}
	got := sections(o.log)
	for _, name := range []string{"id", "personality", "pid", "hostname", "net"} {
		if name == "id" { // groups: see the status; busybox prints them only if there are some
			got[name], _, _ = strings.Cut(strings.TrimSpace(got[name]), " groups=")
			want[name], _, _ = strings.Cut(strings.TrimSpace(want[name]), " groups=")
		}
		if got[name] != want[name] {
			t.Errorf("%s: got %q, recorded %q", name, got[name], want[name])
		}
	}
	compareDirectories(t, got, want)
	compareEtc(t, got["etc"], want["etc"])
	if g, w := strings.Count(got["chmod"], "rc=1\n"), strings.Count(want["chmod"], "rc=1\n"); g != w {
		t.Errorf("chmod: got %q, recorded %q", got["chmod"], want["chmod"])
	}
	if maps := strings.Fields(got["uid_map"]); len(maps) != 6 || maps[0] != "1000" || maps[2] != "1" || maps[3] != "100" || maps[5] != "1" {
		t.Errorf("uid_map: %q", got["uid_map"])
	}
	checkMounts(t, h, got["mountinfo"])
	checkNamespaces(t, got["ns"], []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"})
}

func compareDirectories(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range []string{"cwd", "root", "dev", "store"} {
		g, w := listing(got[name]), listing(want[name])
		switch name {
		case "root": // the recording had other sandbox-paths
			for _, other := range []string{"bin -> usr/bin", "lib -> usr/lib", "lib64 -> usr/lib64", "usr"} {
				delete(w, other)
			}
			delete(g, "bin")
		case "dev":
			delete(w, "kvm") // a matter of the host
		case "store":
			delete(w, "9w569x1dskwqzjx0z4dv33n9a7qk4spa-sbx") // its own log
			renameStore(g)
			renameStore(w)
		}
		if os.Geteuid() != 0 { // in the recording root itself was mapped, and owned everything
			withoutOwners(g)
			withoutOwners(w)
		}
		compareListing(t, name, g, w)
	}
}

func renameStore(files map[string]string) {
	for name, f := range files {
		if strings.HasSuffix(name, "/store") {
			delete(files, name)
			files["STORE"] = f
		}
	}
}

func withoutOwners(files map[string]string) {
	for name, f := range files {
		files[name] = strings.Fields(f)[0]
	}
}

func compareEtc(t *testing.T, got, want string) {
	t.Helper()
	gotFiles, wantFiles := got[strings.Index(got, "# /etc/passwd"):], want[strings.Index(want, "# /etc/passwd"):]
	if gotFiles != wantFiles {
		t.Errorf("files of /etc:\n%s\nrecorded:\n%s", gotFiles, wantFiles)
	}
	g, w := listing(got), listing(want)
	if os.Geteuid() != 0 {
		withoutOwners(g)
		withoutOwners(w)
	}
	compareListing(t, "etc", g, w)
}

// checkMounts holds the mounts against the list of those there should be.
func checkMounts(t *testing.T, h *host, mountinfo string) {
	t.Helper()
	want := []string{"/", "/bin/busybox", "/bin/sh", "/build", "/dev/full", "/dev/null", "/dev/pts", "/dev/random", "/dev/shm", "/dev/tty",
		"/dev/urandom", "/dev/zero", "/proc", "/tmp", h.policy.StoreDir}
	var got []string
	for line := range strings.Lines(mountinfo) {
		got = append(got, strings.Fields(line)[4])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("mounts: %q, want %q", got, want)
	}
}

// checkNamespaces tells which of the builder's namespaces are the test's own.
func checkNamespaces(t *testing.T, ns string, private []string) {
	t.Helper()
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		own, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			continue // the kernel has none
		}
		if shared := strings.Contains(ns, own); shared == slices.Contains(private, kind) {
			t.Errorf("namespace %s: shared is %v", kind, shared)
		}
	}
}

// statusLines are the lines of a process's status that were recorded.
func statusLines(text string, names ...string) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if slices.Contains(names, name) {
			lines[name] = strings.TrimSpace(value)
		}
	}
	return lines
}

var recordedStatus = []string{"Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapEff", "NoNewPrivs", "Seccomp", "Seccomp_filters"}

func TestStatusAsRecorded(t *testing.T) {
	want := statusLines(recordingFor(t)["status"], recordedStatus...)
	o := newHost(t).world(t, nil).run(t, busybox("cat", "/proc/self/status", "/proc/self/limits"))
	if o.err != nil || !o.status.OK() {
		t.Fatalf("%v, %v\n%s", o.err, o.status, o.log)
	}
	got := statusLines(o.log, recordedStatus...)
	if os.Geteuid() != 0 {
		delete(got, "Groups")
		delete(want, "Groups")
	}
	if !maps.Equal(got, want) {
		t.Errorf("status: %v, recorded %v", got, want)
	}
	for name, value := range statusLines(o.log, "CapInh", "CapPrm", "CapAmb", "SigCgt", "Pid", "PPid") {
		if want := map[string]string{"Pid": "1", "PPid": "0"}[name]; value != want && strings.Trim(value, "0") != want {
			t.Errorf("%s is %s", name, value)
		}
	}
	if !regexp.MustCompile(`Max core file size\s+0 `).MatchString(o.log) {
		t.Errorf("core dumps are not limited:\n%s", o.log)
	}
}

func TestUnsandboxedAsRecorded(t *testing.T) {
	want := statusLines(recording(t, "nix226-unsandboxed-nixbld.txt")["status"], recordedStatus...)
	h := newHost(t)
	w := h.world(t, func(b *Build) { b.Sandboxed = false })
	o := w.run(t, Command{Path: "/bin/busybox", Argv: []string{"cat", "/proc/self/status"}})
	if o.err != nil || !o.status.OK() {
		t.Fatalf("%v, %v\n%s", o.err, o.status, o.log)
	}
	got := statusLines(o.log, recordedStatus...)
	for _, lines := range []map[string]string{got, want} {
		for _, name := range []string{"Uid", "Gid"} { // others there
			if fields := strings.Fields(lines[name]); len(fields) != 4 || fields[0] != fields[3] || fields[0] == "0" {
				t.Errorf("%s: %q", name, lines[name])
			}
			delete(lines, name)
		}
		if os.Geteuid() != 0 {
			delete(lines, "Groups")
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("status: %v, recorded %v", got, want)
	}
}
