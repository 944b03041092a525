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

func (p *planner) add(s step) { p.steps = append(p.steps, s) }

// do adds a step that needs nothing special of the machine.
func (p *planner) do(name string, nr uint32, what string, args ...arg) {
	p.add(step{name: name, nr: nr, what: what, args: args})
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
	p.add(step{name: "unshare", nr: unix.SYS_UNSHARE, what: what, needs: needs, args: []arg{flag(flags, text)}})
	p.add(step{name: "unshare", nr: unix.SYS_UNSHARE, what: "making a cgroup namespace", needs: needsNamespaces,
		args: []arg{flag(unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP")}, ignore: []syscall.Errno{unix.EINVAL}})
	if p.rootless {
		p.mapIDs()
		p.add(step{name: "successor", nr: successor, what: "making the first process of a PID namespace", needs: needsNamespaces})
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
	what := fmt.Sprintf("writing '%s'", name)
	p.add(step{name: "openat", nr: unix.SYS_OPENAT, what: what, needs: needs, save: regFile,
		args: []arg{cwd(), str(name), flag(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY|O_CLOEXEC")}})
	p.fill(what, contents, needs)
}

// fill writes the file that has just been opened, and closes it.
func (p *planner) fill(what, contents string, needs facility) {
	p.add(step{name: "write", nr: unix.SYS_WRITE, what: what, needs: needs,
		args: []arg{from(regFile), str(contents), num(uint64(len(contents)))}})
	p.do("close", unix.SYS_CLOSE, what, from(regFile))
}

// loopback brings up the only interface of a fresh network namespace.
func (p *planner) loopback() {
	const what = "bringing up the loopback interface"
	request := make([]byte, unix.SizeofSockaddrInet4+unix.IFNAMSIZ+16)
	copy(request, "lo")
	copy(request[unix.IFNAMSIZ:], words(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)[:2])
	p.add(step{name: "socket", nr: unix.SYS_SOCKET, what: what, save: regFile, args: []arg{
		flag(unix.AF_INET, "AF_INET"), flag(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), num(0)}})
	p.do("ioctl", unix.SYS_IOCTL, what, from(regFile), flag(unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"),
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
	p.mount(fmt.Sprintf("mounting a file system on '%s'", root), needsMount, str("none"), root, str("tmpfs"),
		unix.MS_NOSUID|unix.MS_NODEV, "MS_NOSUID|MS_NODEV", str(options))
	p.do("chdir", unix.SYS_CHDIR, fmt.Sprintf("entering '%s'", root), str(root))
	p.add(step{name: "openat", nr: unix.SYS_OPENAT, what: fmt.Sprintf("opening '%s'", root), save: regRoot,
		args: []arg{cwd(), str("."), flag(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, "O_PATH|O_DIRECTORY|O_CLOEXEC")}})
}

// mount adds a mount; target is as the init sees it.
func (p *planner) mount(what string, needs facility, source arg, target string, fstype arg, flags uint64, text string, data arg) {
	p.add(step{name: "mount", nr: unix.SYS_MOUNT, what: what, needs: needs,
		args: []arg{source, str(target), fstype, flag(flags, text), data}})
}

// pivot makes the new root the only one.
func (p *planner) pivot() {
	const what = "changing the root directory"
	p.do("fchdir", unix.SYS_FCHDIR, what, from(regRoot))
	p.do("close", unix.SYS_CLOSE, what, from(regRoot))
	p.add(step{name: "pivot_root", nr: unix.SYS_PIVOT_ROOT, what: what, needs: needsMount, args: []arg{str("."), str(".")}})
	p.do("umount2", unix.SYS_UMOUNT2, what, str("."), flag(unix.MNT_DETACH, "MNT_DETACH"))
	p.do("chdir", unix.SYS_CHDIR, what, str("/"))
}

// limits sets what every builder gets alike.
func (p *planner) limits() {
	p.do("umask", unix.SYS_UMASK, "setting the file mode mask", octal(0o022))
	p.do("prlimit64", unix.SYS_PRLIMIT64, "limiting core dumps", num(0), flag(unix.RLIMIT_CORE, "RLIMIT_CORE"),
		bytesArg(words(0, p.coreLimit), fmt.Sprintf("{0, %#x}", p.coreLimit)), null())
	p.do("personality", unix.SYS_PERSONALITY, "setting the personality", flag(p.personality, fmt.Sprintf("%#08x", p.personality)))
}

// identity becomes the builder's user. With a user namespace it keeps its
// capabilities over the change, because making that namespace may take one;
// they are of no use in the host's afterwards.
func (p *planner) identity() {
	if !p.rootless {
		if p.userNS {
			p.do("prctl", unix.SYS_PRCTL, "keeping capabilities", flag(unix.PR_SET_SECUREBITS, "PR_SET_SECUREBITS"),
				flag(secbitNoSetuidFixup, "SECBIT_NO_SETUID_FIXUP"))
		}
		p.become()
	}
	p.do("prctl", unix.SYS_PRCTL, "tying the builder to the engine", flag(unix.PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG"),
		flag(uint64(unix.SIGKILL), "SIGKILL"))
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
	p.do("prctl", unix.SYS_PRCTL, "becoming dumpable", flag(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"), num(1))
	p.add(step{name: "unshare", nr: unix.SYS_UNSHARE, what: "making a user namespace", needs: needsUserNamespace,
		args: []arg{flag(unix.CLONE_NEWUSER, "CLONE_NEWUSER")}})
	p.mapIDs()
}

// lockdown takes away what cannot be given back.
func (p *planner) lockdown() {
	if !p.newPrivs {
		p.do("prctl", unix.SYS_PRCTL, "giving up new privileges", flag(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), num(1), num(0), num(0), num(0))
	}
	if p.network {
		p.scope()
	}
	if p.filter != nil {
		program := arg{kind: argData, data: words(uint64(len(p.filter) / 8)), point: p.filter,
			text: fmt.Sprintf("{%d instructions}", len(p.filter)/8)}
		p.add(step{name: "seccomp", nr: unix.SYS_SECCOMP, what: "loading the system call filter", needs: needsFilter,
			args: []arg{flag(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"), num(0), program}})
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
	p.do("chdir", unix.SYS_CHDIR, fmt.Sprintf("changing into directory '%s'", dir), str(dir))
	p.do("write", unix.SYS_WRITE, "reporting", num(4), str("R"), num(1))
	p.add(step{name: "execve", nr: unix.SYS_EXECVE, what: fmt.Sprintf("executing '%s'", c.Path), needs: needsBuilder,
		args: []arg{str(c.Path), strs(c.Argv), strs(c.Env)}})
}

// relative is a path of the sandbox as seen from its root.
func relative(target string) string { return strings.TrimPrefix(target, "/") }
