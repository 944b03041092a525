// Connects to the abstract Unix socket named by its argument.
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	strncpy(a.sun_path + 1, argv[1], sizeof a.sun_path - 2);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	setvbuf(stdout, 0, _IONBF, 0);
	dup2(1, 2);
	if (connect(fd, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(argv[1])) < 0)
		perror("connect");
	else
		puts("connected");
	return 0;
}
