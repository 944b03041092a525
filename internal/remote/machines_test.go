package remote

import (
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

func lists(files map[string]string) *Lists {
	return &Lists{System: "x86_64-linux", ReadFile: func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}}
}

// plain is a machine of which only the address was given.
func plain(uri string) Machine {
	return Machine{URI: uri, Systems: []string{"x86_64-linux"}, MaxJobs: 1, Speed: 1}
}

func TestLists(t *testing.T) {
	full := Machine{
		URI: "ssh://root@big", Systems: []string{"i686-linux", "x86_64-linux"}, Key: "/key", MaxJobs: 8, Speed: 2.5,
		Features: []string{"kvm", "big-parallel"}, Mandatory: []string{"benchmark"}, HostKey: "c3NoLWVkMjU1MTkgQUFBQQ==",
	}
	for text, want := range map[string][]Machine{
		"":                         nil,
		" \n ; ;\n# nobody\n":      nil,
		"mac":                      {plain("ssh://mac")},
		"a;b\nc # d ; e":           {plain("ssh://a"), plain("ssh://b"), plain("ssh://c"), plain("ssh://e")},
		"ssh-ng://a - - - - - - -": {plain("ssh-ng://a")},
		"/some/where":              {plain("/some/where")},
		"local?root=/x":            {plain("local?root=/x")},
		"daemon":                   {plain("daemon")},
		"h x,y - 0 0":              {{URI: "ssh://h", Systems: []string{"x", "y"}, MaxJobs: 0, Speed: 1}},
		"ssh://root@big i686-linux,x86_64-linux /key 8 2.5 kvm,big-parallel benchmark c3NoLWVkMjU1MTkgQUFBQQ==": {full},
		"@/list":           {plain("ssh://l1"), plain("ssh://l2"), plain("ssh://l3")},
		"a ; @/list ;b":    {plain("ssh://a"), plain("ssh://l1"), plain("ssh://l2"), plain("ssh://l3"), plain("ssh://b")},
		"@/not/there\n a":  {plain("ssh://a")},
		"mac x86_64-linux": {plain("ssh://mac")},
	} {
		got, err := lists(map[string]string{"/list": "l1\n@/more\r\nl3", "/more": "l2"}).Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestBadLists(t *testing.T) {
	for text, want := range map[string]string{
		"- x86_64-linux":            "bad machine specification: store URL was not found at the first column of a row: '- x86_64-linux'",
		"h - - many":                "bad machine specification: failed to convert column #3 in a row: 'h - - many'",
		"h - - -1":                  "failed to convert column #3",
		"h - - 1 -2":                "failed to convert column #4",
		"h - - 1 NaN":               "failed to convert column #4",
		"h - - 1 1 - - ssh-ed25519": "column #7 in a row is not valid base64",
		"@/loop":                    "do they include each other?",
		"a;@/secret":                "reading the list of machines '/secret': denied",
	} {
		l := lists(map[string]string{"/loop": "a\n@/loop"})
		read := l.ReadFile
		l.ReadFile = func(name string) ([]byte, error) {
			if name == "/secret" {
				return nil, errors.New("denied")
			}
			return read(name)
		}
		if _, err := l.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want '%s'", text, err, want)
		}
	}
}

func TestFit(t *testing.T) {
	m := Machine{Systems: []string{"a", "b"}, Features: []string{"kvm"}, Mandatory: []string{"slow"}}
	if !m.Runs("b") || m.Runs("c") || !m.Runs("builtin") {
		t.Error("platforms")
	}
	if !m.Supports(nil) || !m.Supports([]string{"kvm", "slow"}) || m.Supports([]string{"big"}) {
		t.Error("features")
	}
	if m.Admits(nil) || m.Admits([]string{"kvm"}) || !m.Admits([]string{"slow"}) {
		t.Error("mandatory features")
	}
}

const timeouts = " -oConnectTimeout=15 -oServerAliveInterval=15 -oServerAliveCountMax=4 | nix-store --serve --write"

func TestCommands(t *testing.T) {
	for _, test := range []struct {
		m    Machine
		s    SSH
		want string // words with spaces between; the last argument after a bar
	}{
		{Machine{URI: "ssh://mac"}, SSH{}, "ssh mac -x -a" + timeouts},
		{Machine{URI: "ssh-ng://mac"}, SSH{}, "ssh mac -x -a" + timeouts},
		{Machine{URI: "ssh://me@mac:2222", Key: "/k"}, SSH{}, "ssh me@mac -x -a -p 2222 -i /k" + timeouts},
		{Machine{URI: "ssh://[::1]:22/"}, SSH{}, "ssh ::1 -x -a -p 22" + timeouts},
		{Machine{URI: "ssh://::1"}, SSH{}, "ssh ::1 -x -a" + timeouts},
		{Machine{URI: "ssh://m?compress=true&ssh-key=/other&max-connections=1&log-fd=4", Key: "/k"}, SSH{}, "ssh m -x -a -i /other -C" + timeouts},
		{Machine{URI: "ssh://m"}, SSH{Options: []string{"-F", "/cfg"}, ConnectTimeout: 3},
			"ssh m -x -a -F /cfg -oConnectTimeout=3 -oServerAliveInterval=15 -oServerAliveCountMax=4 | nix-store --serve --write"},
		{Machine{URI: "ssh://m?remote-program=/opt/my%20nix/bin/x&remote-store=/a'b"}, SSH{},
			strings.Replace("ssh m -x -a"+timeouts, "nix-store --serve --write", `/opt/my nix/bin/x --serve --write --store '/a'\''b'`, 1)},
		{Machine{URI: "ssh://u@m"}, SSH{Transport: []string{"srun", "-w", "%h", "-n1"}}, "srun -w u@m -n1 nix-store --serve --write"},
		{Machine{URI: "ssh://m?transport=srun%20-u%20-n1&remote-program=sudo%20nix-store"}, SSH{Transport: []string{"x"}},
			"srun -u -n1 sudo nix-store --serve --write"},
		{Machine{URI: "local?root=/x"}, SSH{}, "nix-store --serve --write --store local?root=/x"},
		{Machine{URI: "/x", Features: []string{"kvm"}, Mandatory: []string{"big"}}, SSH{}, "nix-store --serve --write --store /x --option system-features kvm big"},
		{Machine{URI: "/x"}, SSH{Transport: []string{"x"}}, "nix-store --serve --write --store /x"},
	} {
		a, err := test.m.address()
		if err != nil {
			t.Errorf("%s: %v", test.m.URI, err)
			continue
		}
		argv := a.command(&test.s, "")
		got := strings.Join(argv, " ")
		if argv[0] == "ssh" {
			n := len(argv) - 1
			got = strings.Join(argv[:n], " ") + " | " + argv[n]
		}
		if got != test.want {
			t.Errorf("%s:\n%s, want\n%s", test.m.URI, got, test.want)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	for uri, want := range map[string]string{
		"ssh://-oProxyCommand=x":   "invalid SSH host name '-oProxyCommand=x'",
		"ssh://u@-oProxyCommand=x": "invalid SSH host name",
		"ssh://-u@h":               "invalid SSH host name",
		"ssh://@h":                 "invalid SSH host name",
		"ssh://":                   "invalid SSH host name ''",
		"ssh://[-x]:22":            "invalid SSH host name",
		"ssh://h:0":                "invalid port '0'",
		"ssh://h:x":                "invalid port 'x'",
		"ssh://h:99999":            "invalid port '99999'",
		"ssh://h?remote-program=":  "is empty",
		"ssh://h?x=%zz":            "bad parameter 'x'",
		"http://h":                 "cannot build in a store like 'http://h'",
		"daemon":                   "cannot build in a store like 'daemon'",
	} {
		m := Machine{URI: uri}
		if _, err := m.address(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want '%s'", uri, err, want)
		}
	}
}

func TestKnownHosts(t *testing.T) {
	const key = "c3NoLWVkMjU1MTkgQUFBQUMz" // "ssh-ed25519 AAAAC3"
	for uri, want := range map[string]string{
		"ssh://h": "h ssh-ed25519 AAAAC3\n", "ssh://u@h": "h ssh-ed25519 AAAAC3\n", "ssh://u@h:2": "[h]:2 ssh-ed25519 AAAAC3\n",
		"ssh://h?base64-ssh-public-host-key=YQ==": "h a\n",
	} {
		m := Machine{URI: uri, HostKey: key}
		a, err := m.address()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.knownHosts(); err != nil || got != want {
			t.Errorf("%s: %q, %v", uri, got, err)
		}
	}
	m := Machine{URI: "ssh://h", HostKey: "YQpiIGMK"} // two lines
	a, err := m.address()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.knownHosts(); err == nil {
		t.Error("a key of two lines")
	}
}

func FuzzLists(f *testing.F) {
	f.Add("a x86_64-linux /k 3 1.5 kvm big YQ==;@/f\n#c")
	f.Add("ssh://u@[::1]:22?transport=srun%20-n1 - - 0")
	f.Fuzz(func(t *testing.T, text string) {
		l := Lists{System: "s", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }}
		machines, err := l.Parse(text)
		if err != nil {
			return
		}
		for _, m := range machines {
			if m.MaxJobs < 0 || m.Speed <= 0 || len(m.Systems) == 0 {
				t.Errorf("%+v", m)
			}
			a, err := m.address()
			if err != nil {
				continue
			}
			argv := a.command(&SSH{}, "")
			if len(argv) < 4 || argv[0] == "ssh" && strings.HasPrefix(argv[1], "-") {
				t.Errorf("%q gives %q", m.URI, argv)
			}
		}
	})
}
