package config

import "testing"

func TestResolveDirs(t *testing.T) {
	const drv = "/w/store/00000000000000000000000000000000-x.drv"
	for _, c := range []struct {
		env   map[string]string
		flags DirFlags
		want  Dirs
	}{
		{nil, DirFlags{}, Dirs{"/nix/store", "/nix/store", "/nix/var/nix", "/nix/var/log/nix", "/etc/nix", false}},
		{map[string]string{"NIX_STORE": "/b/store"}, DirFlags{}, Dirs{"/b/store", "/b/store", "/nix/var/nix", "/nix/var/log/nix", "/etc/nix", false}},
		{map[string]string{"NIX_STORE": "/b/store", "NIX_STORE_DIR": "/a/store/"}, DirFlags{Argument: drv},
			Dirs{"/a/store", "/a/store", "/nix/var/nix", "/nix/var/log/nix", "/etc/nix", false}},
		{nil, DirFlags{StoreDir: "/p/s"}, Dirs{"/p/s", "/p/s", "/p/var/nix", "/p/var/log/nix", "/etc/nix", false}},
		{nil, DirFlags{StoreDir: "/s"}, Dirs{"/s", "/s", "/var/nix", "/var/log/nix", "/etc/nix", false}},
		{nil, DirFlags{StoreDir: "/p/s", Argument: drv}, Dirs{"/p/s", "/p/s", "/p/var/nix", "/p/var/log/nix", "/etc/nix", false}},
		{nil, DirFlags{Argument: drv + "!out"}, Dirs{"/w/store", "/w/store", "/w/var/nix", "/w/var/log/nix", "/etc/nix", true}},
		{nil, DirFlags{Argument: drv + "/a/00000000000000000000000000000000-y"}, Dirs{"/w/store", "/w/store", "/w/var/nix", "/w/var/log/nix", "/etc/nix", true}},
		{nil, DirFlags{Argument: "/plain/file"}, Dirs{"/nix/store", "/nix/store", "/nix/var/nix", "/nix/var/log/nix", "/etc/nix", false}},
		{nil, DirFlags{Argument: "x"}, Dirs{"/nix/store", "/nix/store", "/nix/var/nix", "/nix/var/log/nix", "/etc/nix", false}},
		{map[string]string{"NIX_STATE_DIR": "/st", "NIX_LOG_DIR": "/lg", "NIX_CONF_DIR": "/cf"}, DirFlags{StoreDir: "/p/s"},
			Dirs{"/p/s", "/p/s", "/st", "/lg", "/cf", false}},
		{map[string]string{"NIX_STATE_DIR": "/st", "NIX_LOG_DIR": "/lg", "NIX_CONF_DIR": "/cf"},
			DirFlags{StateDir: "/fs", LogDir: "/fl", ConfDir: "/fc"}, Dirs{"/nix/store", "/nix/store", "/fs", "/fl", "/fc", false}},
		{nil, DirFlags{Root: "/mnt/"}, Dirs{"/nix/store", "/mnt/nix/store", "/mnt/nix/var/nix", "/mnt/nix/var/log/nix", "/etc/nix", false}},
		{map[string]string{"NIX_STATE_DIR": "/st"}, DirFlags{Root: "/mnt", StoreDir: "/p/s", LogDir: "/fl"},
			Dirs{"/p/s", "/mnt/p/s", "/mnt/st", "/fl", "/etc/nix", false}},
	} {
		got, err := ResolveDirs(environ(c.env), c.flags)
		if err != nil || got != c.want {
			t.Errorf("%v %+v:\n got %+v, %v\nwant %+v", c.env, c.flags, got, err, c.want)
		}
	}
}

func TestResolveDirsErrors(t *testing.T) {
	for want, f := range map[string]DirFlags{
		"store directory 'x' is not an absolute path":         {StoreDir: "x"},
		"the store directory cannot be '/'":                   {StoreDir: "/"},
		"root directory 'r' is not an absolute path":          {Root: "r"},
		"state directory 's' is not an absolute path":         {StateDir: "s"},
		"log directory 'l' is not an absolute path":           {LogDir: "l"},
		"configuration directory 'c' is not an absolute path": {ConfDir: "c"},
	} {
		if _, err := ResolveDirs(noEnv, f); err == nil || err.Error() != want {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestCacheDir(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		root bool
		want string
	}{
		{map[string]string{"HOME": "/h"}, false, "/h/.cache/gobuild"},
		{map[string]string{"HOME": "/h"}, true, "/var/cache/gobuild"},
		{map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/x"}, false, "/x/gobuild"},
		{map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "x"}, false, "/h/.cache/gobuild"},
		{nil, false, ""},
	} {
		if got := CacheDir(environ(c.env), c.root); got != c.want {
			t.Errorf("%v, root %v: '%s', want '%s'", c.env, c.root, got, c.want)
		}
	}
}
