/* The parent's side of a child: fork + exec of this same program, reaping, and how it ended.
 *
 * Between fork and exec only async-signal-safe calls are made, since the parent has threads; all
 * strings are laid out before. No parent-death signal is used: it fires when the forking *thread*
 * ends. The child learns of its parent's end from its socket instead (child.c). */
#include "sandbox/internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#define MAX_STRINGS 32

/* Passed on from our own environment where they are set: what finds the language data, and in test
 * builds what a child is to get wrong. */
static const char *const kept_env[] = {
    "TESSDATA_PREFIX",
#ifdef FAULT_POINTS
    "DOCUSEARCH_READER_FAULT",
    "DOCUSEARCH_FAULT_OFFICE",
    "DOCUSEARCH_SANDBOX_TRACE",
#endif
};
#ifdef SANDBOX_SANITIZED
/* A jailed child opens no file for a report; a crash of its own is one as without a sanitizer; the
 * threads and locks in it are LibreOffice's. */
#define SANITIZER_OPTIONS                                                                          \
    "log_path=stderr:halt_on_error=1:exitcode=99:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:"   \
    "detect_deadlocks=0:ignore_noninstrumented_modules=1"
#define SANITIZER_EXIT 99
static const char *const sanitizer_env[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"};

/* UBSan asks at its first report, when a jailed child cannot read its environment any more. */
__attribute__((visibility("default"))) const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) {
    return SANITIZER_OPTIONS;
}
#endif
static const char *const fixed_env[] = {
    "PATH=/usr/bin:/bin",
    "LANG=C.UTF-8",
    "LC_ALL=C.UTF-8",
    "OMP_THREAD_LIMIT=1",
};

static bool program_path(char *out, size_t size, struct error *err) {
#ifdef __APPLE__
    uint32_t n = (uint32_t)size;
    if (_NSGetExecutablePath(out, &n) != 0)
        return error_set(err, ERROR_INTERNAL, "the program's path is longer than %zu", size);
#else
    (void)err;
    snprintf(out, size, "/proc/self/exe");
#endif
    return true;
}

static bool socket_pair(int pair[2], struct error *err) {
#ifdef SOCK_CLOEXEC
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
#else
    int rc = socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    for (int i = 0; rc == 0 && i < 2; i++)
        fcntl(pair[i], F_SETFD, FD_CLOEXEC);
#endif
    return rc == 0 ? true : error_set_errno(err, errno, "socket to a child");
}

/* After fork: async-signal-safe calls only. */
static void close_from(int first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
#endif
    struct rlimit files;
    int end = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 65536 ? (int)files.rlim_cur
                                                                              : 65536;
    for (int fd = first; fd < end; fd++)
        close(fd);
}

static _Noreturn void become_child(int sock, const char *path, char **argv, char **envp) {
    setpgid(0, 0);
    for (int signum = 1; signum < NSIG; signum++)
        signal(signum, SIG_DFL); /* ignored signals would survive exec */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    int moved = fcntl(sock, F_DUPFD, 10); /* out of the way of 0..3 */
    int null = open("/dev/null", O_RDWR);
    if (moved < 0 || null < 0)
        _exit(127);
    dup2(null, 0);
    dup2(null, 1);
#if !defined(FAULT_POINTS) && !defined(SANDBOX_SANITIZED)
    dup2(null, 2); /* what it says is shaped by foreign bytes */
#endif
    if (dup2(moved, SANDBOX_FD) < 0)
        _exit(127);
    close_from(SANDBOX_FD + 1);
    execve(path, argv, envp);
    _exit(127);
}

