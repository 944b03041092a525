// The init of a builder's process: an interpreter of the plan that the engine
// made (plan.go). It runs as a constructor of the main program, before the Go
// runtime exists, or, compiled with FREESTANDING, as a program of its own. It
// knows system calls only: which ones, in which order and with which arguments
// is the plan's business. See doc.go for the format.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef FREESTANDING
#include "freestanding.h"
#endif

enum { PLAN = 3, REPORT = 4 };
enum { FAILED = 189 };
enum { NUMBER = 0, POINTER = 1, REGISTER = 2 };
enum { REGISTERS = 8, ARGUMENTS = 6, IGNORED = 4 };
enum { SUCCESSOR = 0x10000 };
enum { MAGIC = 0x31534247 };
enum { MOST_KEPT = 16 };

struct header {
	uint32_t magic, size, steps, relocations, data, kept;
};

struct step {
	uint32_t call;             // system call number, or SUCCESSOR
	uint32_t kinds;            // two bits for each argument
	uint16_t ignored[IGNORED]; // errors that skip steps instead of failing
	uint32_t skip;             // how many
	uint32_t save;             // register for the result, plus one; 0: none
	uint64_t arg[ARGUMENTS];
};

struct relocation {
	uint32_t where, to; // offsets in the data
};

static void report(const void *record, size_t size) {
	while (write(REPORT, record, size) < 0 && errno == EINTR)
		;
}

__attribute__((noreturn)) static void fail(uint32_t step, int error) {
	char record[9] = {'E'};
	int32_t number = (int32_t)step, code = error;
	memcpy(record + 1, &number, 4);
	memcpy(record + 5, &code, 4);
	report(record, sizeof record);
	_exit(FAILED);
}

// succeed makes the child that goes on with the plan, a sibling of ours and
// the first process of the new PID namespace, and tells the engine its pid.
static void succeed(uint32_t step) {
	long pid = syscall(SYS_clone, (unsigned long)(CLONE_PARENT | SIGCHLD), 0L, 0L, 0L, 0L);
	if (pid < 0)
		fail(step, errno);
	if (pid == 0)
		return;
	char record[5] = {'P'};
	int32_t number = (int32_t)pid;
	memcpy(record + 1, &number, 4);
	report(record, sizeof record);
	_exit(0);
}

// settle undoes what a parent may have left behind: open descriptors, but for
// those after the report that are to be kept, and ignored and blocked signals.
static void settle(uint32_t kept) {
	unsigned first = REPORT + 1 + kept;
	if (syscall(SYS_close_range, first, ~0U, 0U) < 0)
		for (unsigned fd = first; fd < 4096; fd++)
			close((int)fd);
	fcntl(REPORT, F_SETFD, FD_CLOEXEC);
	struct {
		void *handler;
		unsigned long rest[7];
	} action;
	memset(&action, 0, sizeof action);
	for (long sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, &action, 0L, 8L);
	uint64_t none = 0;
	syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &none, 0L, 8L);
}

static const struct header *load(void) {
	struct stat st;
	if (fstat(PLAN, &st) < 0)
		fail(0, errno);
	if (st.st_size < (off_t)sizeof(struct header) || st.st_size > UINT32_MAX)
		fail(0, ENOEXEC);
	void *base = mmap(0, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, PLAN, 0);
	if (base == MAP_FAILED)
		fail(0, errno);
	close(PLAN);
	const struct header *h = base;
	uint64_t need = sizeof *h + (uint64_t)h->steps * sizeof(struct step) +
			(uint64_t)h->relocations * sizeof(struct relocation) + h->data;
	if (h->magic != MAGIC || h->size != st.st_size || need != h->size || h->kept > MOST_KEPT)
		fail(0, ENOEXEC);
	return h;
}

static void relocate(char *data, uint32_t size, const struct relocation *r, uint32_t count) {
	for (uint32_t i = 0; i < count; i++) {
		if (size < 8 || r[i].where > size - 8 || r[i].to >= size)
			fail(0, ENOEXEC);
		uint64_t address = (uint64_t)(uintptr_t)(data + r[i].to);
		memcpy(data + r[i].where, &address, 8);
	}
}

static int ignored(const struct step *s, int error) {
	for (int i = 0; i < IGNORED; i++)
		if (s->ignored[i] == error)
			return 1;
	return 0;
}

static long call(const struct step *s, char *data, const long *registers) {
	long a[ARGUMENTS];
	for (int i = 0; i < ARGUMENTS; i++) {
		uint64_t value = s->arg[i];
		switch ((s->kinds >> (2 * i)) & 3) {
		case POINTER:
			a[i] = (long)(uintptr_t)(data + value);
			break;
		case REGISTER:
			a[i] = registers[value % REGISTERS];
			break;
		default:
			a[i] = (long)value;
		}
	}
	return syscall((long)s->call, a[0], a[1], a[2], a[3], a[4], a[5]);
}

__attribute__((noreturn)) static void run(void) {
	const struct header *h = load();
	settle(h->kept);
	const struct step *steps = (const struct step *)(h + 1);
	const struct relocation *relocations = (const struct relocation *)(steps + h->steps);
	char *data = (char *)(relocations + h->relocations);
	relocate(data, h->data, relocations, h->relocations);
	long registers[REGISTERS] = {0};
	for (uint32_t i = 0; i < h->steps; i++) {
		const struct step *s = &steps[i];
		if (s->call == SUCCESSOR) {
			succeed(i);
			continue;
		}
		long result = call(s, data, registers);
		if (result < 0) {
			if (!ignored(s, errno))
				fail(i, errno);
			i += s->skip;
		} else if (s->save) {
			registers[(s->save - 1) % REGISTERS] = result;
		}
	}
	fail(h->steps, ENOEXEC); // a plan ends by executing something
}

// killUser kills every process of a user. The number is decimal and never 0.
__attribute__((noreturn)) static void killUser(const char *text) {
	uint64_t uid = 0;
	if (*text == 0)
		_exit(1);
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || uid > UINT32_MAX)
			_exit(1);
		uid = uid * 10 + (uint64_t)(*text - '0');
	}
	if (uid == 0 || uid >= UINT32_MAX)
		_exit(1);
	if (syscall(SYS_setresuid, (long)uid, (long)uid, (long)uid) < 0)
		_exit(1);
	while (kill(-1, SIGKILL) < 0) {
		if (errno == ESRCH)
			break;
		if (errno != EINTR)
			_exit(1);
	}
	_exit(0);
}

#ifndef FREESTANDING
__attribute__((constructor))
#endif
static void enter(int argc, char **argv) {
	if (argc == 2 && strcmp(argv[1], "__init") == 0)
		run();
	if (argc == 3 && strcmp(argv[1], "__killuser") == 0)
		killUser(argv[2]);
}

#ifdef FREESTANDING
// start has the stack as the kernel made it: the number of arguments, then the
// arguments.
__attribute__((noreturn, used)) void start(long *stack) {
	enter((int)stack[0], (char **)(stack + 1));
	_exit(1);
}
#endif
