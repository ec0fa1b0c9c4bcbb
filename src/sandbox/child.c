/* The child's side: it ends when its parent does, limits its own resources, drops its user, and
 * enters the jail.
 *
 * A parent's end shows as a hang-up of fd 3, which the kernel reports as SIGIO even while the child
 * computes; no thread watches. A lack of memory mostly surfaces as an abort in a library: the
 * handler of fatal signals asks for a block of addresses, and where that is refused ends with the
 * exit status that means "no memory". */
#include "sandbox/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define NOBODY 65534
#define HEADROOM ((size_t)256 << 20)
#define FILE_SIZE_CONVERTER ((rlim_t)1 << 30)

static volatile sig_atomic_t leads_group;

static void on_hang_up(int signum) {
    (void)signum;
    struct pollfd item = {.fd = SANDBOX_FD, .events = 0};
    if (poll(&item, 1, 0) == 1 && (item.revents & (POLLHUP | POLLERR | POLLNVAL))) {
        if (leads_group)
            kill(0, SIGKILL); /* and whatever a converter started */
        _exit(0);
    }
}

#ifndef SANDBOX_SANITIZED
static const int fatal_signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

static void on_fatal(int signum) {
    void *block = mmap(NULL, HEADROOM, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                       0);
    if (block == MAP_FAILED)
        _exit(SANDBOX_EXIT_MEMORY);
    munmap(block, HEADROOM);
    raise(signum); /* SA_RESETHAND: delivered on return, and deadly then */
}
#endif

void sandbox_child_begin(void) {
    struct sigaction act = {.sa_handler = on_hang_up, .sa_flags = SA_RESTART};
    sigaction(SIGIO, &act, NULL);
    fcntl(SANDBOX_FD, F_SETFD, FD_CLOEXEC);
    fcntl(SANDBOX_FD, F_SETOWN, getpid());
    fcntl(SANDBOX_FD, F_SETFL, fcntl(SANDBOX_FD, F_GETFL) | O_ASYNC);
    on_hang_up(SIGIO); /* it may have gone before */
#ifndef SANDBOX_SANITIZED
    static char stack[64 << 10]; /* a fatal signal may be a stack overflow */
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternative, NULL);
    struct sigaction fatal = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND | SA_ONSTACK};
    for (size_t i = 0; i < BASE_COUNT(fatal_signals); i++)
        sigaction(fatal_signals[i], &fatal, NULL);
#endif
}

static void limit(int what, rlim_t soft, rlim_t hard) {
    struct rlimit old, wanted = {.rlim_cur = soft, .rlim_max = hard};
    if (getrlimit((unsigned)what, &old) == 0 && old.rlim_max != RLIM_INFINITY) {
        if (wanted.rlim_max == RLIM_INFINITY || wanted.rlim_max > old.rlim_max)
            wanted.rlim_max = old.rlim_max;
        if (wanted.rlim_cur == RLIM_INFINITY || wanted.rlim_cur > wanted.rlim_max)
            wanted.rlim_cur = wanted.rlim_max;
    }
    setrlimit((unsigned)what, &wanted);
}

static void limit_resources(enum sandbox_kind kind) {
    bool pure = kind == SANDBOX_PURE;
    limit(RLIMIT_CORE, 0, 0);
#ifndef SANDBOX_SANITIZED
    rlim_t memory = (rlim_t)(pure ? SANDBOX_MEMORY_PURE : SANDBOX_MEMORY_CONVERTER);
    limit(RLIMIT_AS, memory, memory);
    limit(RLIMIT_FSIZE, pure ? 0 : FILE_SIZE_CONVERTER, pure ? 0 : FILE_SIZE_CONVERTER);
#endif
    signal(SIGXFSZ, SIG_IGN); /* a write past the limit is an error, not the end */
    limit(RLIMIT_NOFILE, pure ? 16 : 512, pure ? 16 : 512);
}

void sandbox_cpu_limit(int seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    struct rlimit now = {
        .rlim_cur = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1 + seconds),
        .rlim_max = RLIM_INFINITY,
    };
    struct rlimit old;
    if (getrlimit(RLIMIT_CPU, &old) == 0)
        now.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_CPU, &now);
}

/* Under root nobody's rights are enough: what is needed was opened before, or is readable. */
static bool drop_user(const struct sandbox_lock *lock, struct error *err) {
    if (geteuid() != 0)
        return true;
    if (setgroups(0, NULL) != 0 && errno != EPERM)
        return error_set_errno(err, errno, "dropping groups");
    if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0) {
        if (errno == EPERM || errno == EINVAL) /* a container without that user or right */
            return true;
        return error_set_errno(err, errno, "becoming user %d", NOBODY);
    }
    if (lock->private_dir && access(lock->private_dir, R_OK | W_OK | X_OK) != 0)
        return error_set_errno(err, errno, "%s as user %d", lock->private_dir, NOBODY);
    return true;
}

/* LibreOffice has handlers of its own, which call those they found: ours would call them again. */
static void leave_signals(void) {
#ifndef SANDBOX_SANITIZED
    for (size_t i = 0; i < BASE_COUNT(fatal_signals); i++)
        signal(fatal_signals[i], SIG_DFL);
#endif
}

bool sandbox_lock(char level[SANDBOX_LEVEL], const struct sandbox_lock *lock, struct error *err) {
    snprintf(level, SANDBOX_LEVEL, "rlimit");
    leads_group = lock->kind == SANDBOX_CONVERTER && getpgrp() == getpid();
    if (lock->kind == SANDBOX_CONVERTER && geteuid() == 0 &&
        chown(lock->private_dir, NOBODY, NOBODY) != 0 && errno != EPERM)
        return error_set_errno(err, errno, "%s", lock->private_dir);
    if (lock->kind == SANDBOX_CONVERTER)
        leave_signals();
    limit_resources(lock->kind);
#ifdef __linux__
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) { /* the system's killer takes us before the server */
        ssize_t n = write(score, "1000", 4);
        (void)n;
        close(score);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no_new_privs");
    int landlock = landlock_enter(lock, err);
    if (landlock < 0 || !drop_user(lock, err))
        return false;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    bool filtered = filter_enter(lock);
    if (filtered && landlock)
        snprintf(level, SANDBOX_LEVEL, "seccomp+landlock%d", landlock);
    else if (filtered)
        snprintf(level, SANDBOX_LEVEL, "seccomp");
    else if (landlock)
        snprintf(level, SANDBOX_LEVEL, "landlock%d", landlock);
    return true;
#else
    return drop_user(lock, err);
#endif
}
