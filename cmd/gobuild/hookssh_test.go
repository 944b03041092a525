package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/config"
)

func TestNamesOfTheProgram(t *testing.T) {
	for argv, want := range map[string]string{
		"gobuild realise x":                   "realise x",
		"/nix/libexec/build-remote 3":         "hook ssh 3",
		"build-remote x86_64-linux 0 0 0":     "hook ssh x86_64-linux 0 0 0",
		"gobuild __build-remote 3":            "hook ssh 3",
		"gobuild --root /x hook ssh 3":        "--root /x hook ssh 3",
		"gobuild build-remote":                "build-remote",
		"gobuild realise __build-remote-x":    "realise __build-remote-x",
		"/nix/libexec/build-remote --root /x": "hook ssh --root /x",
	} {
		if got := strings.Join(commandLine(strings.Fields(argv)), " "); got != want {
			t.Errorf("%s: %s, want %s", argv, got, want)
		}
	}
	if got := commandLine(nil); len(got) != 0 {
		t.Errorf("no name at all: %q", got)
	}
}

// TestStoresOfEngines: a hook must find the store that its engine means.
func TestStoresOfEngines(t *testing.T) {
	usual := config.Dirs{Store: "/nix/store", RealStore: "/nix/store", State: "/nix/var/nix", Log: "/nix/var/log/nix"}
	below := config.Dirs{Store: "/nix/store", RealStore: "/r/nix/store", State: "/r/nix/var/nix", Log: "/r/nix/var/log/nix"}
	moved := map[string]string{"NIX_STATE_DIR": "/state", "NIX_LOG_DIR": "/log"}
	for _, test := range []struct {
		url  string
		env  map[string]string
		want config.Dirs
	}{
		{"", nil, usual},
		{"auto", nil, usual},
		{"local", nil, usual},
		{"daemon", nil, usual},
		{"local", moved, config.Dirs{Store: "/nix/store", RealStore: "/nix/store", State: "/state", Log: "/log"}},
		{"/r", nil, below},
		{"/r", moved, below},
		{"local?root=/r", moved, below},
		{"local?root=%2Fr", nil, below},
		{"local?store=/s&state=/t", nil, config.Dirs{Store: "/s", RealStore: "/s", State: "/t", Log: "/nix/var/log/nix"}},
		{"local?store=/s&real=/x/s&state=/t&log=/l", moved, config.Dirs{Store: "/s", RealStore: "/x/s", State: "/t", Log: "/l"}},
	} {
		a := &app{stderr: io.Discard, env: func(name string) string { return test.env[name] }}
		s := &session{app: a}
		err := s.useStore(test.url)
		s.dirs.Conf = ""
		if err != nil || s.dirs != test.want {
			t.Errorf("%s: %+v, %v", test.url, s.dirs, err)
		}
	}
	for url, want := range map[string]string{
		"http://h": "cannot build for the store 'http://h'", "ssh://h": "a build hook must write to it itself",
		"local?real=x": "is not an absolute path", "local?root=x": "is not an absolute path", "local?store=%zz": "bad parameter 'store'",
	} {
		s := &session{app: &app{stderr: io.Discard, env: func(string) string { return "" }}}
		if err := s.useStore(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want '%s'", url, err, want)
		}
	}
}

// TestOwnEngineIsKnown: our hook tells our engine from others by a setting.
func TestOwnEngineIsKnown(t *testing.T) {
	c, err := config.Defaults(func(string) string { return "" }, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(c.Entries(), func(e config.Entry) bool { return e.Name == ownSetting }) {
		t.Errorf("hooks are not sent the setting '%s'", ownSetting)
	}
}
