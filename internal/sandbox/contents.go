package sandbox

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is a mount point or a link in the sandbox's root directory.
type place struct {
	node
	own   bool // the engine's, still empty: others may be made inside
	mount func(p *planner, target string)
}

// contents fills the new root: directories and files made there, mounts sorted
// by target so that none hides another, then the inputs.
//
// Nothing is ever made through something that may be a link into the host:
// places are made only in directories that the plan itself has made. What lies
// inside a bound directory must exist there, and is found by the kernel without
// leaving the sandbox's root.
func (p *planner) contents() {
	places := p.places()
	var inside []place
	for _, at := range places {
		if outermost(places, at.target) != nil {
			inside = append(inside, at)
		} else {
			p.put(at)
		}
	}
	for _, at := range inside { // through a link, perhaps into a later one
		p.putInside(at, relative(at.target))
	}
	p.devLinks()
	p.etc()
	p.inputsReadOnly(outermost(places, p.storeDir+"/."))
}

// places lists the binds and the engine's own mounts, sorted by target.
func (p *planner) places() []place {
	var places []place
	for _, n := range p.binds {
		places = append(places, place{node: n})
	}
	own := func(target, source string) {
		places = append(places, place{node: node{target: target, source: source}, own: true})
	}
	own(p.storeDir, path.Join(p.chroot, "store"))
	own(p.buildDir, path.Join(p.wrapper, "build"))
	if !p.bindsAt("/tmp") {
		own("/tmp", path.Join(p.wrapper, "tmp"))
	}
	places = append(places, place{node: node{target: "/proc"}, mount: (*planner).mountProc})
	if p.shm && !p.bindsAt("/dev/shm") {
		places = append(places, place{node: node{target: "/dev/shm"}, mount: (*planner).mountShm})
	}
	if p.ownPts() {
		places = append(places, place{node: node{target: "/dev/pts"}, mount: (*planner).mountPts})
	}
	slices.SortStableFunc(places, func(a, b place) int { return strings.Compare(a.target, b.target) })
	return places
}

// bindsAt tells whether target itself is bound.
func (p *planner) bindsAt(target string) bool {
	return slices.ContainsFunc(p.binds, func(n node) bool { return n.target == target })
}

// ownPts tells whether the sandbox gets pseudo-terminals of its own.
func (p *planner) ownPts() bool {
	return p.pts && !p.bindsAt("/dev/pts") && !p.bindsAt("/dev/ptmx") && !p.bindsAt("/dev")
}

// outermost finds the bind or link of the host that a target lies in, if any.
func outermost(places []place, target string) *place {
	for i := range places {
		if !places[i].own && places[i].mount == nil && places[i].target != target && within(target, places[i].target) {
			return &places[i]
		}
	}
	return nil
}

// put makes a place among the plan's own directories.
func (p *planner) put(at place) {
	rel := relative(at.target)
	switch at.kind {
	case kindLink:
		p.parents(rel)
		p.symlink(at.link, rel)
	case kindFile:
		p.parents(rel)
		p.file(rel)
		p.attach(at, rel)
	default:
		p.dir(rel)
		p.attach(at, rel)
	}
}

// attach mounts what belongs at a place that the init sees as target.
func (p *planner) attach(at place, target string) {
	switch {
	case at.mount != nil:
		at.mount(p, target)
	case at.own:
		p.bind(at, target, unix.MS_BIND, "MS_BIND")
	default:
		p.bind(at, target, unix.MS_BIND|unix.MS_REC, "MS_BIND|MS_REC")
	}
}

func (p *planner) bind(at place, target string, flags uint64, text string) {
	s := p.mount("binding", needsMount, str(at.source), target, null(), flags, text, null())
	s.path, s.at = at.source, at.target
}

