// Tries to make a set-id file or an extended attribute in every way, and prints
// for each: what, the error number it got, and the one it should get.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRY(name, want, call) do { \
	errno = 0; \
	long r = (call); \
	printf("%s %d %d\n", name, r < 0 ? errno : 0, want); \
} while (0)

// A system call by the 32-bit way in. Its pointers must fit 32 bits.
static long compat(long nr, long a, long b, long c, long d) {
	long r;
	__asm__ volatile("push %%r8\npush %%r9\npush %%r10\npush %%r11\nint $0x80\npop %%r11\npop %%r10\npop %%r9\npop %%r8"
		: "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	int e = (int)r;
	if (e < 0 && e > -4096) {
		errno = -e;
		return -1;
	}
	return e;
}

int main(void) {
	const long x32 = 0x40000000;
	char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	setvbuf(stdout, 0, _IONBF, 0);
	strcpy(low, "f");
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	TRY("plain-chmod", 0, chmod("f", 0755));
	TRY("chmod", EPERM, syscall(SYS_chmod, "f", 04755));
	TRY("chmod-gid", EPERM, syscall(SYS_chmod, "f", 02755));
	TRY("chmod-high-bits", EPERM, syscall(SYS_chmod, "f", 0xffffffff00000000 | 04755));
	TRY("fchmod", EPERM, syscall(SYS_fchmod, fd, 04755));
	TRY("fchmodat", EPERM, syscall(SYS_fchmodat, AT_FDCWD, "f", 04755));
	TRY("fchmodat2", EPERM, syscall(452, AT_FDCWD, "f", 04755, 0));
	for (long nr = 188; nr <= 196; nr++) {
		char name[20];
		snprintf(name, sizeof name, "xattr-%ld", nr);
		TRY(name, EOPNOTSUPP, syscall(nr, "f", "user.x", "y", 1, 0));
	}
	for (long nr = 463; nr <= 466; nr++) {
		char name[20];
		snprintf(name, sizeof name, "xattrat-%ld", nr);
		TRY(name, EOPNOTSUPP, syscall(nr, AT_FDCWD, "f", 0, "user.x", 0, 0));
	}
	for (long nr = 425; nr <= 427; nr++) {
		char name[20];
		snprintf(name, sizeof name, "io_uring-%ld", nr);
		TRY(name, ENOSYS, syscall(nr, 1, 0, 0, 0, 0, 0));
	}
	if (compat(20, 0, 0, 0, 0) > 0) { // getpid: this kernel has the 32-bit way
		TRY("i386-plain-chmod", 0, compat(15, (long)low, 0755, 0, 0));
		TRY("i386-chmod", EPERM, compat(15, (long)low, 04755, 0, 0));
		TRY("i386-fchmod", EPERM, compat(94, fd, 04755, 0, 0));
		TRY("i386-fchmodat", EPERM, compat(306, AT_FDCWD, (long)low, 04755, 0));
		TRY("i386-fchmodat2", EPERM, compat(452, AT_FDCWD, (long)low, 04755, 0));
		for (long nr = 226; nr <= 234; nr++) {
			char name[20];
			snprintf(name, sizeof name, "i386-xattr-%ld", nr);
			TRY(name, EOPNOTSUPP, compat(nr, (long)low, (long)low, (long)low, 1));
		}
		TRY("i386-io_uring", ENOSYS, compat(425, 1, 0, 0, 0));
	}
	TRY("x32-chmod", EPERM, syscall(x32 | SYS_chmod, "f", 04755));
	TRY("x32-xattr", EOPNOTSUPP, syscall(x32 | SYS_setxattr, "f", "user.x", "y", 1, 0));
	struct stat st;
	TRY("mode", 0, fstat(fd, &st) < 0 || st.st_mode & 06000 ? -1 : 0);
	return 0;
}
