package sandbox

import (
	"strings"
	"testing"
)

func TestParseBind(t *testing.T) {
	for item, want := range map[string]Bind{
		"/bin":               {Target: "/bin", Source: "/bin"},
		"/bin/":              {Target: "/bin", Source: "/bin"},
		"/bin/sh=/opt/b":     {Target: "/bin/sh", Source: "/opt/b"},
		"/bin/sh=/opt/b?":    {Target: "/bin/sh", Source: "/opt/b", Optional: true},
		"/missing?":          {Target: "/missing", Source: "/missing", Optional: true},
		"/a=/b=c":            {Target: "/a", Source: "/b=c"},
		"/a/../b//c=/d/./e/": {Target: "/b/c", Source: "/d/e"},
	} {
		got, err := ParseBind(item)
		if err != nil || got != want {
			t.Errorf("ParseBind(%q) = %+v, %v; want %+v", item, got, err, want)
		}
	}
	for _, item := range []string{"", "?", "bin", "/bin=", "=/bin", "/=/srv", "/", "/..", "/a=b", "/a\x00b"} {
		if got, err := ParseBind(item); err == nil {
			t.Errorf("ParseBind(%q) = %+v, want an error", item, got)
		}
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/bin", "/bin/sh=/opt/b?", "=", "/../x=/y", "/a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, item string) {
		b, err := ParseBind(item)
		if err != nil {
			return
		}
		for _, p := range []string{b.Target, b.Source} {
			if !strings.HasPrefix(p, "/") || strings.Contains(p+"/", "/../") || strings.ContainsRune(p, 0) {
				t.Errorf("ParseBind(%q) accepts %q", item, p)
			}
		}
		if b.Target == "/" {
			t.Errorf("ParseBind(%q) accepts the root as a target", item)
		}
	})
}

func TestPolicyCheck(t *testing.T) {
	for _, c := range []struct{ store, build, shm, want string }{
		{"/nix/store", "", "", ""},
		{"/nix/store", "/build", "10%", ""},
		{"/nix/store", "/nix", "", "`sandbox-build-dir` must not contain the storeDir"},
		{"/nix/store", "/nix/store", "", "`sandbox-build-dir` must not contain the storeDir"},
		{"/nix/store", "/", "", "`sandbox-build-dir` must not contain the storeDir"},
		{"/nix/store", "/nix/store/x", "", "'/nix/store/x' cannot be used as 'sandbox-build-dir'"},
		{"/nix/store", "/build/../b", "", "'/build/../b' cannot be used as 'sandbox-build-dir'"},
		{"/nix/store", "build", "", "'build' cannot be used as 'sandbox-build-dir'"},
		{"/nix/store", "", "1g,uid=0", "setting 'sandbox-dev-shm-size' has invalid value '1g,uid=0'"},
	} {
		p := Policy{StoreDir: c.store, SandboxBuildDir: c.build, DevShmSize: c.shm}
		got := ""
		if err := p.check(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("check(%+v) = %q, want %q", c, got, c.want)
		}
	}
}

func TestCheckBind(t *testing.T) {
	w := &World{policy: &Policy{StoreDir: "/nix/store"}, build: &Build{}}
	for _, c := range []struct {
		bind Bind
		ok   bool
	}{
		{Bind{Target: "/usr", Source: "/usr"}, true},
		{Bind{Target: "/nix", Source: "/srv"}, true},
		{Bind{Target: "/nix/store", Source: "/nix/store"}, false},
		{Bind{Target: "/build", Source: "/srv"}, false},
		{Bind{Target: "/build/in", Source: "/srv"}, true},
		{Bind{Target: "/nix/store/x", Source: "/srv"}, true},
		{Bind{Target: "/nix/store/x/bin", Source: "/nix/store/x/bin"}, true},
		{Bind{Target: "/nix/store/x/bin", Source: "/srv"}, false},
		{Bind{Target: "/", Source: "/srv"}, false},
	} {
		if err := w.checkBind(c.bind); (err == nil) != c.ok {
			t.Errorf("checkBind(%+v) = %v", c.bind, err)
		}
	}
}
