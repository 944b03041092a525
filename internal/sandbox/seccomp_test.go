package sandbox

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// interpret runs a filter on one system call as the kernel's machine would.
func interpret(t *testing.T, program []instruction, arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.NativeEndian.PutUint32(data[0:], nr)
	binary.NativeEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.NativeEndian.PutUint64(data[16+8*i:], a)
	}
	var a uint32
	jump := func(yes bool, i instruction) int {
		if yes {
			return int(i.jt)
		}
		return int(i.jf)
	}
	for pc := 0; pc < len(program); pc++ {
		switch i := program[pc]; i.code {
		case opLoad:
			a = binary.NativeEndian.Uint32(data[i.k:])
		case opAnd:
			a &= i.k
		case opJump:
			pc += int(i.k)
		case opIfEqual:
			pc += jump(a == i.k, i)
		case opIfAtLeast:
			pc += jump(a >= i.k, i)
		case opIfMore:
			pc += jump(a > i.k, i)
		case opIfAnyBit:
			pc += jump(a&i.k != 0, i)
		case opReturn:
			return i.k
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, i.code)
		}
	}
	t.Fatal("the program ran past its end")
	return 0
}

// numbers of the calls that the filter judges, as each architecture's own
// headers give them.
var filteredCalls = []struct {
	name   string
	arch   uint32
	bits   uint32 // or-ed to every number
	chmods map[uint32]int
	xattrs []uint32
}{
	{"x86_64", 0xc000003e, 0, map[uint32]int{90: 1, 91: 1, 268: 2, 452: 2}, []uint32{188, 189, 190, 191, 192, 193, 194, 195, 196}},
	{"x32", 0xc000003e, 1 << 30, map[uint32]int{90: 1, 91: 1, 268: 2, 452: 2}, []uint32{188, 189, 190, 191, 192, 193, 194, 195, 196}},
	{"i386", 0x40000003, 0, map[uint32]int{15: 1, 94: 1, 306: 2, 452: 2}, []uint32{226, 227, 228, 229, 230, 231, 232, 233, 234}},
	{"aarch64", 0xc00000b7, 0, map[uint32]int{52: 1, 53: 2, 452: 2}, []uint32{5, 6, 7, 8, 9, 10, 11, 12, 13}},
	{"arm", 0x40000028, 0, map[uint32]int{15: 1, 94: 1, 333: 2, 452: 2}, []uint32{226, 227, 228, 229, 230, 231, 232, 233, 234}},
	{"riscv64", 0xc00000f3, 0, map[uint32]int{52: 1, 53: 2, 452: 2}, []uint32{5, 6, 7, 8, 9, 10, 11, 12, 13}},
}

func TestFilter(t *testing.T) {
	program := filterProgram()
	for _, c := range filteredCalls {
		t.Run(c.name, func(t *testing.T) {
			verdict := func(nr uint32, args [6]uint64) uint32 { return interpret(t, program, c.arch, nr|c.bits, args) }
			special := map[uint32]uint32{425: verdictNoSys, 426: verdictNoSys, 427: verdictNoSys,
				463: verdictNotSupp, 464: verdictNotSupp, 465: verdictNotSupp, 466: verdictNotSupp}
			for _, nr := range c.xattrs {
				special[nr] = verdictNotSupp
			}
			for nr := range uint32(1024) {
				if _, ok := c.chmods[nr]; ok {
					continue
				}
				want, ok := special[nr]
				if !ok {
					want = verdictAllow
				}
				if got := verdict(nr, [6]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}); got != want {
					t.Errorf("call %d: verdict %#x, want %#x", nr, got, want)
				}
			}
			for nr, arg := range c.chmods {
				for mode, want := range map[uint64]uint32{0o755: verdictAllow, 0o1777: verdictAllow, 0o4755: verdictPerm,
					0o2755: verdictPerm, 0o6000: verdictPerm, 1<<32 | 0o4000: verdictPerm, 1 << 43: verdictAllow} {
					args := [6]uint64{0o6000, 0o6000, 0o6000, 0o6000}
					args[arg] = mode
					if got := verdict(nr, args); got != want {
						t.Errorf("call %d with mode %#o: verdict %#x, want %#x", nr, mode, got, want)
					}
				}
			}
		})
	}
}

// TestFilterRefusesVsock: those sockets are the whole machine's.
func TestFilterRefusesVsock(t *testing.T) {
	sockets := map[string]uint32{"x86_64": 41, "x32": 41, "i386": 359, "aarch64": 198, "arm": 281, "riscv64": 198}
	for _, c := range filteredCalls {
		for family, want := range map[uint64]uint32{unix.AF_VSOCK: verdictFamily, unix.AF_UNIX: verdictAllow, unix.AF_INET: verdictAllow} {
			if got := interpret(t, filterProgram(), c.arch, sockets[c.name]|c.bits, [6]uint64{family, 1}); got != want {
				t.Errorf("%s, family %d: %#x, want %#x", c.name, family, got, want)
			}
		}
	}
}

func TestFilterKillsUnknownArchitectures(t *testing.T) {
	if got := interpret(t, filterProgram(), unix.AUDIT_ARCH_S390X, 15, [6]uint64{}); got != verdictKill {
		t.Errorf("verdict %#x, want %#x", got, verdictKill)
	}
}

func TestFilterIsWellFormed(t *testing.T) {
	program := filterProgram()
	if len(program) > 4096 {
		t.Errorf("%d instructions are more than the kernel takes", len(program))
	}
	for at, i := range program {
		far := max(int(i.jt), int(i.jf))
		if i.code == opJump {
			far = int(i.k)
		}
		if i.code != opReturn && at+1+far >= len(program) {
			t.Errorf("instruction %d jumps out of the program", at)
		}
	}
	if got := encodeFilter([]instruction{{code: 0x15, jt: 1, jf: 2, k: 0x04030201}}); len(got) != 8 || got[2] != 1 || got[3] != 2 ||
		fmt.Sprint(got[4:]) != "[1 2 3 4]" && lowWord() == 0 {
		t.Errorf("encoded as %v", got)
	}
}
