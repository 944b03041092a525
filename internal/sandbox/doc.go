// Package sandbox makes the world in which a builder runs, and starts it there.
//
// Who does what:
//
//   - [NewWorld] makes the directories on the host: the chroot directory beside
//     the outputs in the store, and the build directory.
//   - [World.Start] surveys the host, makes a plan (pure, see plan.go) and starts
//     the program again as the init, which carries the plan out.
//   - init.c is the init: it runs before the Go runtime and interprets the plan,
//     system call by system call. The last one executes the builder.
//   - [Report] says how that went.
//
// The plan comes on descriptor 3, a memory file in the machine's own byte order:
//
//	header       magic "GBS1", size of everything, counts of steps and
//	             relocations, size of the data, count of descriptors after 4 that
//	             the builder gets (uint32 each)
//	steps        call number uint32, argument kinds uint32 (two bits each: number,
//	             offset of data, register), four ignored errors uint16, how many
//	             steps such an error skips uint32, register that takes the result
//	             plus one uint32, six arguments uint64
//	relocations  pairs of uint32: at this offset of the data, the address of that one
//	data         strings and structures, eight-byte aligned
//
// The report goes to descriptor 4, which closes itself when the builder is
// executed:
//
//	'P' pid int32               without privileges: the process to follow from now on
//	'R'                         ready: the next step executes the builder
//	'E' step int32 errno int32  this step failed; the init has exited with code 189
//
// End of file with 'R' and without 'E' means that the builder was executed.
//
// Nothing here is safe for concurrent use.
package sandbox
