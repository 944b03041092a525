package config

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// files is a file system of names and contents.
func files(m map[string]string) func(string) (string, error) {
	return func(name string) (string, error) {
		text, ok := m[name]
		if !ok {
			return "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return text, nil
	}
}

func TestDefaults(t *testing.T) {
	s := mustLoad(t, "")
	if s.Sandbox != SandboxOn || s.SandboxFallback || len(s.Substituters) != 0 || s.Cores != 3 ||
		s.Builders != "@/nowhere/machines" || s.NetrcFile != "/nowhere/netrc" || s.Store != "auto" ||
		s.BuildUsersGroup != "" || s.AutoAllocateUIDs || len(s.SandboxPaths) != 0 {
		t.Errorf("%+v", s)
	}
	if s.ExtraPlatforms[0] != "i686-linux" {
		t.Errorf("platforms %v", s.ExtraPlatforms)
	}
	if !slices.Equal(s.SystemFeatures, []string{"benchmark", "big-parallel", "nixos-test"}) {
		t.Errorf("features %v", s.SystemFeatures)
	}
}

func TestMachine(t *testing.T) {
	opts := bare()
	opts.KVM = func() bool { return true }
	opts.FindShell = func() string { return "/opt/busybox" }
	opts.System = "aarch64-linux"
	opts.ReadFile = files(map[string]string{"/nowhere/nix.conf": "extra-sandbox-paths = /a"})
	s, _, err := Load(noEnv, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.SandboxPaths, " "); got != "/a /bin/sh=/opt/busybox" {
		t.Errorf("sandbox paths %s", got)
	}
	if !slices.Contains(s.SystemFeatures, "kvm") || len(s.ExtraPlatforms) != 0 {
		t.Errorf("features %v, platforms %v", s.SystemFeatures, s.ExtraPlatforms)
	}
}

func TestBuildUsers(t *testing.T) {
	for _, c := range []struct {
		root, exists bool
		conf, flag   string
		group        string
		auto         bool
	}{
		{root: false, exists: true},
		{root: true, exists: true, group: "nixbld"},
		{root: true, exists: false, auto: true},
		{root: true, exists: false, conf: "build-users-group = other", group: "other"},
		{root: true, exists: false, conf: "build-users-group =", group: ""},
		{root: true, exists: false, flag: "other", group: "other"},
		{root: true, exists: true, conf: "auto-allocate-uids = true", flag: "other", group: "other", auto: true},
	} {
		opts := bare()
		opts.Root = c.root
		opts.HasGroup = func(name string) bool { return c.exists && name == "nixbld" }
		opts.ReadFile = files(map[string]string{"/nowhere/nix.conf": c.conf})
		s, _, err := Load(noEnv, opts)
		if err != nil {
			t.Fatal(err)
		}
		if c.flag != "" {
			if err := s.Set("build-users-group", c.flag); err != nil {
				t.Fatal(err)
			}
		}
		if s.BuildUsersGroup != c.group || s.AutoAllocateUIDs != c.auto {
			t.Errorf("%+v: group %q, auto %v", c, s.BuildUsersGroup, s.AutoAllocateUIDs)
		}
	}
}

func TestEnvironment(t *testing.T) {
	s, _, err := Load(environ(map[string]string{
		"NIX_REMOTE": "daemon", "NIX_BUILD_HOOK": "/hook", "NIX_REMOTE_SYSTEMS": "/m1:/m2",
		"NIX_IGNORE_SYMLINK_STORE": "1", "SSL_CERT_FILE": "/certs",
	}), bare())
	if err != nil {
		t.Fatal(err)
	}
	if s.Store != "daemon" || s.LegacyBuildHook != "/hook" || s.Builders != "@/m1\n@/m2" ||
		!s.AllowSymlinkedStore || s.SSLCertFile != "/certs" {
		t.Errorf("%+v", s)
	}
	s, _, err = Load(environ(map[string]string{"NIX_BUILD_HOOK": "/hook", "NIX_CONFIG": "build-hook = /b c"}), bare())
	if err != nil || s.LegacyBuildHook != "" || !slices.Equal(s.BuildHook, []string{"/b", "c"}) {
		t.Errorf("hooks %q %q, %v", s.LegacyBuildHook, s.BuildHook, err)
	}
}

func TestPrecedence(t *testing.T) {
	conf := map[string]string{
		"/nowhere/nix.conf":       "cores = 1\nmax-jobs = 1\nlog-lines = 1\ntimeout = 1\nsystem-features = a",
		"/u1":                     "cores = 2\nmax-jobs = 2\nlog-lines = 2",
		"/u2":                     "cores = 3\nmax-jobs = 3",
		"/h/.config/nix/nix.conf": "cores = 4",
		"/etc/xdg/nix/nix.conf":   "cores = 5\nmax-jobs = 5",
		"/x/nix.conf":             "cores = 6",
	}
	for _, c := range []struct {
		env  map[string]string
		want string // cores, jobs, log lines, timeout
	}{
		{map[string]string{"NIX_USER_CONF_FILES": "/u2::/u1:/missing", "HOME": "/h"}, "3 3 2 1"},
		{map[string]string{"HOME": "/h"}, "4 5 1 1"},
		{map[string]string{"HOME": "/h", "XDG_CONFIG_DIRS": "/none"}, "4 1 1 1"},
		{map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/none"}, "5 5 1 1"},
		{map[string]string{"HOME": "/h", "NIX_CONFIG_HOME": "/x"}, "6 5 1 1"},
		{map[string]string{"HOME": "/h", "NIX_CONFIG": "cores = 7\ntimeout = 7"}, "7 5 1 7"},
	} {
		opts := bare()
		opts.ReadFile = files(conf)
		s, warnings, err := Load(environ(c.env), opts)
		if err != nil || len(warnings) != 0 {
			t.Fatal(err, warnings)
		}
		got := fmt.Sprint(s.Cores, s.MaxJobs, s.LogLines, int(s.Timeout.Seconds()))
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.env, got, c.want)
		}
	}
}

