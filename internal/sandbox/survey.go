package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// nodeKind is what a source on the host is, and so what its place in the
// sandbox must be.
type nodeKind uint8

const (
	kindDir nodeKind = iota
	kindFile
	kindLink // made anew
)

// A node is something of the host that goes into the sandbox.
type node struct {
	target string
	source string
	kind   nodeKind
	link   string // target text of a link
}

// A survey is all that a plan depends on: facts about the host, the policy and
// the build. Making it reads the file system; planning from it is pure.
type survey struct {
	rootless bool
	userNS   bool // the builder gets a user namespace

	hostUID, hostGID uint32 // the builder's ids on the host
	uid, gid         uint32 // as it sees them itself

	chroot, wrapper string
	storeDir        string
	buildDir        string // inside
	sandboxed       bool
	network         bool

	binds       []node // sorted by target, which are distinct
	inputs      []node // sorted; targets are names in the store directory
	shm, pts    bool   // the host has them
	shmSize     string
	remount     uint64 // flags for making a mount read-only on kernels without mount_setattr; 0: not needed
	personality uint64
	coreLimit   uint64 // hard limit
	filter      []byte // nil: none
	newPrivs    bool

	command Command
}

// The ids of a builder in its own user namespace.
const (
	sandboxUID = 1000
	sandboxGID = 100
)

func (w *World) survey(c Command) (*survey, error) {
	p, b := w.policy, w.build
	s := &survey{
		rootless: os.Geteuid() != 0, sandboxed: b.Sandboxed, network: b.Network,
		chroot: w.chroot, wrapper: w.wrapper, storeDir: p.StoreDir, buildDir: w.BuildDirInside(),
		shmSize: p.devShmSize(), newPrivs: p.AllowNewPrivileges, command: c,
		personality: personality(b.System, runtime.GOARCH, p.ImpersonateLinux26),
	}
	s.identify(b.User, p)
	if p.FilterSyscalls {
		s.filter = p.systemFilter()
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return nil, fmt.Errorf("getting the limit of core dumps: %w", err)
	}
	s.coreLimit = core.Max
	if !b.Sandboxed {
		return s, nil
	}
	return s, w.surveySandbox(s)
}

