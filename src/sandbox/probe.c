/* The self-test: what a locked child must not be able to do, tried for real. */
#include "sandbox/internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(char out[160], const char *what) {
    size_t n = strlen(out);
    snprintf(out + n, 160 - n, "%s%s", n ? ", " : "", what);
}

static bool can_open(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A socket that can be made is enough: what it would connect to is not in question. */
static bool can_connect(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* exec of a folder fails in any case; EISDIR or EACCES tells nothing, so a real program is tried
 * whose end would be this child's: it exits with a status that the parent knows. */
static bool can_exec(void) {
    char *argv[] = {(char *)"true", NULL}, *envp[] = {NULL};
    execve("/bin/true", argv, envp);
    execve("/usr/bin/true", argv, envp);
    return false;
}

void sandbox_probe(char out[160], enum sandbox_kind kind) {
    out[0] = '\0';
    if (kind == SANDBOX_PURE && can_open("/usr/bin/env", O_RDONLY))
        note(out, "read a file");
    if (can_open("/root/.profile", O_RDONLY) || can_open("/var/log", O_RDONLY | O_DIRECTORY))
        note(out, "read outside its folders");
    if (can_open("/tmp/docusearch-probe", O_WRONLY | O_CREAT)) {
        unlink("/tmp/docusearch-probe");
        note(out, "write outside its folder");
    }
    if (can_connect())
        note(out, "open a network socket");
    if (can_exec())
        note(out, "start a program");
}