bool sandbox_spawn(struct sandbox_child **out, const struct sandbox_spawn *spawn,
                   struct error *err) {
    char path[4096];
    if (!program_path(path, sizeof path, err))
        return false;

    char *argv[MAX_STRINGS] = {"docusearch"};
    int n = 1;
    for (const char *const *arg = spawn->args; *arg && n < 15; arg++)
        argv[n++] = (char *)*arg;

    struct arena *arena = arena_new(0);
    char *envp[MAX_STRINGS] = {0};
    n = 0;
    for (size_t i = 0; i < BASE_COUNT(fixed_env); i++)
        envp[n++] = (char *)fixed_env[i];
    for (size_t i = 0; i < BASE_COUNT(kept_env); i++) {
        const char *value = getenv(kept_env[i]);
        if (value)
            envp[n++] = arena_printf(arena, "%s=%s", kept_env[i], value);
    }
#ifdef SANDBOX_SANITIZED
    for (size_t i = 0; i < BASE_COUNT(sanitizer_env); i++) {
        const char *value = getenv(sanitizer_env[i]);
        envp[n++] = arena_printf(arena, "%s=%s:" SANITIZER_OPTIONS, sanitizer_env[i],
                                 value ? value : "");
    }
#endif
    for (const char *const *var = spawn->env; var && *var && n < MAX_STRINGS - 1; var++)
        envp[n++] = (char *)*var;

    int pair[2];
    if (!socket_pair(pair, err)) {
        arena_free(arena);
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_child(pair[1], path, argv, envp);
    int fork_errno = errno;
    close(pair[1]);
    arena_free(arena);
    if (pid < 0) {
        close(pair[0]);
        return error_set_errno(err, fork_errno, "starting a child");
    }
    setpgid(pid, pid); /* whoever comes first */
    fcntl(pair[0], F_SETFL, O_NONBLOCK);

    struct sandbox_child *child = mem_alloc(sizeof *child);
    child->pid = pid;
    child->fd = pair[0];
    *out = child;
    return true;
}

static bool reap(struct sandbox_child *child, int *status, int64_t grace_ms) {
    int64_t deadline_ms = time_mono_ms() + grace_ms;
    for (;;) {
        pid_t got = waitpid(child->pid, status, WNOHANG);
        if (got == child->pid)
            return true;
        if (got < 0 && errno != EINTR) {
            *status = 0;
            return true;
        }
        if (time_mono_ms() >= deadline_ms)
            return false;
        time_sleep_ms(2);
    }
}

enum sandbox_end sandbox_end(struct sandbox_child *child, int64_t grace_ms, int *code) {
    if (code)
        *code = 0;
    if (!child)
        return SANDBOX_EXITED;
    int status = 0;
    /* The group outlives its leader: what it left behind goes too, before the number is reaped. */
    siginfo_t info = {0};
    int64_t deadline_ms = time_mono_ms() + grace_ms;
    bool ended = false;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == child->pid) {
            ended = true;
            break;
        }
        if (time_mono_ms() >= deadline_ms)
            break;
        time_sleep_ms(2);
    }
    kill(-child->pid, SIGKILL);
    kill(child->pid, SIGKILL);
    while (!reap(child, &status, 1000))
        log_warn("child %d does not end", (int)child->pid);
#ifdef SANDBOX_SANITIZED /* its report, on standard error, is never taken for a bad document */
    assert(!ended || !WIFEXITED(status) || WEXITSTATUS(status) != SANITIZER_EXIT);
#endif
    int pid = child->pid;
    close(child->fd);
    mem_free(child->data);
    mem_free(child);

    if (!ended)
        return SANDBOX_KILLED;
    if (WIFEXITED(status)) {
        if (code)
            *code = WEXITSTATUS(status);
        return WEXITSTATUS(status) == SANDBOX_EXIT_MEMORY ? SANDBOX_OUT_OF_MEMORY : SANDBOX_EXITED;
    }
    int signum = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (code)
        *code = signum;
    if (signum == SIGXCPU)
        return SANDBOX_OUT_OF_TIME;
    if (signum == SIGKILL) /* not by us: it had ended before */
        return SANDBOX_OUT_OF_MEMORY;
    if (signum == SIGSYS) {
        log_error("audit: sandboxed child %d was killed for a forbidden system call", pid);
        return SANDBOX_FORBIDDEN;
    }
    return SANDBOX_CRASHED;
}

int sandbox_pid(const struct sandbox_child *child) {
    return child->pid;
}

int64_t sandbox_rss_bytes(const struct sandbox_child *child) {
#ifdef __linux__
    char path[64], text[128];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)child->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    long long all = 0, resident = 0;
    if (sscanf(text, "%lld %lld", &all, &resident) != 2)
        return 0;
    return resident * sysconf(_SC_PAGESIZE);
#else
    (void)child;
    return 0;
#endif
}
