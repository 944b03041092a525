package sandbox

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The system call filter keeps a builder from making files that would keep
// their power after the build: set-id bits, access lists and other extended
// attributes. io_uring is refused whole because it does such things unseen.
// Everything else is allowed. It covers every way into the kernel that the
// processor has, told apart by the audit architecture.

// An instruction of the kernel's classic packet filter machine.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// The instructions used, all on 32-bit words.
const (
	opLoad         = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd          = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump         = unix.BPF_JMP | unix.BPF_JA
	opIfEqual      = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opIfAtLeast    = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opIfMore       = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opIfAnyBit     = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	opReturn       = unix.BPF_RET | unix.BPF_K
	offsetNr       = 0 // in struct seccomp_data
	offsetArch     = 4
	offsetArg      = 16
	setIDBits      = unix.S_ISUID | unix.S_ISGID
	x32Bit         = 0x40000000
	verdictAllow   = unix.SECCOMP_RET_ALLOW
	verdictKill    = unix.SECCOMP_RET_KILL_PROCESS
	verdictPerm    = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	verdictNotSupp = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOTSUP)
	verdictFamily  = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
	verdictNoSys   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// An abi is one system call table of a processor.
type abi struct {
	arch   uint32
	mask   uint32 // of the bits that make up a number; 0: all
	chmods []chmodCall
	xattrs callRange // set, get and list, each of three kinds
	socket uint32
}

// A chmodCall takes a file mode as its argument arg.
type chmodCall struct{ nr, arg uint32 }

// A callRange is a first and a last system call number.
type callRange struct{ first, last uint32 }

// These have the same numbers everywhere.
const (
	nrIoUringSetup    = 425
	nrIoUringRegister = 427
	nrFchmodat2       = 452
	nrSetxattrat      = 463
	nrRemovexattrat   = 466
)

var abis = []abi{
	{unix.AUDIT_ARCH_X86_64, ^uint32(x32Bit), []chmodCall{{90, 1}, {91, 1}, {268, 2}}, callRange{188, 196}, 41},
	{unix.AUDIT_ARCH_I386, 0, []chmodCall{{15, 1}, {94, 1}, {306, 2}}, callRange{226, 234}, 359},
	{unix.AUDIT_ARCH_AARCH64, 0, []chmodCall{{52, 1}, {53, 2}}, callRange{5, 13}, 198},
	{unix.AUDIT_ARCH_ARM, 0, []chmodCall{{15, 1}, {94, 1}, {333, 2}}, callRange{226, 234}, 281},
	{unix.AUDIT_ARCH_RISCV64, 0, []chmodCall{{52, 1}, {53, 2}}, callRange{5, 13}, 198},
}

// filterProgram assembles the filter. An architecture that is not in the table
// ends the process: what cannot be filtered is not run.
func filterProgram() []instruction {
	program := []instruction{{code: opLoad, k: offsetArch}}
	for _, a := range abis {
		block := a.rules()
		program = append(program,
			instruction{code: opIfEqual, jt: 1, k: a.arch},
			instruction{code: opJump, k: uint32(len(block))})
		program = append(program, block...)
	}
	return append(program, instruction{code: opReturn, k: verdictKill})
}

// rules judges one call of this table.
func (a abi) rules() []instruction {
	rules := []instruction{{code: opLoad, k: offsetNr}}
	if a.mask != 0 {
		rules = append(rules, instruction{code: opAnd, k: a.mask})
	}
	for _, c := range append(a.chmods[:len(a.chmods):len(a.chmods)], chmodCall{nrFchmodat2, 2}) {
		rules = append(rules,
			instruction{code: opIfEqual, jf: 4, k: c.nr},
			instruction{code: opLoad, k: offsetArg + 8*c.arg + lowWord()},
			instruction{code: opIfAnyBit, jf: 1, k: setIDBits},
			instruction{code: opReturn, k: verdictPerm},
			instruction{code: opReturn, k: verdictAllow})
	}
	// Sockets between a virtual machine and its host know no namespaces.
	rules = append(rules,
		instruction{code: opIfEqual, jf: 4, k: a.socket},
		instruction{code: opLoad, k: offsetArg + lowWord()},
		instruction{code: opIfEqual, jf: 1, k: unix.AF_VSOCK},
		instruction{code: opReturn, k: verdictFamily},
		instruction{code: opReturn, k: verdictAllow})
	rules = append(rules, a.xattrs.verdict(verdictNotSupp)...)
	rules = append(rules, callRange{nrSetxattrat, nrRemovexattrat}.verdict(verdictNotSupp)...)
	rules = append(rules, callRange{nrIoUringSetup, nrIoUringRegister}.verdict(verdictNoSys)...)
	return append(rules, instruction{code: opReturn, k: verdictAllow})
}

func (r callRange) verdict(v uint32) []instruction {
	return []instruction{
		{code: opIfAtLeast, jf: 2, k: r.first},
		{code: opIfMore, jt: 1, k: r.last},
		{code: opReturn, k: v},
	}
}

// lowWord is where the low half of a 64-bit argument lies in it.
func lowWord() uint32 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return 0
	}
	return 4
}

// encodeFilter makes the array of struct sock_filter.
func encodeFilter(program []instruction) []byte {
	b := make([]byte, 0, 8*len(program))
	for _, i := range program {
		b = binary.NativeEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.NativeEndian.AppendUint32(b, i.k)
	}
	return b
}
