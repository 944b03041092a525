package sandbox

import (
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// surveyOf is a host and a build as a survey could find them.
func surveyOf(edit func(*survey)) *survey {
	s := &survey{
		sandboxed: true, userNS: true, hostUID: 30001, hostGID: 30000, uid: sandboxUID, gid: sandboxGID,
		chroot: "/nix/store/x.drv.chroot", wrapper: "/nix/var/nix/builds/nix-1-0", storeDir: "/nix/store", buildDir: "/build",
		binds: []node{
			{target: "/bin/sh", source: "/opt/busybox", kind: kindFile},
			{target: "/dev/null", source: "/dev/null", kind: kindFile},
			{target: "/usr", source: "/usr"},
		},
		inputs: []node{{target: "a-dir", source: "/real/a-dir"}, {target: "b-file", source: "/real/b-file", kind: kindFile},
			{target: "c-link", source: "/real/c-link", kind: kindLink, link: "a-dir/x"}},
		shm: true, pts: true, shmSize: "50%", personality: addrNoRandomize, coreLimit: 1 << 20, filter: make([]byte, 16),
		command: Command{Path: "/bin/sh", Argv: []string{"sh", "-e"}, Env: []string{"A=1"}},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

var plans = []struct {
	name  string
	edit  func(*survey)
	flags uintptr
}{
	{"root", nil, unix.CLONE_NEWPID},
	{"root-without-user-namespaces", func(s *survey) { s.userNS, s.uid, s.gid = false, s.hostUID, s.hostGID }, unix.CLONE_NEWPID},
	{"rootless", func(s *survey) { s.rootless = true }, 0},
	{"network", func(s *survey) {
		s.network = true
		s.binds = append([]node{{target: "/etc/hosts", source: "/etc/hosts", kind: kindFile}}, s.binds...)
	}, unix.CLONE_NEWPID},
	{"old-kernel", func(s *survey) { s.remount = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY }, unix.CLONE_NEWPID},
	{"inside-binds", func(s *survey) {
		s.binds = []node{{target: "/bin", kind: kindLink, link: "usr/bin"}, {target: "/bin/sh", source: "/opt/sh", kind: kindFile},
			{target: "/nix", source: "/srv/nix"}, {target: "/usr", source: "/usr"}, {target: "/usr/link", kind: kindLink, link: "x"}}
	}, unix.CLONE_NEWPID},
	{"unsandboxed", func(s *survey) {
		s.sandboxed, s.userNS, s.newPrivs, s.buildDir = false, false, true, "/nix/var/nix/builds/nix-1-0/build"
	}, 0},
	{"program", func(s *survey) {
		s.command = Command{Path: "builtin:x", Argv: []string{"x"}, Env: []string{"A=1"}, Program: 77, Files: []int{55, 66}}
	}, unix.CLONE_NEWPID},
	{"unsandboxed-rootless", func(s *survey) { s.sandboxed, s.userNS, s.rootless, s.filter = false, false, true, nil }, 0},
}

func TestPlans(t *testing.T) {
	for _, c := range plans {
		s := surveyOf(c.edit)
		if got := s.cloneFlags(); got != c.flags {
			t.Errorf("%s: clone flags %#x, want %#x", c.name, got, c.flags)
		}
		name := filepath.Join("testdata", "plan", c.name+".txt")
		got := s.plan().String()
		if *update {
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("plan %s (rewrite with -update):\n%s", c.name, got)
		}
	}
}

// Whatever a plan does, it ends the same way, and it makes every place that it
// mounts on.
func TestPlanInvariants(t *testing.T) {
	for _, c := range plans {
		text := surveyOf(c.edit).plan().String()
		lines := strings.Split(strings.TrimSpace(text), "\n")
		for i, prefix := range []string{"exec", "write(4, \"R\""} {
			if at := lines[len(lines)-1-i]; !strings.HasPrefix(at, prefix) {
				t.Errorf("%s: step %d from the end is %s, want %s", c.name, i, at, prefix)
			}
		}
		made := map[string]bool{}
		for _, line := range lines {
			call, rest, _ := strings.Cut(line, "(")
			args := strings.Split(strings.TrimSuffix(rest, ")"), ", ")
			switch call {
			case "mkdirat", "mknodat":
				if name := args[1]; made[name] {
					t.Errorf("%s: %s is made twice", c.name, name)
				}
				made[args[1]] = true
			case "mount":
				if target := args[1]; !strings.HasPrefix(target, `"/`) && target != `"."` && !made[target] {
					t.Errorf("%s: mounts on %s, which it has not made", c.name, target)
				}
			}
		}
	}
}

func TestEncode(t *testing.T) {
	p := plan{steps: []step{
		{name: "a", nr: 7, args: []arg{num(5), str("x"), from(regTree)}, save: regFile, ignore: []syscall.Errno{unix.ENOENT}, skip: 2},
		{name: "b", nr: 8, args: []arg{strs([]string{"p", "qq"}), strs(nil), {kind: argPointer, data: words(3), point: []byte("program.")}}},
	}}
	b := p.encode()
	order := binary.NativeEndian
	u32 := func(at int) uint32 { return order.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return order.Uint64(b[at:]) }
	if u32(0) != planMagic || u32(4) != uint32(len(b)) || u32(8) != 2 {
		t.Fatalf("header: % x", b[:headerSize])
	}
	first, relocs := headerSize, headerSize+2*stepSize
	data := relocs + 8*int(u32(12))
	if data%8 != 0 || len(b)-data != int(u32(16)) {
		t.Errorf("data of %d bytes at %d", u32(16), data)
	}
	if u32(first) != 7 || u32(first+4) != 1<<2|2<<4 || order.Uint16(b[first+8:]) != uint16(unix.ENOENT) || u32(first+16) != 2 || u32(first+20) != 1 {
		t.Errorf("first step: % x", b[first:first+stepSize])
	}
	if at := data + int(u64(first+32)); u64(first+24) != 5 || string(b[at:at+2]) != "x\x00" || u64(first+40) != uint64(regTree-1) {
		t.Errorf("its arguments: % x", b[first+24:first+stepSize])
	}
	pointers := map[uint64]uint64{}
	for at := relocs; at < data; at += 8 {
		pointers[uint64(u32(at))] = uint64(u32(at + 4))
	}
	argv, env, program := u64(first+stepSize+24), u64(first+stepSize+32), u64(first+stepSize+40)
	if at := data + int(pointers[argv+8]); string(b[at:at+3]) != "qq\x00" || u64(data+int(argv)+16) != 0 {
		t.Errorf("the second string is %q", b[at:at+3])
	}
	if _, ok := pointers[env]; ok || u64(data+int(env)) != 0 {
		t.Error("an empty list does not end at once")
	}
	if at := data + int(pointers[program+8]); string(b[at:at+8]) != "program." || u64(data+int(program)) != 3 {
		t.Errorf("the structure points to %q", b[at:at+8])
	}
}