func TestFileSyntax(t *testing.T) {
	for _, c := range []struct{ conf, want, err string }{
		{"cores = 4", "4", ""},
		{"\n  # x\n\r\n\tcores\t=\t4 # y\r\n", "4", ""},
		{"cores = 4\nbuild-cores = 5", "5", ""},
		{"cores=4", "", "syntax error in configuration line 'cores=4' in '/nowhere/nix.conf'"},
		{"  foo   bar # x", "", "syntax error in configuration line '  foo   bar ' in '/nowhere/nix.conf'"},
		{"= 4", "", "syntax error in configuration line '= 4' in '/nowhere/nix.conf'"},
		{"include", "", "syntax error in configuration line 'include' in '/nowhere/nix.conf'"},
		{"include a b", "", "syntax error in configuration line 'include a b' in '/nowhere/nix.conf'"},
		{"include none", "", "file '/nowhere/none' included from '/nowhere/nix.conf' not found"},
		{"include /none", "", "file '/none' included from '/nowhere/nix.conf' not found"},
		{"!include none\ncores = 5", "5", ""},
		{"include sub/a", "8", ""},
		{"include nix.conf", "", "file '/nowhere/nix.conf' included from '/nowhere/nix.conf' includes itself"},
		{"include loop", "", "file '/nowhere/loop' included from '/nowhere/loop2' includes itself"},
		{"include wide1", "", "too many included files in '/nowhere/nix.conf'"},
	} {
		opts := bare()
		disk := map[string]string{
			"/nowhere/nix.conf": c.conf,
			"/nowhere/sub/a":    "include ../sub/b",
			"/nowhere/sub/b":    "cores = 8",
			"/nowhere/loop":     "include loop2", "/nowhere/loop2": "!include ./loop",
		}
		for i := range 40 { // each file includes the next twice
			disk[fmt.Sprintf("/nowhere/wide%d", i)] = strings.Repeat(fmt.Sprintf("!include wide%d\n", i+1), 2)
		}
		opts.ReadFile = files(disk)
		s, _, err := Load(noEnv, opts)
		switch {
		case c.err != "":
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: error %v, want %s", c.conf, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.conf, err)
		default:
			if got, _ := s.Value("cores"); got != c.want {
				t.Errorf("%q: cores %s, want %s", c.conf, got, c.want)
			}
		}
	}
}

func TestNixConfigCannotIncludeRelatively(t *testing.T) {
	_, _, err := Load(environ(map[string]string{"NIX_CONFIG": "include inc"}), bare())
	if err == nil || err.Error() != "not an absolute path: './inc'" {
		t.Errorf("%v", err)
	}
	_, _, err = Load(environ(map[string]string{"NIX_CONFIG": "foo"}), bare())
	if err == nil || err.Error() != "syntax error in configuration line 'foo' in 'NIX_CONFIG'" {
		t.Errorf("%v", err)
	}
}

func TestWarnings(t *testing.T) {
	s, warnings, err := loadText("foo = 1\nextra-timeout = 3\nfoo = 2\nbuild-cores = 4\ncores = 5\n" +
		"eval-cache = false\nextra-experimental-features = flakes\nplugin-files = /x.so")
	if err != nil {
		t.Fatal(err)
	}
	want := []Warning{
		"unknown setting 'foo'", "unknown setting 'extra-timeout'",
		"setting 'build-cores' is set, but it's an alias of 'cores' which is also set",
		"plug-ins are not supported; ignoring 'plugin-files'",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("%q", warnings)
	}
	if s.Cores != 5 || !slices.Equal(s.ExperimentalFeatures, []string{"flakes"}) {
		t.Errorf("cores %d, features %v", s.Cores, s.ExperimentalFeatures)
	}
}

func TestRealFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nix.conf"), []byte("include more\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	opts := bare()
	opts.ConfDir, opts.ReadFile = dir, nil
	_, _, err := Load(noEnv, opts)
	if err == nil || !strings.HasSuffix(err.Error(), "not found") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), []byte("timeout = 9\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	s, _, err := Load(noEnv, opts)
	if err != nil || s.Timeout.Seconds() != 9 {
		t.Errorf("%v, %v", s, err)
	}
}

func TestLimitCPUs(t *testing.T) {
	for limit, want := range map[string]int{
		"max 100000\n": 8, "150000 100000\n": 2, "100000 100000": 1, "1000 100000": 1, "0 1": 8, "": 8, "9999999 1": 8, "1 0": 8,
	} {
		if got := limitCPUs(8, limit); got != want {
			t.Errorf("%q: %d, want %d", limit, got, want)
		}
	}
}

// TestAgainstNix compares with what an installed Nix makes of the same file.
func TestAgainstNix(t *testing.T) {
	nix, err := exec.LookPath("nix")
	if err != nil {
		if os.Getenv("GOBUILD_REQUIRE_NIX") == "1" {
			t.Fatal("there is no nix program, and GOBUILD_REQUIRE_NIX=1 wants one")
		}
		t.Skip("no nix program to compare with")
	}
	dir := t.TempDir()
	conf := strings.Join([]string{
		"build-max-jobs = 7", "cores = 0", "sandbox = relaxed # c", "substituters = file:///a file:///b",
		"extra-substituters = file:///b", "trusted-public-keys = k:AAAA", "system-features = z a z",
		"extra-system-features = b", "extra-sandbox-paths = /b=/c /a", "sandbox-paths = /q", "extra-sandbox-paths = /b",
		"!include none", "include sub", "diff-hook = /x/../y/", "max-free = 1000", "gc-keep-outputs = yes",
		"ignored-acls =", "builders = ssh://a b ; ssh://c", "hashed-mirrors = b a b", "build-users-group =",
		"secret-key-files = /k1 /k2", "trusted-users = root @wheel", "build-hook = /h", "sandbox-fallback = false",
	}, "\n") + "\n"
	for name, text := range map[string]string{"nix.conf": conf, "sub": "timeout = 12\nconnect-timeout = 3\nlog-lines = 10\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(nix, "--extra-experimental-features", "nix-command", "show-config")
	cmd.Env = []string{"NIX_CONF_DIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH"), "XDG_CONFIG_DIRS=" + dir}
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("nix show-config: %v", err)
	}
	s, _, err := Load(noEnv, Options{ConfDir: dir, Root: os.Geteuid() == 0})
	if err != nil {
		t.Fatal(err)
	}
	compareWithNix(t, s, string(out))
}

func compareWithNix(t *testing.T, s *Settings, shown string) {
	compared := 0
	for line := range strings.Lines(shown) {
		name, want, found := strings.Cut(strings.TrimSuffix(line, "\n"), " = ")
		if !found || name == "experimental-features" { // given as a flag
			continue
		}
		got, ok := s.Value(name)
		if name == "extra-platforms" { // without the processor's levels, on purpose
			want, _, _ = strings.Cut(want, " x86_64-v")
		}
		if !ok {
			if !ignored(name) {
				t.Errorf("%s is not known", name)
			}
			continue
		}
		compared++
		if got != want {
			t.Errorf("%s is %q, Nix says %q", name, got, want)
		}
	}
	if compared < 60 {
		t.Errorf("only %d settings compared", compared)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("include a\n!include b\ncores = 1 # x\nextra-x = \nexperimental-features = a")
	f.Add("include /etc/c\n=\n= =\n")
	f.Fuzz(func(t *testing.T, text string) {
		open := func(string) (string, error) { return text, nil }
		lines, err := parse(text, "/etc/nix.conf", open)
		if err == nil && len(lines) > (maxIncludes+1)*(strings.Count(text, "\n")+1) {
			t.Fatal("more assignments than lines")
		}
		_, _, _ = loadText(text)
	})
}

func BenchmarkLoadNoFiles(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Load(environ(map[string]string{"HOME": "/nonexistent"}), Options{ConfDir: "/nonexistent"}); err != nil {
			b.Fatal(err)
		}
	}
}
