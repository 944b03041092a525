package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A place is a store that is found by its environment: the logical directory is the real one.
type place struct {
	root string
	conf string
	tmp  string
}

// place makes the description of a store; sandboxed ones get another configuration.
func (b *bench) place(name string, sandboxed bool) (*place, error) {
	p := &place{root: b.path(name), conf: b.path("conf-plain"), tmp: b.path("tmp")}
	if sandboxed {
		p.conf = b.path("conf-sandbox")
	}
	// A row that failed may have left its store.
	if err := p.dropAll(); err != nil {
		return nil, err
	}
	for _, dir := range []string{p.store(), p.state(), p.log(), p.tmp} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *place) store() string { return filepath.Join(p.root, "store") }
func (p *place) state() string { return filepath.Join(p.root, "var") }
func (p *place) log() string   { return filepath.Join(p.root, "log") }

func (p *place) env() []string {
	return []string{
		"HOME=" + p.conf, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + p.tmp,
		"NIX_REMOTE=local", "NIX_STORE_DIR=" + p.store(), "NIX_STATE_DIR=" + p.state(), "NIX_LOG_DIR=" + p.log(),
		"NIX_CONF_DIR=" + p.conf, "NIX_USER_CONF_FILES=",
	}
}

// keep sets the store aside, so that restore can bring it back as often as needed.
func (p *place) keep() error {
	return command("cp", "-a", p.root, p.root+".kept")
}

func (p *place) restore() error {
	if err := p.drop(); err != nil {
		return err
	}
	return command("cp", "-a", p.root+".kept", p.root)
}

// drop removes the store, read-only directories included, but not what was kept.
func (p *place) drop() error {
	return removeTree(p.root)
}

func (p *place) dropAll() error {
	if err := p.drop(); err != nil {
		return err
	}
	return removeTree(p.root + ".kept")
}

func removeTree(dir string) error {
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	if os.Getuid() != 0 {
		if err := command("chmod", "-R", "u+rwX", dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// writeConfs pins what depends on the machine; both engines read the same files.
func (b *bench) writeConfs() error {
	for name, sandbox := range map[string]bool{"conf-plain": false, "conf-sandbox": true} {
		conf := fmt.Sprintf("sandbox = %v\nsandbox-fallback = false\nsandbox-paths = /bin/sh=%s %s\nbuild-users-group =\nsubstituters =\nbuilders =\n"+
			"gc-reserved-space = 0\nsystem = x86_64-linux\nsystem-features =\nmax-jobs = 1\ncores = 1\n", sandbox, b.busybox, b.path("input"))
		dir := b.path(name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "nix.conf"), []byte(conf), 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(b.path("input"), 0o755)
}
