package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func noEnv(string) string { return "" }

func environ(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

// bare is a machine on which every optional thing is missing.
func bare() Options {
	return Options{
		ConfDir:  "/nowhere",
		System:   "x86_64-linux",
		CPUs:     func() int { return 3 },
		KVM:      func() bool { return false },
		ReadFile: files(nil),
	}
}

func mustLoad(t *testing.T, conf string) *Settings {
	t.Helper()
	s, _, err := loadText(conf)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loadText(conf string) (*Settings, []Warning, error) {
	opts := bare()
	opts.ReadFile = files(map[string]string{"/nowhere/nix.conf": conf})
	return Load(noEnv, opts)
}

func TestTableIsSound(t *testing.T) {
	if !slices.IsSortedFunc(table, func(a, b definition) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the table is not sorted")
	}
	if len(table) > 64*len(bits{}) {
		t.Fatalf("%d settings do not fit into the bits", len(table))
	}
	names := map[string]bool{}
	fields := map[any]string{}
	var s Settings
	for _, def := range table {
		for _, n := range append(strings.Fields(def.aliases), def.name) {
			if names[n] || hasWord(foreign, n) {
				t.Errorf("%s is defined twice", n)
			}
			names[n] = true
		}
		p := reflect.ValueOf(def.value(&s)).Pointer()
		if other, ok := fields[p]; ok {
			t.Errorf("%s and %s share a field", def.name, other)
		}
		fields[p] = def.name
		if def.doc == "" || strings.HasSuffix(def.doc, ".") {
			t.Errorf("%s: documentation %q", def.name, def.doc)
		}
		if def.initial != "" {
			v := def.value(&s)
			if err := v.parse(def.name, def.initial); err != nil || v.String() != def.initial {
				t.Errorf("%s: default %q reads as %q, %v", def.name, def.initial, v, err)
			}
		}
	}
	// Every exported field but the legacy hook, which no file can set.
	if want := reflect.TypeFor[Settings]().NumField() - 3; len(fields) != want {
		t.Errorf("%d settings for %d fields", len(fields), want)
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct{ name, value, want, err string }{
		{"keep-failed", "yes", "true", ""},
		{"keep-failed", "1", "true", ""},
		{"sandbox-fallback", "no", "false", ""},
		{"keep-failed", "maybe", "", "Boolean setting 'keep-failed' has invalid value 'maybe'"},
		{"build-use-substitutes", "x", "", "Boolean setting 'substitute' has invalid value 'x'"},
		{"keep-failed", "", "", "Boolean setting 'keep-failed' has invalid value ''"},
		{"timeout", "17", "17", ""},
		{"timeout", "2K", "2048", ""},
		{"timeout", "", "", "setting 'timeout' has invalid value ''"},
		{"timeout", "1 2", "", "setting 'timeout' has invalid value '1 2'"},
		{"timeout", "-1", "", "setting 'timeout' has invalid value '-1'"},
		{"timeout", "K", "", "setting 'timeout' has invalid value 'K'"},
		{"min-free", "5G", "5368709120", ""},
		{"min-free", "1t", "1099511627776", ""},
		{"min-free", "99999999T", "", "setting 'min-free' has invalid value '99999999T'"},
		{"max-free", "18446744073709551615", "9223372036854775807", ""},
		{"max-free", "9223372036854775808", "", "setting 'max-free' has invalid value '9223372036854775808'"},
		{"log-lines", "4294967296", "", "setting 'log-lines' has invalid value '4294967296'"},
		{"max-jobs", "0", "0", ""},
		{"max-jobs", "x", "", "configuration setting 'max-jobs' should be 'auto' or an integer"},
		{"build-max-jobs", "-4", "", "configuration setting 'max-jobs' should be 'auto' or an integer"},
		{"sandbox", "relaxed", "relaxed", ""},
		{"sandbox", "yes", "", "option 'sandbox' has invalid value 'yes'"},
		{"diff-hook", "/a/../b/", "/b", ""},
		{"diff-hook", "", "", ""},
		{"diff-hook", "b", "", "not an absolute path: 'b'"},
		{"sandbox-build-dir", "", "", "setting 'sandbox-build-dir' is a path and paths cannot be empty"},
		{"sandbox-build-dir", "b", "", "not an absolute path: 'b'"},
		{"hashed-mirrors", " b a  b ", "b a b", ""},
		{"ignored-acls", "b a b", "a b", ""},
		{"extra-ignored-acls", "b a b", "a b security.csm security.selinux system.nfs4_acl", ""},
		{"impure-env", "B=2 A=1=1 C", "A=1=1 B=2", ""},
		{"start-id", "5", "5", ""},
		{"extra-timeout", "4", "", "unknown setting 'extra-timeout'"},
		{"extra-", "4", "", "unknown setting 'extra-'"},
		{"", "4", "", "unknown setting ''"},
		{"nonsense", "4", "", "unknown setting 'nonsense'"},
	} {
		s, err := Defaults(noEnv, bare())
		if err != nil {
			t.Fatal(err)
		}
		err = s.Set(c.name, c.value)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s = %s: error %v, want %s", c.name, c.value, err, c.err)
			}
			continue
		}
		got, _ := s.Value(strings.TrimPrefix(c.name, "extra-"))
		if err != nil || got != c.want {
			t.Errorf("%s = %s: %q, %v; want %q", c.name, c.value, got, err, c.want)
		}
	}
}

func TestErrorsAreDistinguishable(t *testing.T) {
	var s Settings
	if err := s.Set("nonsense", "1"); !errors.Is(err, ErrUnknownSetting) {
		t.Errorf("unknown name: %v", err)
	}
	var ve *ValueError
	if err := s.Set("cores", "x"); !errors.As(err, &ve) || errors.Is(err, ErrUnknownSetting) {
		t.Errorf("bad value: %v", err)
	}
	if err := s.Set("extra-nix-path", "x"); err != nil {
		t.Errorf("a setting of the evaluator: %v", err)
	}
}

func TestHugeTimesAreClamped(t *testing.T) {
	var s Settings
	if err := s.Set("timeout", "9223372036854775807"); err != nil {
		t.Fatal(err)
	}
	if s.Timeout < 1<<62 || s.Timeout%time.Second != 0 {
		t.Errorf("%d", s.Timeout)
	}
}

func TestAutoJobs(t *testing.T) {
	var s Settings
	if err := s.Set("max-jobs", "auto"); err != nil || s.MaxJobs < 1 {
		t.Errorf("%d jobs, %v", s.MaxJobs, err)
	}
}

func TestCopiesAreIndependent(t *testing.T) {
	a := mustLoad(t, "substituters = u\nimpure-env = A=1\nsystem-features = x")
	b := *a
	for _, set := range [][2]string{
		{"extra-substituters", "v"}, {"extra-impure-env", "A=2"}, {"extra-system-features", "a"}, {"keep-going", "true"},
	} {
		if err := b.Set(set[0], set[1]); err != nil {
			t.Fatal(err)
		}
	}
	if a.KeepGoing || a.IsSet("keep-going") || a.ImpureEnv["A"] != "1" ||
		!slices.Equal(a.Substituters, []string{"u"}) || !slices.Equal(a.SystemFeatures, []string{"x"}) {
		t.Errorf("the original changed: %+v", a)
	}
	if !slices.Equal(b.Substituters, []string{"u", "v"}) || !slices.Equal(b.SystemFeatures, []string{"a", "x"}) {
		t.Errorf("the copy: %v %v", b.Substituters, b.SystemFeatures)
	}
}

func TestOverridden(t *testing.T) {
	s := mustLoad(t, "cores = 1\nbuild-max-jobs = 2")
	if err := s.Set("build-timeout", "5"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range s.Entries() {
		if e.Overridden {
			got = append(got, e.Name+"="+e.Value)
		}
	}
	if !slices.Equal(got, []string{"timeout=5"}) {
		t.Errorf("overridden: %v", got)
	}
	for name, want := range map[string]bool{"max-jobs": true, "build-cores": true, "timeout": true, "sandbox": false, "x": false} {
		if s.IsSet(name) != want {
			t.Errorf("IsSet(%s) = %v", name, !want)
		}
	}
}

func TestRestricted(t *testing.T) {
	for name, want := range map[string]bool{
		"sandbox": true, "trusted-users": true, "sandbox-paths": true, "no-such": true, "extra-sandbox-paths": true,
		"build-timeout": false, "timeout": false, "max-silent-time": false, "connect-timeout": false,
	} {
		if Restricted(name) != want {
			t.Errorf("Restricted(%s) = %v", name, !want)
		}
	}
}

func FuzzSet(f *testing.F) {
	for i := range table {
		f.Add(table[i].name, table[i].initial)
	}
	f.Add("extra-impure-env", "a=b=c =d")
	f.Add("timeout", "99999999999999999T")
	f.Fuzz(func(t *testing.T, name, value string) {
		var s Settings
		if s.Set(name, value) != nil {
			return
		}
		printed, ok := s.Value(name)
		if !ok {
			return // of the evaluator, or appended to
		}
		var again Settings
		if err := again.Set(name, printed); err != nil {
			t.Fatalf("%s prints as %q: %v", name, printed, err)
		}
		if second, _ := again.Value(name); second != printed {
			t.Fatalf("%s: %q became %q", name, printed, second)
		}
	})
}
