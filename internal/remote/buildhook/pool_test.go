package buildhook

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/remote"
	"gobuild/internal/store/pathlock"
)

// clock is a time that only tests change.
type clock struct{ now time.Time }

func newPoolOf(t *testing.T, c *clock, text bool, machines ...remote.Machine) *pool {
	t.Helper()
	return newPool(&Options{Machines: machines, LoadDir: t.TempDir() + "/current-load", Now: func() time.Time { return c.now }}, text)
}

func machine(uri string, jobs int, speed float64, features ...string) remote.Machine {
	return remote.Machine{URI: uri, Systems: []string{"s"}, MaxJobs: jobs, Speed: speed, Features: features}
}

// take chooses machines until there is none.
func take(t *testing.T, p *pool, r *request) (uris []string, last finding) {
	t.Helper()
	for {
		f, err := p.choose(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.seat == nil {
			return uris, f
		}
		uris = append(uris, f.seat.URI)
		t.Cleanup(f.seat.lock.Close)
	}
}

func TestChoice(t *testing.T) {
	mandatory := machine("ssh://m", 1, 1)
	mandatory.Mandatory = []string{"big"}
	for name, test := range map[string]struct {
		machines []remote.Machine
		request  request
		want     string
		waiting  bool
	}{
		"by load":            {[]remote.Machine{machine("a", 2, 1), machine("b", 2, 1)}, request{platform: "s"}, "a b a b", true},
		"by speed":           {[]remote.Machine{machine("slow", 2, 1), machine("fast", 2, 2)}, request{platform: "s"}, "fast slow fast slow", true},
		"by load for speed":  {[]remote.Machine{machine("slow", 1, 1), machine("fast", 5, 4)}, request{platform: "s"}, "fast slow fast fast fast fast", true},
		"others' platform":   {[]remote.Machine{machine("a", 1, 1)}, request{platform: "t"}, "", false},
		"any platform":       {[]remote.Machine{machine("a", 1, 1)}, request{platform: "builtin"}, "a", true},
		"no jobs":            {[]remote.Machine{machine("a", 0, 1)}, request{platform: "s"}, "", false},
		"features":           {[]remote.Machine{machine("a", 1, 1), machine("b", 1, 1, "kvm")}, request{platform: "s", features: []string{"kvm"}}, "b", true},
		"no such feature":    {[]remote.Machine{machine("a", 1, 1, "kvm")}, request{platform: "s", features: []string{"kvm", "big"}}, "", false},
		"mandatory, not met": {[]remote.Machine{mandatory}, request{platform: "s"}, "", false},
		"mandatory, met":     {[]remote.Machine{mandatory}, request{platform: "s", features: []string{"big"}}, "ssh://m", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, last := take(t, newPoolOf(t, &clock{}, false, test.machines...), &test.request)
			if strings.Join(got, " ") != test.want || last.waiting != test.waiting {
				t.Errorf("%v, waiting: %v", got, last.waiting)
			}
			if len(last.reasons) != len(test.machines) {
				t.Errorf("reasons: %q", last.reasons)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	m := machine("ssh://m", 1, 1)
	m.Mandatory = []string{"big"}
	p := newPoolOf(t, &clock{}, false, machine("ssh://a", 1, 1), machine("ssh://b", 3, 1), m, machine("ssh://z", 0, 1))
	f, err := p.choose(&request{platform: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.seat.lock.Close()
	want := []string{
		"not on 'ssh://b': another is better: 0 of 3 slots are taken, and its speed is 1",
		"not on 'ssh://m': it takes only what requires [big]",
		"not on 'ssh://z': it takes no jobs",
	}
	if f.seat.URI != "ssh://a" || !slices.Equal(f.reasons, want) {
		t.Errorf("%q", f.reasons)
	}
	for _, r := range []request{{platform: "x"}, {platform: "s", features: []string{"kvm"}}} {
		f, err := p.choose(&r)
		if err != nil {
			t.Fatal(err)
		}
		if f.seat != nil || f.waiting {
			t.Error("a machine that does not fit")
		}
	}
}

// TestFilesOfLocks: real Nix agrees with us by these names.
func TestFilesOfLocks(t *testing.T) {
	long := "ssh://" + strings.Repeat("x", 300)
	two := machine("ssh://me@h", 1, 1)
	two.Systems = []string{"s", "t"}
	for _, test := range []struct {
		m    remote.Machine
		text bool
		want string
	}{
		{machine("ssh://h", 1, 1), false, "ssh:__h-0"},
		{machine("/nix/other", 1, 1), false, "_nix_other-0"},
		{machine(long, 1, 1), false, "n7CTU+qj2G+s0xYgHdZQuw==-0"},
		{two, true, "s+t-me@h-0"},
	} {
		p := newPoolOf(t, &clock{}, test.text, test.m)
		if got, _ := take(t, p, &request{platform: "s"}); len(got) != 1 {
			t.Fatalf("%v", got)
		}
		names, _ := filepath.Glob(p.dir + "/*-0")
		if len(names) != 1 || len(test.m.URI) < 100 && filepath.Base(names[0]) != test.want || len(filepath.Base(names[0])) > 100 {
			t.Errorf("%q, want '%s'", names, test.want)
		}
		if _, err := os.Stat(p.dir + "/main-lock"); err != nil {
			t.Error(err)
		}
	}
}

func TestBackOff(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	p := newPoolOf(t, c, false, machine("ssh://a", 1, 1))
	r := &request{platform: "s"}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var pauses []time.Duration
	for n := 1; n <= 10; n++ {
		pause, err := p.lose(p.machines[0], c.now, errors.New("port 22: Connection refused"))
		if err != nil {
			t.Fatal(err)
		}
		pauses = append(pauses, pause)
		other := newPool(&Options{Machines: []remote.Machine{machine("ssh://a", 1, 1)}, LoadDir: p.dir, Now: p.now}, false)
		f, err := other.choose(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.seat != nil || f.waiting != (n < 5) || !strings.Contains(f.reasons[0], "Connection refused") {
			t.Errorf("after %d failures: %+v", n, f)
		}
		again, err := other.lose(other.machines[0], c.now.Add(-time.Second), errors.New("the same"))
		if err != nil || again != pause {
			t.Errorf("a failure at the same time: %s, %v", again, err)
		}
		c.now = c.now.Add(pause)
		if f, err = other.choose(r); err != nil || f.seat != nil { // it lost it itself, in this request
			t.Errorf("%+v, %v", f, err)
		}
		other.machines[0].lost = false
		if f, err = other.choose(r); err != nil || f.seat == nil {
			t.Fatalf("after the pause: %+v, %v", f, err)
		}
		f.seat.lock.Close()
	}
	want := []time.Duration{4, 8, 16, 32, 64, 128, 256, 512, 600, 600}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("%v", pauses)
	}
	p.praise(p.machines[0])
	if d := p.down(p.machines[0]); d.Failures != 0 {
		t.Errorf("%+v", d)
	}
	if names, _ := filepath.Glob(p.dir + "/*.down*"); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestStrangeDownFiles: others may write to the directory.
func TestStrangeDownFiles(t *testing.T) {
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	p := newPoolOf(t, c, false, machine("ssh://a", 1, 1))
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := p.machines[0].file + downSuffix
	for name, make := range map[string]func() error{
		"text":     func() error { return os.WriteFile(file, []byte("hello"), 0o644) },
		"negative": func() error { return os.WriteFile(file, []byte(`{"Failures":-3}`), 0o644) },
		"far future": func() error {
			return os.WriteFile(file, []byte(`{"Failures":1,"Until":"2999-01-01T00:00:00Z"}`), 0o644)
		},
		"link":      func() error { return os.Symlink("/etc/passwd", file) },
		"directory": func() error { return os.Mkdir(file, 0o755) },
	} {
		os.Remove(file)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		f, err := p.choose(&request{platform: "s"})
		if err != nil || f.seat == nil {
			t.Errorf("%s: %+v, %v", name, f, err)
			continue
		}
		f.seat.lock.Close()
	}
}

func TestUploadLock(t *testing.T) {
	p := newPoolOf(t, &clock{}, false, machine("ssh://a", 1, 1))
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := p.machines[0]
	first, err := m.lockUpload(nil)
	if err != nil {
		t.Fatal(err)
	}
	var slept time.Duration
	if _, err := m.lockUpload(func(d time.Duration) { slept += d }); !errors.Is(err, errStillBusy) || slept < uploadPatience-time.Second {
		t.Errorf("%v after %s", err, slept)
	}
	second, err := m.lockUpload(func(time.Duration) { first.Close() })
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if _, ok, err := pathlock.LockFile(p.dir+"/ssh:__a.upload-lock", pathlock.Exclusive, pathlock.Try); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
