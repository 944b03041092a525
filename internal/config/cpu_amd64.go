package config

// The CPUID and XGETBV instructions. A library would find out more, at every
// start of the program.
func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
func xgetbv() (eax uint32)

// features are the bits that a level of the processor asks for.
type features struct {
	leaf1C uint32 // leaf 1, ECX
	leaf7B uint32 // leaf 7, EBX
	extC   uint32 // leaf 0x80000001, ECX
	state  uint32 // register sets that the kernel saves (XCR0)
}

func (f features) include(g features) bool {
	return f.leaf1C&g.leaf1C == g.leaf1C && f.leaf7B&g.leaf7B == g.leaf7B &&
		f.extC&g.extC == g.extC && f.state&g.state == g.state
}

const osXSave = 1 << 27

// cpuLevels are the x86-64 micro-architecture levels from 2 on, as the
// psABI defines them; each includes those before it.
var cpuLevels = [...]features{
	// SSE3 SSSE3 CMPXCHG16B SSE4.1 SSE4.2 POPCNT; LAHF
	{leaf1C: 1<<0 | 1<<9 | 1<<13 | 1<<19 | 1<<20 | 1<<23, extC: 1 << 0},
	// FMA MOVBE OSXSAVE AVX F16C; BMI1 AVX2 BMI2; LZCNT
	{leaf1C: 1<<12 | 1<<22 | osXSave | 1<<28 | 1<<29, leaf7B: 1<<3 | 1<<5 | 1<<8, extC: 1 << 5, state: 6},
	// AVX512 F DQ CD BW VL
	{leaf7B: 1<<16 | 1<<17 | 1<<28 | 1<<30 | 1<<31, state: 0xe6},
}

func cpuFeatures() (f features) {
	last, _, _, _ := cpuid(0, 0)
	_, _, f.leaf1C, _ = cpuid(1, 0)
	if last >= 7 {
		_, f.leaf7B, _, _ = cpuid(7, 0)
	}
	if top, _, _, _ := cpuid(0x80000000, 0); top >= 0x80000001 {
		_, _, f.extC, _ = cpuid(0x80000001, 0)
	}
	if f.leaf1C&osXSave != 0 {
		f.state = xgetbv()
	}
	return f
}

// cpuLevel is the processor's x86-64 micro-architecture level.
func cpuLevel() int {
	have, level := cpuFeatures(), 1
	for _, want := range cpuLevels {
		if !have.include(want) {
			break
		}
		level++
	}
	return level
}