// identify decides who the builder is, inside and outside.
func (s *survey) identify(u *User, p *Policy) {
	if u != nil {
		s.hostUID, s.hostGID = u.UID, u.GID
	} else {
		s.hostUID, s.hostGID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	s.userNS = s.sandboxed && (s.rootless || p.host().userNS)
	s.uid, s.gid = s.hostUID, s.hostGID
	if s.userNS {
		s.uid, s.gid = sandboxUID, sandboxGID
	}
}

// hostFacts are what do not change while an engine runs.
type hostFacts struct {
	userNS    bool // root can make user namespaces
	shm, pts  bool
	oldMounts bool // mounts cannot be changed by mount_setattr
}

// host looks at the machine once.
func (p *Policy) host() *hostFacts {
	if p.facts == nil {
		p.facts = &hostFacts{
			userNS: userNamespaces(), shm: exists("/dev/shm"), pts: exists("/dev/pts/ptmx"),
			oldMounts: errors.Is(unix.MountSetattr(-1, "", 0, &unix.MountAttr{}), unix.ENOSYS),
		}
	}
	return p.facts
}

// userNamespaces tells whether the kernel lets root make them.
func userNamespaces() bool {
	_, err := os.Stat("/proc/self/ns/user")
	limit, _ := os.ReadFile("/proc/sys/user/max_user_namespaces")
	return err == nil && strings.TrimSpace(string(limit)) != "0"
}

func (w *World) surveySandbox(s *survey) (err error) {
	if s.binds, err = w.surveyBinds(); err != nil {
		return err
	}
	if s.inputs, err = w.surveyInputs(); err != nil {
		return err
	}
	h := w.policy.host()
	s.shm, s.pts = h.shm, h.pts
	if h.oldMounts {
		s.remount, err = remountFlags(w.policy.realStoreDir())
	}
	return err
}

// remountFlags are those that the mount of dir has, which a read-only remount
// must repeat.
func remountFlags(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("getting the mount flags of '%s': %w", dir, err)
	}
	const same = unix.MS_NOATIME | unix.MS_NODIRATIME // the others differ in name only
	kept := uint64(st.Flags) & (unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | same)
	if st.Flags&unix.ST_RELATIME != 0 {
		kept |= unix.MS_RELATIME
	}
	return kept | unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// surveyBinds lists what is bound beside the store: what was asked for, the
// devices, and for builders with a network what they need to use it.
func (w *World) surveyBinds() ([]node, error) {
	nodes := map[string]node{}
	for _, b := range slices.Concat(w.policy.Paths, w.build.Binds) {
		if err := w.checkBind(b); err != nil {
			return nil, err
		}
		if within(b.Source, "/proc") && within("/proc", b.Source) || w.inStore(b.Target) {
			continue
		}
		n, err := look(b.Target, w.realSource(b.Source), os.Lstat)
		switch {
		case err == nil:
			nodes[b.Target] = n
		case !b.Optional || !errors.Is(err, fs.ErrNotExist):
			return nil, &SetupError{Step: fmt.Sprintf("binding '%s'", b.Target), Err: err,
				Hint: "an item of 'sandbox-paths' that may be missing ends in '?'"}
		}
	}
	for _, b := range w.hostFiles(nodes) {
		if _, ok := nodes[b.Target]; ok {
			continue
		}
		if n, err := look(b.Target, w.realSource(b.Source), os.Stat); err == nil {
			nodes[b.Target] = n
		}
	}
	return sorted(nodes), nil
}

func sorted(nodes map[string]node) []node {
	list := make([]node, 0, len(nodes))
	for _, target := range slices.Sorted(maps.Keys(nodes)) {
		list = append(list, nodes[target])
	}
	return list
}

// checkBind refuses binds that would hide what every builder needs.
func (w *World) checkBind(b Bind) error {
	if err := b.check(); err != nil {
		return err
	}
	if b.Target == w.policy.StoreDir || b.Target == w.policy.sandboxBuildDir() {
		return fmt.Errorf("sandbox path '%s' would hide the builder's own directory", b.Target)
	}
	if w.inStore(b.Target) && b.Target != b.Source && path.Dir(b.Target) != w.policy.StoreDir {
		return fmt.Errorf("sandbox path '%s' lies inside a store path", b.Target)
	}
	return nil
}

// inStore tells whether a target lies in the store, where it is an input.
func (w *World) inStore(target string) bool { return within(target, w.policy.StoreDir) }

// realSource is where a source is that may have been given as a store path.
func (w *World) realSource(source string) string {
	if rest, ok := strings.CutPrefix(source, w.policy.StoreDir+"/"); ok {
		return path.Join(w.policy.realStoreDir(), rest)
	}
	return source
}

// hostFiles are the devices and network files that are bound if they exist.
func (w *World) hostFiles(asked map[string]node) []Bind {
	var binds []Bind
	add := func(names ...string) {
		for _, n := range names {
			binds = append(binds, Bind{Target: n, Source: n})
		}
	}
	if _, ok := asked["/dev"]; !ok {
		add("/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero")
		if w.policy.KVM {
			add("/dev/kvm")
		}
	}
	if _, ok := asked["/etc"]; !ok && w.build.Network {
		add("/etc/resolv.conf", "/etc/services", "/etc/hosts")
		if w.policy.CACert != "" {
			binds = append(binds, Bind{Target: "/etc/ssl/certs/ca-certificates.crt", Source: w.policy.CACert})
		}
	}
	return binds
}

// look finds out what source is. With os.Stat it is never a link.
func look(target, source string, stat func(string) (fs.FileInfo, error)) (node, error) {
	info, err := stat(source)
	if err != nil {
		return node{}, err
	}
	n := node{target: target, source: source, kind: kindFile}
	switch {
	case info.IsDir():
		n.kind = kindDir
	case info.Mode()&fs.ModeSymlink != 0:
		n.kind = kindLink
		n.link, err = os.Readlink(source)
	}
	return n, err
}

// surveyInputs lists the input closure and the binds that lie in the store.
func (w *World) surveyInputs() ([]node, error) {
	nodes := make(map[string]node, len(w.build.Inputs))
	add := func(logical, real string) error {
		name := path.Base(logical)
		if path.Dir(logical) != w.policy.StoreDir || name == "." || name == ".." {
			return fmt.Errorf("input '%s' is not a store path", logical)
		}
		n, err := look(name, real, os.Lstat)
		if err != nil {
			return &SetupError{Step: fmt.Sprintf("binding the input '%s'", logical), Err: err}
		}
		nodes[name] = n
		return nil
	}
	for _, i := range w.build.Inputs {
		if err := add(i.Logical, i.Real); err != nil {
			return nil, err
		}
	}
	for _, b := range slices.Concat(w.policy.Paths, w.build.Binds) {
		if path.Dir(b.Target) != w.policy.StoreDir {
			continue // below a store path: its whole path is an input
		}
		if err := add(b.Target, w.realSource(b.Source)); err != nil && !(b.Optional && errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
	}
	return sorted(nodes), nil
}

// personality is the execution domain of a builder: never a random address
// layout, what a 32-bit system expects on a 64-bit one, and an old kernel's
// version for the systems that had that kernel.
func personality(system, goarch string, linux26 bool) uint64 {
	persona := uint64(addrNoRandomize)
	if goarch == "amd64" && system == "i686-linux" ||
		goarch == "arm64" && (strings.HasPrefix(system, "armv") && strings.HasSuffix(system, "-linux")) {
		persona |= perLinux32
	}
	if linux26 && (system == "i686-linux" || system == "x86_64-linux") {
		persona |= uname26
	}
	return persona
}

const (
	addrNoRandomize = 0x0040000
	perLinux32      = 0x0008
	uname26         = 0x0020000
)
