package builders

import (
	"reflect"
	"strings"
	"testing"
)

func (l *lab) env(derivations ...string) error {
	l.t.Helper()
	return l.run("buildenv", nil, map[string]string{"derivations": strings.Join(derivations, " "), "manifest": "/manifest"})
}

func TestBuildenv(t *testing.T) {
	l := newLab(t)
	a, b, c, d := l.path("a"), l.path("b"), l.path("c"), l.path("d")
	l.write("a/bin/both", "")
	l.write("a/bin/a", "")
	l.symlink("nowhere", "a/bin/dangling")
	l.write("a/only/deep/file", "")
	l.write("a/.hidden", "")
	l.write("a/log", "")
	l.write("a/manifest.nix", "")
	l.write("a/info/dir", "")
	l.write("a/nix-support/propagated-build-inputs", "")
	l.write("b/bin/both", "")
	l.write("b/bin/b", "")
	l.write("b/nix-support/propagated-user-env-packages", c+" "+d+"\n")
	l.write("c/bin/both", "")
	l.write("c/bin/c", "")
	l.write("c/nix-support/propagated-user-env-packages", a+" "+c)
	l.write("d/bin/c", "")
	file := l.write("file", "")
	if err := l.env("true", "5", "1", a, "false", "1", "1", d, "true", "4", "2", b, file); err != nil {
		t.Fatal(err)
	}
	want := `./
bin/
bin/a -> a/bin/a
bin/b -> b/bin/b
bin/both -> b/bin/both
bin/c -> c/bin/c
info -> a/info
manifest.nix -> /manifest
only -> a/only
`
	if got := l.tree("out"); got != want {
		t.Errorf("the environment is\n%s", got)
	}
	warnings := []string{
		"warning: not including '" + file + "' in the user environment because it's not a directory",
		"warning: skipping dangling symlink '" + l.path("out/bin/dangling") + "'",
	}
	if got := l.warnings(); !reflect.DeepEqual(got, warnings) {
		t.Errorf("warnings: %q, want %q", got, warnings)
	}
}

// A directory that was linked becomes a real one when another package has it
// too, also when a link of a package led there.
func TestBuildenvUnfolds(t *testing.T) {
	l := newLab(t)
	l.write("a/real/x", "")
	l.symlink("real", "a/share")
	l.write("b/share/y", "")
	l.write("b/share/x", "")
	if err := l.env("true", "1", "1", l.path("a"), "true", "2", "1", l.path("b")); err != nil {
		t.Fatal(err)
	}
	want := "./\nmanifest.nix -> /manifest\nreal -> a/real\nshare/\nshare/x -> a/real/x\nshare/y -> b/share/y\n"
	if got := l.tree("out"); got != want {
		t.Errorf("the environment is\n%s", got)
	}
}

func TestBuildenvErrors(t *testing.T) {
	for name, c := range map[string]struct {
		derivations []string
		want        string
	}{
		"same priority": {[]string{"true 5 1 @/a", "true 5 1 @/b"},
			"packages '@/b/bin/x' and '@/a/bin/x' have the same priority 5; use 'nix-env --set-flag priority NUMBER INSTALLED_PKGNAME'" +
				" to change the priority of one of the conflicting packages (0 being the highest priority)"},
		"directory over file":   {[]string{"true 1 1 @/a", "true 5 1 @/dir"}, "collision between '@/dir/bin/x' and non-directory '@/a/bin/x'"},
		"file over directory":   {[]string{"true 1 1 @/dir", "true 2 1 @/dir2", "true 5 1 @/a"}, "collision between non-directory '@/a/bin/x' and directory '@/out/bin/x'"},
		"no priority":           {[]string{"true"}, "no number where a priority is expected"},
		"bad priority":          {[]string{"true x 1 @/a"}, "no number where a priority is expected"},
		"no count":              {[]string{"true 1"}, "in the middle"},
		"too few outputs":       {[]string{"true 1 2 @/a"}, "in the middle"},
		"count beyond memory":   {[]string{"true 1 9223372036854775807 @/a"}, "in the middle"},
		"count beyond numbers":  {[]string{"true 1 99999999999999999999 @/a"}, "in the middle"},
		"package that is not":   {[]string{"true 1 1 @/none"}, "no such file or directory"},
		"negative, and nothing": {[]string{"true 1 -1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.write("a/bin/x", "")
			l.write("b/bin/x", "")
			l.write("dir/bin/x/y", "")
			l.write("dir2/bin/x/z", "")
			at := func(s string) string { return strings.ReplaceAll(s, "@", l.dir) }
			err := l.env(at(strings.Join(c.derivations, " ")))
			if c.want == "" && err == nil {
				return
			}
			l.fails(err, at(c.want))
		})
	}
	l := newLab(t)
	l.fails(l.run("buildenv", nil, map[string]string{"manifest": "/m"}), "attribute 'derivations' missing")
	l.fails(l.run("nonsense", nil, nil), "unsupported builtin builder 'nonsense'")
}