// putInside makes a place inside a directory of the host, where it exists
// already. A link must exist, too, and stays as it is.
func (p *planner) putInside(at place, rel string) {
	what := fmt.Sprintf("binding '%s' at '%s' inside another", at.source, at.target)
	switch at.kind {
	case kindDir:
		p.enter(rel, what)
		p.attach(at, ".")
		p.do("fchdir", unix.SYS_FCHDIR, what, from(regRoot))
	case kindFile:
		p.find(rel, what, unix.O_PATH, "O_PATH", regFile)
		p.add(step{name: "open_tree", nr: unix.SYS_OPEN_TREE, what: what, needs: needsMount, save: regTree,
			args: []arg{cwd(), str(at.source), bits(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC, "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC")}})
		p.add(step{name: "move_mount", nr: unix.SYS_MOVE_MOUNT, what: what, needs: needsMount,
			args: []arg{from(regTree), str(""), from(regFile), str(""),
				bits(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH")}})
		p.do("close", unix.SYS_CLOSE, what, from(regTree))
		p.do("close", unix.SYS_CLOSE, what, from(regFile))
	case kindLink:
		p.find(rel, what, unix.O_PATH|unix.O_NOFOLLOW, "O_PATH|O_NOFOLLOW", regFile)
		p.do("close", unix.SYS_CLOSE, what, from(regFile))
	}
}

// find opens a path of the sandbox without leaving its root by any link.
func (p *planner) find(rel, what string, flags uint64, text string, to register) {
	how := words(flags|unix.O_CLOEXEC, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	p.add(step{name: "openat2", nr: unix.SYS_OPENAT2, what: what, needs: needsMount, save: to,
		args: []arg{from(regRoot), str(rel), bytesArg(how, "{"+text+"|O_CLOEXEC, 0, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS}"), num(uint64(len(how)))}})
}

// enter changes into a directory of the sandbox in the same way.
func (p *planner) enter(rel, what string) {
	p.find(rel, what, unix.O_PATH|unix.O_DIRECTORY, "O_PATH|O_DIRECTORY", regFile)
	p.do("fchdir", unix.SYS_FCHDIR, what, from(regFile))
	p.do("close", unix.SYS_CLOSE, what, from(regFile))
}

// parents makes the directories above rel that are not there yet.
func (p *planner) parents(rel string) {
	if dir := path.Dir(rel); !p.made[dir] {
		p.dir(dir)
	}
}

// dir makes a directory and those above it, unless the plan has made it.
func (p *planner) dir(rel string) {
	if p.made[rel] {
		return
	}
	p.parents(rel)
	p.made[rel] = true
	p.do("mkdirat", unix.SYS_MKDIRAT, "making the directory", cwd(), str(rel), octal(0o755)).path = rel
}

// file makes an empty file: mknod opens nothing, follows nothing and demands
// that nothing is there.
func (p *planner) file(rel string) {
	p.do("mknodat", unix.SYS_MKNODAT, "making the file", cwd(), str(rel), bits(unix.S_IFREG|0o644, "S_IFREG|0644"), num(0)).path = rel
}

func (p *planner) symlink(text, rel string) {
	p.do("symlinkat", unix.SYS_SYMLINKAT, "making the symbolic link", str(text), cwd(), str(rel)).path = rel
}

func (p *planner) mountProc(target string) {
	p.mount("mounting a process file system on '/proc'", needsProc, str("none"), target, str("proc"),
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "MS_NOSUID|MS_NODEV|MS_NOEXEC", null())
}

func (p *planner) mountShm(target string) {
	p.mount("mounting a file system on '/dev/shm'", needsMount, str("none"), target, str("tmpfs"),
		unix.MS_NOSUID|unix.MS_NODEV, "MS_NOSUID|MS_NODEV", str("mode=1777,size="+p.shmSize))
}

func (p *planner) mountPts(target string) {
	p.mount("mounting pseudo-terminals on '/dev/pts'", needsMount, str("none"), target, str("devpts"),
		unix.MS_NOSUID|unix.MS_NOEXEC, "MS_NOSUID|MS_NOEXEC", str("newinstance,mode=0620,ptmxmode=0666"))
}

// devLinks makes the links of /dev.
func (p *planner) devLinks() {
	if p.bindsAt("/dev") {
		return
	}
	for _, dir := range []string{"dev", "dev/shm", "dev/pts"} {
		if !p.bindsAt("/" + dir) {
			p.dir(dir)
		}
	}
	links := []struct{ name, text string }{
		{"dev/fd", "/proc/self/fd"}, {"dev/stdin", "/proc/self/fd/0"},
		{"dev/stdout", "/proc/self/fd/1"}, {"dev/stderr", "/proc/self/fd/2"}}
	if p.ownPts() {
		links = append(links, struct{ name, text string }{"dev/ptmx", "/dev/pts/ptmx"})
	}
	for _, l := range links {
		if !p.bindsAt("/" + l.name) {
			p.symlink(l.text, l.name)
		}
	}
}

// etc writes the configuration files that a builder finds.
func (p *planner) etc() {
	if p.bindsAt("/etc") {
		return
	}
	p.dir("etc")
	files := []struct{ name, contents string }{
		{"etc/passwd", fmt.Sprintf("root:x:0:0:Nix build user:%s:/noshell\nnixbld:x:%d:%d:Nix build user:%s:/noshell\nnobody:x:65534:65534:Nobody:/:/noshell\n",
			p.buildDir, p.uid, p.gid, p.buildDir)},
		{"etc/group", fmt.Sprintf("root:x:0:\nnixbld:!:%d:\nnogroup:x:65534:\n", p.gid)},
	}
	if p.network {
		files = append(files, struct{ name, contents string }{"etc/nsswitch.conf", "hosts: files dns\nservices: files\n"})
	} else {
		files = append(files, struct{ name, contents string }{"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"})
	}
	for _, f := range files {
		if p.bindsAt("/" + f.name) {
			continue
		}
		p.add(step{name: "openat", nr: unix.SYS_OPENAT, what: "writing", path: f.name, save: regFile, args: []arg{cwd(), str(f.name),
			bits(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, "O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC"), octal(0o644)}})
		p.fill(f.name, f.contents, needsNothing)
	}
	p.do("fchmodat", unix.SYS_FCHMODAT, "protecting '/etc'", cwd(), str("etc"), octal(0o555))
}

// inputsReadOnly binds the inputs into the store directory, each at a name made
// for it there, and makes them read-only all at once.
func (p *planner) inputsReadOnly(host *place) {
	what := fmt.Sprintf("entering '%s'", p.storeDir)
	if host != nil {
		p.enter(relative(p.storeDir), what)
	} else {
		p.do("chdir", unix.SYS_CHDIR, what, str(relative(p.storeDir)))
	}
	for _, n := range p.inputs {
		at := place{node: n}
		switch n.kind {
		case kindLink:
			p.symlink(n.link, n.target)
			continue
		case kindFile:
			p.file(n.target)
		default:
			p.do("mkdirat", unix.SYS_MKDIRAT, "making the directory", cwd(), str(n.target), octal(0o755)).path = n.target
		}
		p.attach(at, n.target)
		if p.remount != 0 {
			p.mount("making read-only", needsMount, null(), n.target, null(), p.remount, "", null()).path = n.target
		}
	}
	if p.remount == 0 {
		const readOnly = "making the inputs read-only"
		p.attributes(readOnly, unix.AT_RECURSIVE, "AT_RECURSIVE", words(unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, 0, 0, 0),
			"{set: RDONLY|NOSUID|NODEV}")
		p.attributes(readOnly, 0, "0", words(0, unix.MOUNT_ATTR_RDONLY, 0, 0), "{clear: RDONLY}")
	}
	p.do("fchdir", unix.SYS_FCHDIR, what, from(regRoot))
}

// attributes changes those of the mount that the init is in.
func (p *planner) attributes(what string, flags uint64, flagText string, attr []byte, text string) {
	p.add(step{name: "mount_setattr", nr: unix.SYS_MOUNT_SETATTR, what: what, needs: needsMount,
		args: []arg{cwd(), str("."), bits(flags, flagText), bytesArg(attr, text), num(uint64(len(attr)))}})
}
