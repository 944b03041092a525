// What init.c needs to be a program of its own, without a C library: system
// calls, three string functions, and a place to start. A C library would spend
// more time on finding out about the processor than the whole set-up takes.

static int lastError;
#undef errno
#define errno lastError

#if defined(__x86_64__)

static long rawCall(long n, long a, long b, long c, long d, long e, long f) {
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call start\n");

#elif defined(__aarch64__)

static long rawCall(long n, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl start\n");

#else
#error "no system call stub for this processor"
#endif

static long checked(long result) {
	if (result < 0 && result >= -4095) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

#define syscall6(n, a, b, c, d, e, f, ...) \
	checked(rawCall((long)(n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)))
#define syscall(...) syscall6(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define write(fd, data, size) syscall(SYS_write, fd, data, size)
#define close(fd) syscall(SYS_close, fd)
#define fcntl(fd, op, arg) syscall(SYS_fcntl, fd, op, arg)
#define fstat(fd, st) syscall(SYS_fstat, fd, st)
#define mmap(...) ((void *)syscall(SYS_mmap, __VA_ARGS__))
#define kill(pid, sig) syscall(SYS_kill, pid, sig)
#define _exit(code) \
	do { \
		for (;;) \
			syscall(SYS_exit_group, code); \
	} while (0)

// The compiler calls these on its own.
void *memcpy(void *to, const void *from, size_t n) {
	char *t = to;
	const char *f = from;
	while (n--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int c, size_t n) {
	char *t = to;
	while (n--)
		*t++ = (char)c;
	return to;
}

int strcmp(const char *a, const char *b) {
	while (*a && *a == *b)
		a++, b++;
	return (unsigned char)*a - (unsigned char)*b;
}
