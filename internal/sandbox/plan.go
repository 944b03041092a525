package sandbox

import (
	"fmt"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A planner collects the steps of one build. Everything here is pure.
type planner struct {
	*survey
	plan
	made map[string]bool // directories of the sandbox that exist, by their path relative to its root
}

// cloneFlags are those with which the init is started. Without privileges the
// init does all of it itself: a start with a user namespace would copy the
// engine's page tables.
func (s *survey) cloneFlags() uintptr {
	if s.sandboxed && !s.rootless {
		return unix.CLONE_NEWPID
	}
	return 0
}

// plan makes the plan for a survey.
func (s *survey) plan() *plan {
	p := &planner{survey: s, made: map[string]bool{".": true}}
	p.steps = make([]step, 0, 128+2*len(s.inputs)) // most take two
	p.tie()
	if s.sandboxed {
		p.namespaces()
		p.root()
		p.contents()
		p.pivot()
	} else {
		p.do("setsid", unix.SYS_SETSID, "starting a session")
	}
	p.limits()
	p.identity()
	p.lockdown()
	p.execute()
	return &p.plan
}

// add adds a step, which is valid until the next one.
func (p *planner) add(s step) *step {
	p.steps = append(p.steps, s)
	return &p.steps[len(p.steps)-1]
}

// do adds a step that needs nothing special of the machine.
func (p *planner) do(name string, nr uint32, what string, args ...arg) *step {
	return p.add(step{name: name, nr: nr, what: what, args: args})
}

// namespaces leaves the host's namespaces.
func (p *planner) namespaces() {
	flags, text := uint64(unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS), "CLONE_NEWNS|CLONE_NEWIPC|CLONE_NEWUTS"
	if !p.network {
		flags, text = flags|unix.CLONE_NEWNET, text+"|CLONE_NEWNET"
	}
	needs, what := needsNamespaces, "making namespaces"
	if p.rootless {
		flags, text = flags|unix.CLONE_NEWUSER|unix.CLONE_NEWPID, "CLONE_NEWUSER|CLONE_NEWPID|"+text
		needs, what = needsUserNamespace, "making a user namespace and others inside it"
	}
	p.add(step{name: "unshare", nr: unix.SYS_UNSHARE, what: what, needs: needs, args: []arg{bits(flags, text)}})
	p.add(step{name: "unshare", nr: unix.SYS_UNSHARE, what: "making a cgroup namespace", needs: needsNamespaces,
		args: []arg{bits(unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP")}, ignore: []syscall.Errno{unix.EINVAL}})
	if p.rootless {
		p.mapIDs()
		p.add(step{name: "successor", nr: successor, what: "making the first process of a PID namespace", needs: needsNamespaces})
		p.tie()
	}
	p.do("setsid", unix.SYS_SETSID, "starting a session")
	if !p.network {
		p.loopback()
	}
	p.do("sethostname", unix.SYS_SETHOSTNAME, "setting the host name", str("localhost"), num(uint64(len("localhost"))))
	p.do("setdomainname", unix.SYS_SETDOMAINNAME, "setting the domain name", str("(none)"), num(uint64(len("(none)"))))
}

// mapIDs gives the builder its ids in the user namespace that the init has just
// made.
func (p *planner) mapIDs() {
	p.write("/proc/self/setgroups", "deny", needsUserMap)
	p.write("/proc/self/uid_map", fmt.Sprintf("%d %d 1\n", p.uid, p.hostUID), needsUserMap)
	p.write("/proc/self/gid_map", fmt.Sprintf("%d %d 1\n", p.gid, p.hostGID), needsUserMap)
}

// write writes an existing file.
func (p *planner) write(name, contents string, needs facility) {
	p.add(step{name: "openat", nr: unix.SYS_OPENAT, what: "writing", path: name, needs: needs, save: regFile,
		args: []arg{cwd(), str(name), bits(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY|O_CLOEXEC")}})
	p.fill(name, contents, needs)
}

// fill writes the file that has just been opened, and closes it.
func (p *planner) fill(name, contents string, needs facility) {
	p.add(step{name: "write", nr: unix.SYS_WRITE, what: "writing", path: name, needs: needs,
		args: []arg{from(regFile), str(contents), num(uint64(len(contents)))}})
	p.do("close", unix.SYS_CLOSE, "closing", from(regFile)).path = name
}

// loopback brings up the only interface of a fresh network namespace.
func (p *planner) loopback() {
	const what = "bringing up the loopback interface"
	request := make([]byte, unix.SizeofSockaddrInet4+unix.IFNAMSIZ+16)
	copy(request, "lo")
	copy(request[unix.IFNAMSIZ:], words(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)[:2])
	p.add(step{name: "socket", nr: unix.SYS_SOCKET, what: what, save: regFile, args: []arg{
		bits(unix.AF_INET, "AF_INET"), bits(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), num(0)}})
	p.do("ioctl", unix.SYS_IOCTL, what, from(regFile), bits(unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"),
		bytesArg(request, `{"lo", IFF_UP|IFF_LOOPBACK|IFF_RUNNING}`))
	p.do("close", unix.SYS_CLOSE, what, from(regFile))
}

// root mounts the file system that becomes "/", and stays in it.
func (p *planner) root() {
	p.do("umask", unix.SYS_UMASK, "setting the file mode mask", octal(0))
	p.mount("making mounts private", needsMount, null(), "/", null(), unix.MS_PRIVATE|unix.MS_REC, "MS_PRIVATE|MS_REC", null())
	root := path.Join(p.chroot, "root")
	options := "mode=0750"
	if !p.rootless {
		options += fmt.Sprintf(",gid=%d", p.hostGID)
	}
	p.mount("mounting a file system on", needsMount, str("none"), root, str("tmpfs"),
		unix.MS_NOSUID|unix.MS_NODEV, "MS_NOSUID|MS_NODEV", str(options)).path = root
	p.do("chdir", unix.SYS_CHDIR, "entering", str(root)).path = root
	p.add(step{name: "openat", nr: unix.SYS_OPENAT, what: "opening", path: root, save: regRoot,
		args: []arg{cwd(), str("."), bits(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, "O_PATH|O_DIRECTORY|O_CLOEXEC")}})
}

// mount adds a mount; target is as the init sees it.
func (p *planner) mount(what string, needs facility, source arg, target string, fstype arg, flags uint64, text string, data arg) *step {
	return p.add(step{name: "mount", nr: unix.SYS_MOUNT, what: what, needs: needs,
		args: []arg{source, str(target), fstype, bits(flags, text), data}})
}

// pivot makes the new root the only one.
func (p *planner) pivot() {
	const what = "changing the root directory"
	p.do("fchdir", unix.SYS_FCHDIR, what, from(regRoot))
	p.do("close", unix.SYS_CLOSE, what, from(regRoot))
	p.add(step{name: "pivot_root", nr: unix.SYS_PIVOT_ROOT, what: what, needs: needsMount, args: []arg{str("."), str(".")}})
	p.do("umount2", unix.SYS_UMOUNT2, what, str("."), bits(unix.MNT_DETACH, "MNT_DETACH"))
	p.do("chdir", unix.SYS_CHDIR, what, str("/"))
}

// limits sets what every builder gets alike.
func (p *planner) limits() {
	p.do("umask", unix.SYS_UMASK, "setting the file mode mask", octal(0o022))
	p.do("prlimit64", unix.SYS_PRLIMIT64, "limiting core dumps", num(0), bits(unix.RLIMIT_CORE, "RLIMIT_CORE"),
		bytesArg(words(0, p.coreLimit), fmt.Sprintf("{0, %#x}", p.coreLimit)), null())
	p.do("personality", unix.SYS_PERSONALITY, "setting the personality", bits(p.personality, fmt.Sprintf("%#08x", p.personality)))
}

// identity becomes the builder's user. With a user namespace it keeps its
// capabilities over the change, because making that namespace may take one;
// they are of no use in the host's afterwards.
func (p *planner) identity() {
	if !p.rootless {
		if p.userNS {
			p.do("prctl", unix.SYS_PRCTL, "keeping capabilities", bits(unix.PR_SET_SECUREBITS, "PR_SET_SECUREBITS"),
				bits(secbitNoSetuidFixup, "SECBIT_NO_SETUID_FIXUP"))
		}
		p.become()
	}
	// else the builder would hold the engine's keys
	p.add(step{name: "keyctl", nr: unix.SYS_KEYCTL, what: "leaving the session's keyring",
		args:   []arg{bits(unix.KEYCTL_JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING"), null()},
		ignore: []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.EDQUOT, unix.EACCES}})
	p.tie()
}

// tie makes the process die with the engine. A new process and one that has
// changed its user are not tied any more.
func (p *planner) tie() {
	p.do("prctl", unix.SYS_PRCTL, "tying the builder to the engine", bits(unix.PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"),
		bits(uint64(unix.SIGKILL), "SIGKILL"))
}

const secbitNoSetuidFixup = 1 << 2

func (p *planner) become() {
	who := func(name string, nr uint32, id uint32) {
		n := num(uint64(id))
		p.add(step{name: name, nr: nr, what: fmt.Sprintf("becoming user %d, group %d", p.hostUID, p.hostGID), needs: needsIDs, args: []arg{n, n, n}})
	}
	p.add(step{name: "setgroups", nr: unix.SYS_SETGROUPS, what: "dropping supplementary groups", needs: needsIDs, args: []arg{num(0), null()}})
	who("setresgid", unix.SYS_SETRESGID, p.hostGID)
	who("setresuid", unix.SYS_SETRESUID, p.hostUID)
	if !p.userNS {
		return
	}
	// else /proc/self would belong to root now
	p.do("prctl", unix.SYS_PRCTL, "becoming dumpable", bits(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"), num(1))
	p.add(step{name: "unshare", nr: unix.SYS_UNSHARE, what: "making a user namespace", needs: needsUserNamespace,
		args: []arg{bits(unix.CLONE_NEWUSER, "CLONE_NEWUSER")}})
	p.mapIDs()
}

// lockdown takes away what cannot be given back.
func (p *planner) lockdown() {
	if !p.newPrivs {
		p.do("prctl", unix.SYS_PRCTL, "giving up new privileges", bits(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), num(1), num(0), num(0), num(0))
	}
	if p.network {
		p.scope()
	}
	if p.filter != nil {
		program := arg{kind: argPointer, data: words(uint64(len(p.filter) / 8)), point: p.filter,
			text: fmt.Sprintf("{%d instructions}", len(p.filter)/8)}
		p.add(step{name: "seccomp", nr: unix.SYS_SECCOMP, what: "loading the system call filter", needs: needsFilter,
			args: []arg{bits(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"), num(0), program}})
	}
}

// scope keeps a builder on the host's network from the abstract Unix sockets of
// others, through which descriptors of its outputs could leave. Kernels that
// cannot do it are accepted: outputs of such builds are copied before they are
// hashed in any case.
func (p *planner) scope() {
	const what = "restricting Unix sockets"
	const scopes = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	p.add(step{name: "landlock_create_ruleset", nr: unix.SYS_LANDLOCK_CREATE_RULESET, what: what, save: regFile,
		args:   []arg{bytesArg(words(0, 0, scopes), "{scoped: ABSTRACT_UNIX_SOCKET|SIGNAL}"), num(24), num(0)},
		ignore: []syscall.Errno{unix.ENOSYS, unix.EOPNOTSUPP, unix.E2BIG, unix.EINVAL}, skip: 2})
	p.do("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, what, from(regFile), num(0))
	p.do("close", unix.SYS_CLOSE, what, from(regFile))
}

// execute ends the plan. The mark before it kills a builder whose engine has
// gone before the parent-death signal was set.
func (p *planner) execute() {
	c := p.command
	dir := c.Dir
	if dir == "" {
		dir = p.buildDir
	}
	p.do("chdir", unix.SYS_CHDIR, "changing into directory", str(dir)).path = dir
	p.kept = len(c.descriptors())
	if c.Program != 0 {
		p.executeDescriptor(uint64(firstKept + len(c.Files)))
		return
	}
	p.ready()
	p.add(step{name: "execve", nr: unix.SYS_EXECVE, what: "executing", path: c.Path, needs: needsBuilder,
		args: []arg{str(c.Path), strs(c.Argv), strs(c.Env)}})
}

// executeDescriptor executes a program of the engine's, which keeps no
// descriptor of itself.
func (p *planner) executeDescriptor(fd uint64) {
	c := p.command
	p.do("fcntl", unix.SYS_FCNTL, "marking a descriptor", num(fd), bits(unix.F_SETFD, "F_SETFD"), bits(unix.FD_CLOEXEC, "FD_CLOEXEC"))
	p.ready()
	p.add(step{name: "execveat", nr: unix.SYS_EXECVEAT, what: "executing", path: c.Path, needs: needsBuilder,
		args: []arg{num(fd), str(""), strs(c.Argv), strs(c.Env), bits(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH")}})
}

func (p *planner) ready() {
	p.do("write", unix.SYS_WRITE, "reporting", num(reportFD), str("R"), num(1))
}

// relative is a path of the sandbox as seen from its root.
func relative(target string) string { return strings.TrimPrefix(target, "/") }
