package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// A Policy is what the settings say about all builds of a run. Its paths are
// absolute and clean.
type Policy struct {
	StoreDir     string // as builders see it
	RealStoreDir string // where it really is; "" is StoreDir
	StateDir     string // holds the build directories unless BuildDir is set
	BuildDir     string // "" is StateDir/builds

	SandboxBuildDir string // the build directory as a sandboxed builder sees it; "" is /build
	Paths           []Bind // sandbox-paths
	CACert          string // certificates for builders with a network; "" or missing: none
	DevShmSize      string // of /dev/shm, as tmpfs takes it; "" is 50%
	KVM             bool   // offer /dev/kvm if the host has it

	FilterSyscalls     bool
	AllowNewPrivileges bool
	ImpersonateLinux26 bool

	KeepFor *Owner // gets the build directories that are kept; nil: they stay the builder's

	next   int        // number of the next build directory
	filter []byte     // the system call filter, once assembled
	facts  *hostFacts // once looked at
	init   string     // the program to start builders with, once chosen
}

// An Input is a store path that the builder may read.
type Input struct {
	Logical string // as the builder sees it
	Real    string // where it is on the host
}

// A Build is what one build asks for.
type Build struct {
	DrvBase   string // "<hash>-<name>.drv"
	Sandboxed bool
	Network   bool   // keep the host's network: fixed-output builds
	System    string // of the derivation
	User      *User  // nil only for an ordinary user, whose builds run under his own id
	Inputs    []Input
	Binds     []Bind // beside the policy's; a later one wins over an earlier one with its target
}

// A Command is the builder as it is executed. Nothing is searched or added.
type Command struct {
	Path string
	Argv []string
	Env  []string
	Dir  string // "" is the build directory

	// Program, unless 0, is a descriptor of what to execute, which need not be in
	// the sandbox; Path is then only its name for messages. Files are descriptors
	// that the builder gets, numbered from FirstFile on; at most 15. All of them
	// stay the caller's and are not needed after Start.
	Program int
	Files   []int
}

// FirstFile is the builder's number for the first of a Command's Files.
const FirstFile = firstKept

// descriptors are what the init keeps open for the builder, the program last.
func (c *Command) descriptors() []int {
	fds := c.Files[:len(c.Files):len(c.Files)]
	if c.Program != 0 {
		fds = append(fds, c.Program)
	}
	return fds
}

// A Bind makes a file or directory of the host appear in the sandbox.
type Bind struct {
	Target   string // in the sandbox
	Source   string // on the host
	Optional bool   // skip it if Source does not exist
}

// ParseBind reads an item of sandbox-paths: 'path' or 'target=source', with a
// trailing '?' if it may be missing.
func ParseBind(item string) (Bind, error) {
	text, optional := strings.CutSuffix(item, "?")
	target, source, ok := strings.Cut(text, "=")
	if !ok {
		source = target
	}
	b := Bind{Target: path.Clean(target), Source: path.Clean(source), Optional: optional}
	return b, b.check()
}

// check tells whether both paths can be used at all.
func (b Bind) check() error {
	for _, p := range []string{b.Target, b.Source} {
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("sandbox path '%s' is not absolute", p)
		}
		if strings.IndexByte(p, 0) >= 0 {
			return errors.New("sandbox path contains a NUL character")
		}
	}
	if path.Clean(b.Target) == "/" {
		return errors.New("sandbox path '/' would hide the sandbox itself")
	}
	return nil
}

// within tells whether p is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

func (p *Policy) realStoreDir() string {
	if p.RealStoreDir != "" {
		return p.RealStoreDir
	}
	return p.StoreDir
}

func (p *Policy) buildDir() string {
	if p.BuildDir != "" {
		return p.BuildDir
	}
	return path.Join(p.StateDir, "builds")
}

func (p *Policy) sandboxBuildDir() string {
	if p.SandboxBuildDir != "" {
		return p.SandboxBuildDir
	}
	return "/build"
}

func (p *Policy) devShmSize() string {
	if p.DevShmSize != "" {
		return p.DevShmSize
	}
	return "50%"
}

// check refuses settings that would make a sandbox other than asked for.
func (p *Policy) check() error {
	dir := p.sandboxBuildDir()
	if within(p.StoreDir, dir) {
		return errors.New("`sandbox-build-dir` must not contain the storeDir")
	}
	if !strings.HasPrefix(dir, "/") || path.Clean(dir) != dir || within(dir, p.StoreDir) {
		return fmt.Errorf("'%s' cannot be used as 'sandbox-build-dir'", dir)
	}
	if strings.Trim(p.devShmSize(), "0123456789kmgKMG%") != "" {
		return fmt.Errorf("setting 'sandbox-dev-shm-size' has invalid value '%s'", p.devShmSize())
	}
	return nil
}

// systemFilter is the filter for the kernel, assembled at its first use.
func (p *Policy) systemFilter() []byte {
	if p.filter == nil {
		p.filter = encodeFilter(filterProgram())
	}
	return p.filter
}
