package goal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"gobuild/internal/builtin"
	"gobuild/internal/sandbox"
	"gobuild/internal/store/drv"
	"gobuild/internal/worker/proc"
)

// Builtins is what the builders that are built in need.
type Builtins struct {
	// Program carries them out. It is asked for a descriptor, which stays its
	// own, when one is started; nil: there are none.
	Program func() (fd int, err error)

	Fetch     builtin.Fetch // for downloads, but for what these files contain and the derivation says
	NetrcFile string        // passwords; "" or missing: none
	CAFile    string        // certificates; "" or missing: the system's
}

// builtinName is the name of a builder that is built in.
func (a *attempt) builtinName() string {
	return strings.TrimPrefix(a.drv.Builder, drv.BuiltinPrefix)
}

// refuseBuiltin fails a derivation with a builder that does not exist, as if it
// had been started.
func (d *Derivation) refuseBuiltin() (err error) {
	a, e := d.attempt, d.eng
	if a.log, err = e.openLog(d.path); err != nil {
		return err
	}
	d.announce("")
	d.logged([]byte(fmt.Sprintf("error: unsupported builtin builder '%s'\n", a.builtinName())))
	_ = a.lines.Close()
	return d.buildFailed(&BuildError{
		Drv: d.path, Status: PermanentFailure, Tail: a.tail.Lines(), Logged: a.log.path != "",
		Err: fmt.Errorf("builder for '%s' failed with exit code 1", d.path),
	})
}

// knowsBuiltin tells whether the derivation's builder is one that is built in.
func (d *Derivation) knowsBuiltin() bool {
	return d.eng.opt.Builtins.Program != nil && builtin.Known(d.attempt.builtinName())
}

// builtinCommand is a builder that is built in. Its environment is none of the
// derivation's business: the program would obey some variables, and others can
// read it. The caller closes the command's files.
func (d *Derivation) builtinCommand() (sandbox.Command, error) {
	a, e := d.attempt, d.eng
	program, err := e.opt.Builtins.Program()
	if err != nil {
		return sandbox.Command{}, err
	}
	request, err := d.builtinRequest()
	if err != nil {
		return sandbox.Command{}, err
	}
	text, err := request.Encode()
	if err != nil {
		return sandbox.Command{}, err
	}
	fd, err := sandbox.MemoryFile(text)
	if err != nil {
		return sandbox.Command{}, err
	}
	dir := a.world.BuildDirInside()
	return sandbox.Command{
		Path: a.drv.Builder, Argv: builtin.Argv(sandbox.FirstFile),
		Env:     []string{"NIX_BUILD_TOP=" + dir, "TMPDIR=" + dir},
		Program: program, Files: []int{fd},
	}, nil
}

// builtinRequest is what the program is to do.
func (d *Derivation) builtinRequest() (*builtin.Request, error) {
	a, e := d.attempt, d.eng
	r := &builtin.Request{Builder: a.builtinName(), Env: make(map[string][]byte, len(a.drv.Env))}
	told := d.told()
	for _, v := range a.drv.Env {
		r.Env[v.Name] = []byte(told.apply(v.Value))
	}
	if r.Builder != builtin.Fetchurl {
		return r, nil
	}
	b := &e.opt.Builtins
	f := b.Fetch
	r.Fetch = &f
	f.Fixed = a.drv.IsFixed()
	if o := a.drv.Outputs[0]; f.Fixed && !strings.Contains(o.MethodAlgo, ":") {
		f.FlatHash = o.MethodAlgo + "/" + o.Hash
	}
	f.Proxies = map[string]string{}
	for _, name := range builtin.ProxyVariables {
		if v := e.opt.Getenv(name); v != "" {
			f.Proxies[name] = v
		}
	}
	netrc, err := ifThere(b.NetrcFile)
	if err != nil {
		return nil, fmt.Errorf("reading the passwords for servers (netrc-file): %w", err)
	}
	f.Netrc = string(netrc)
	if f.CAs, err = ifThere(b.CAFile); err != nil {
		return nil, fmt.Errorf("reading the certificates that are trusted (ssl-cert-file): %w", err)
	}
	return r, nil
}

// ifThere reads a file that need not be there.
func ifThere(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// closeFiles closes what a command was given for its builder.
func closeFiles(c *sandbox.Command) {
	proc.Close(c.Files...)
	c.Files = nil
}
