/* Children of this same program that behave, misbehave, and try to get out. */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { ECHO = 1, BIG = 2, REPLY = 10 };

static size_t max_len(uint32_t type) {
    return type == REPLY ? 8 << 20 : 0;
}

/* ---- the child ------------------------------------------------------------------------------- */

static void reply(const char *text) {
    sandbox_child_send(REPLY, text, strlen(text), NULL, 0);
}

static void lock_pure(void) {
    char level[SANDBOX_LEVEL];
    struct error err;
    struct sandbox_lock lock = {.kind = SANDBOX_PURE};
    if (!sandbox_lock(level, &lock, &err))
        _exit(9);
}

static void child_echo(void) {
    uint32_t type;
    uint8_t *payload;
    size_t len;
    int fd;
    while (sandbox_child_receive(&type, &payload, &len, &fd)) {
        if (fd >= 0) {
            char text[64] = "fd:";
            ssize_t n = pread(fd, text + 3, sizeof text - 4, 0);
            text[n < 0 ? 0 : n + 3] = '\0';
            reply(text);
            close(fd);
        } else if (type == BIG) {
            size_t n = 4 << 20;
            char *block = mem_alloc(n);
            memset(block, 'x', n);
            sandbox_child_send(REPLY, "head", 4, block, n);
            mem_free(block);
        } else {
            sandbox_child_send(REPLY, payload, len, NULL, 0);
        }
        mem_free(payload);
    }
}

static void child_surroundings(void) {
    char text[256];
    int n_open = 0;
    for (int fd = 0; fd < 256; fd++)
        n_open += fcntl(fd, F_GETFD) >= 0;
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    struct sigaction pipe_action;
    sigaction(SIGPIPE, NULL, &pipe_action);
    snprintf(text, sizeof text, "open=%d secret=%s blocked=%d pipe=%d group=%d path=%s", n_open,
             getenv("SANDBOX_TEST_SECRET") ? "yes" : "no", sigismember(&blocked, SIGTERM),
             pipe_action.sa_handler == SIG_DFL, getpgrp() == getpid(), getenv("PATH"));
    reply(text);
}

static void child_pure(void) {
    char level[SANDBOX_LEVEL], left[160], text[512];
    struct error err;
    int passwd = open("/etc/passwd", O_RDONLY);
    struct sandbox_lock lock = {.kind = SANDBOX_PURE};
    if (!sandbox_lock(level, &lock, &err)) {
        reply(err.text);
        return;
    }
    sandbox_probe(left, SANDBOX_PURE);
    struct stat st;
    struct rlimit now;
    char first;
    bool executable = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                      MAP_FAILED;
    void *block = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool turned = mprotect(block, 4096, PROT_READ | PROT_EXEC) == 0;
    bool stats = stat("/etc/passwd", &st) == 0, forks = fork() >= 0;
    bool kills = kill(getppid(), 0) == 0, reads = pread(passwd, &first, 1, 0) == 1;
    sandbox_cpu_limit(7);
    getrlimit(RLIMIT_CPU, &now);
    snprintf(text, sizeof text,
             "level=%s left=[%s] exec-map=%d exec-turn=%d stat=%d fork=%d kill=%d read=%d cpu=%d "
             "root=%d",
             level, left, executable, turned, stats, forks, kills, reads,
             now.rlim_cur >= 7 && now.rlim_cur < 20, geteuid() == 0);
    reply(text);
}

static bool writes(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

#define NO_PROCESS 0x3ffffe

static void child_converter(const char *dir, bool may_exec) {
    char level[SANDBOX_LEVEL], left[160], text[512], path[512];
    struct error err;
    struct sandbox_lock lock = {
        .kind = SANDBOX_CONVERTER, .private_dir = dir, .may_exec = may_exec};
    if (!sandbox_lock(level, &lock, &err)) {
        reply(err.text);
        return;
    }
    left[0] = '\0';
    if (!may_exec)
        sandbox_probe(left, SANDBOX_CONVERTER);
    snprintf(path, sizeof path, "%s/mine", dir);
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    if (pid > 0)
        waitpid(pid, &status, 0);
    bool net = socket(AF_INET, SOCK_DGRAM, 0) >= 0 || socket(AF_INET6, SOCK_STREAM, 0) >= 0 ||
               socket(AF_NETLINK, SOCK_RAW, 0) >= 0;
    bool local = socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
    /* A process that is not there: the kernel would say so, the filter does not ask it. */
    struct rlimit none = {0};
    bool reaches = (syscall(SYS_tgkill, NO_PROCESS, NO_PROCESS, 0) != 0 && errno == ESRCH) ||
                   (kill(NO_PROCESS, 0) != 0 && errno == ESRCH) ||
                   (prlimit(NO_PROCESS, RLIMIT_CPU, &none, NULL) != 0 && errno == ESRCH);
    snprintf(text, sizeof text,
             "level=%s left=[%s] own=%d above=%d usr=%d net=%d unix=%d ran=%d "
             "setsid=%d reaches=%d",
             level, left, writes(path), writes("/tmp/docusearch-test-above"),
             access("/usr/bin/env", R_OK) == 0, net, local, pid > 0 && status == 0, setsid() >= 0,
             reaches);
    reply(text);
}

static void child_memory(bool ours) {
    lock_pure();
    for (;;) {
        size_t n = 64 << 20;
        char *block = ours ? mem_alloc(n) : malloc(n);
        if (!block)
            abort();
        memset(block, 1, n);
    }
}

/* In the child: never returns. */
static void child_main(int argc, char **argv) {
    const char *what = argv[2];
    sandbox_child_begin();
    if (strcmp(what, "echo") == 0)
        child_echo();
    else if (strcmp(what, "surroundings") == 0)
        child_surroundings();
    else if (strcmp(what, "pure") == 0)
        child_pure();
    else if (strcmp(what, "converter") == 0 && argc > 3)
        child_converter(argv[3], argc > 4);
    else if (strcmp(what, "memory") == 0)
        child_memory(false);
    else if (strcmp(what, "memory-ours") == 0)
        child_memory(true);
    else if (strcmp(what, "crash") == 0)
        raise(SIGSEGV);
    else if (strcmp(what, "abort") == 0)
        abort();
    else if (strcmp(what, "status") == 0)
        _exit(5);
    else if (strcmp(what, "spin") == 0) {
        lock_pure();
        sandbox_cpu_limit(1);
        for (volatile unsigned i = 0;; i++)
            ;
    } else if (strcmp(what, "syscall") == 0) {
        lock_pure();
        syscall(SYS_setns, -1, 0);
        reply("lived");
    } else if (strcmp(what, "drip") == 0) { /* half a frame, then the rest */
        ssize_t n = write(SANDBOX_FD, "\x0a\0\0\0\x03\0\0\0a", 9);
        time_sleep_ms(300);
        n += write(SANDBOX_FD, "bc", 2);
        time_sleep_ms(n == 11 ? 10000 : 0);
    } else if (strcmp(what, "huge") == 0) {
        ssize_t n = write(SANDBOX_FD, "\x0a\0\0\0\xff\xff\xff\xff", 8);
        time_sleep_ms(n == 8 ? 10000 : 0);
    } else if (strcmp(what, "grandchild") == 0) {
        signal(SIGTERM, SIG_IGN);
        pid_t pid = fork();
        if (pid == 0) {
            close(SANDBOX_FD);
            time_sleep_ms(60000);
            _exit(0);
        }
        char text[32];
        snprintf(text, sizeof text, "%d", (int)pid);
        reply(text);
        time_sleep_ms(60000);
    } else if (strcmp(what, "orphan") == 0) { /* a parent that dies while its child computes */
        struct sandbox_child *child;
        const char *args[] = {"child", argc > 3 ? "deep" : "busy", NULL};
        struct sandbox_spawn spawn = {.args = args};
        struct error err;
        if (!sandbox_spawn(&child, &spawn, &err))
            _exit(8);
        struct sandbox_frame frame;
        if (sandbox_receive(&frame, child, max_len, time_mono_ms() + 5000) != SANDBOX_FRAME)
            _exit(7);
        char text[32];
        snprintf(text, sizeof text, "%d", sandbox_pid(child));
        reply(text);
        _exit(0);
    } else if (strcmp(what, "busy") == 0) {
        lock_pure();
        reply("busy");
        for (volatile unsigned i = 0;; i++)
            ;
    }
    _exit(0);
}

/* ---- the parent ------------------------------------------------------------------------------ */

static struct sandbox_child *start(const char *what, const char *arg, const char *arg2) {
    struct sandbox_child *child;
    struct error err = {0};
    const char *args[] = {"child", what, arg, arg2, NULL};
    struct sandbox_spawn spawn = {.args = args};
    if (!sandbox_spawn(&child, &spawn, &err))
        fail_msg("%s", err.text);
    return child;
}

static char *answer(struct sandbox_child *child) {
    struct sandbox_frame frame;
    enum sandbox_got got = sandbox_receive(&frame, child, max_len, time_mono_ms() + 10000);
    assert_int_equal(got, SANDBOX_FRAME);
    static char text[1024];
    snprintf(text, sizeof text, "%.*s", (int)frame.len, (const char *)frame.data);
    return text;
}

static void closes(struct sandbox_child *child) {
    struct sandbox_frame frame;
    assert_int_equal(sandbox_receive(&frame, child, max_len, time_mono_ms() + 60000),
                     SANDBOX_CLOSED);
}

static bool gone(pid_t pid) {
    for (int i = 0; i < 300; i++) {
        if (kill(pid, 0) != 0 && errno == ESRCH)
            return true;
        char path[64], text[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        FILE *file = fopen(path, "r");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
        if (file)
            fclose(file);
        if (n == 0 || strstr(text, ") Z"))
            return true;
        time_sleep_ms(10);
    }
    return false;
}

static void test_frames(void **state) {
    (void)state;
    struct error err = {0};
    struct sandbox_child *child = start("echo", NULL, NULL);
    assert_true(sandbox_send(child, ECHO, "hello", 5, -1, &err));
    assert_string_equal(answer(child), "hello");
    assert_true(sandbox_send(child, ECHO, NULL, 0, -1, &err));
    assert_string_equal(answer(child), "");

    char path[] = "/tmp/docusearch-test-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "inside", 6), 6);
    assert_true(sandbox_send(child, ECHO, "x", 1, fd, &err));
    assert_string_equal(answer(child), "fd:inside");
    close(fd);
    unlink(path);

    assert_true(sandbox_send(child, BIG, NULL, 0, -1, &err));
    struct sandbox_frame frame;
    assert_int_equal(sandbox_receive(&frame, child, max_len, time_mono_ms() + 5000), SANDBOX_FRAME);
    assert_int_equal(frame.len, (4 << 20) + 4);
    assert_memory_equal(frame.data, "headxxxx", 8);
    assert_int_equal(frame.data[frame.len - 1], 'x');
    assert_int_equal(sandbox_receive(&frame, child, max_len, time_mono_ms() + 50), SANDBOX_WAITING);
    assert_true(sandbox_rss_bytes(child) > 0);
    int code;
    assert_int_equal(sandbox_end(child, 0, &code), SANDBOX_KILLED);
}

static void test_half_frames(void **state) {
    (void)state;
    struct sandbox_child *child = start("drip", NULL, NULL);
    struct sandbox_frame frame;
    int waits = 0;
    enum sandbox_got got;
    while ((got = sandbox_receive(&frame, child, max_len, time_mono_ms() + 50)) == SANDBOX_WAITING)
        if (++waits > 100)
            break;
    assert_int_equal(got, SANDBOX_FRAME);
    assert_int_equal(frame.len, 3);
    assert_memory_equal(frame.data, "abc", 3);
    assert_true(waits >= 2);
    sandbox_end(child, 0, NULL);

    child = start("huge", NULL, NULL);
    assert_int_equal(sandbox_receive(&frame, child, max_len, time_mono_ms() + 5000),
                     SANDBOX_BROKEN);
    sandbox_end(child, 0, NULL);
}

static void test_surroundings(void **state) {
    (void)state;
    setenv("SANDBOX_TEST_SECRET", "1", 1);
    int extra = open("/dev/null", O_RDONLY); /* without close-on-exec */
    signal(SIGPIPE, SIG_IGN);
    sigset_t set, old;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, &old);
    struct sandbox_child *child = start("surroundings", NULL, NULL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    assert_string_equal(answer(child),
                        "open=4 secret=no blocked=0 pipe=1 group=1 path=/usr/bin:/bin");
    closes(child);
    int code;
    assert_int_equal(sandbox_end(child, 10000, &code), SANDBOX_EXITED);
    assert_int_equal(code, 0);
    close(extra);
}

static void test_pure(void **state) {
    (void)state;
    struct sandbox_child *child = start("pure", NULL, NULL);
    char *text = answer(child);
    print_message("%s\n", text);
    assert_non_null(strstr(text, "level=seccomp"));
    assert_non_null(strstr(text, "left=[] exec-map=0 exec-turn=0 stat=0 fork=0 kill=0 read=1 "
                                 "cpu=1 root=0"));
    sandbox_end(child, 0, NULL);
}

static void converter(const char *arg, const char *expected) {
    char dir[] = "/tmp/docusearch-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct sandbox_child *child = start("converter", dir, arg);
    char *text = answer(child);
    print_message("%s\n", text);
    if (strstr(text, "landlock"))
        assert_non_null(strstr(text, expected));
    else
        print_message("no Landlock in this kernel: files are not checked\n");
    assert_non_null(strstr(text, "net=0 unix=1"));
    sandbox_end(child, 0, NULL);
    unlink("/tmp/docusearch-test-above");
    struct error err;
    assert_true(dir_remove(dir, &err));
}

static void test_converter(void **state) {
    (void)state;
    converter(NULL, "left=[] own=1 above=0 usr=1 net=0 unix=1 ran=0 setsid=0 reaches=0");
    converter("exec", "left=[] own=1 above=0 usr=1 net=0 unix=1 ran=1 setsid=0");
}

static void ends(const char *what, enum sandbox_end expected, int expected_code) {
    struct sandbox_child *child = start(what, NULL, NULL);
    closes(child);
    int code = 0;
    enum sandbox_end end = sandbox_end(child, 10000, &code);
    print_message("%s: end %d, code %d\n", what, end, code);
    assert_int_equal(end, expected);
    if (expected_code >= 0)
        assert_int_equal(code, expected_code);
}

static void test_ends(void **state) {
    (void)state;
    ends("status", SANDBOX_EXITED, 5);
    ends("spin", SANDBOX_OUT_OF_TIME, SIGXCPU);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: crashes and memory limits, which the sanitizer takes over\n");
#else
    ends("crash", SANDBOX_CRASHED, SIGSEGV);
    ends("abort", SANDBOX_CRASHED, SIGABRT);
    ends("memory", SANDBOX_OUT_OF_MEMORY, -1);
    ends("memory-ours", SANDBOX_OUT_OF_MEMORY, -1);
    ends("syscall", SANDBOX_FORBIDDEN, SIGSYS);
#endif
}

static void test_kills_group(void **state) {
    (void)state;
    struct sandbox_child *child = start("grandchild", NULL, NULL);
    pid_t grandchild = atoi(answer(child));
    assert_true(grandchild > 1);
    assert_int_equal(kill(grandchild, 0), 0);
    assert_int_equal(sandbox_end(child, 0, NULL), SANDBOX_KILLED);
    assert_true(gone(grandchild));
}

static void test_dies_with_parent(void **state) {
    (void)state;
    struct sandbox_child *child = start("orphan", NULL, NULL);
    pid_t orphan = atoi(answer(child));
    assert_true(orphan > 1);
    /* Its group is its own, so only its parent's end can be what ends it. */
    closes(child);
    assert_true(gone(orphan));
    sandbox_end(child, 1000, NULL);
}

/* A child outlives the thread that started it. */
static struct sandbox_child *from_thread;
static void spawn_in_thread(void *arg) {
    (void)arg;
    from_thread = start("echo", NULL, NULL);
}
static void test_threads(void **state) {
    (void)state;
    struct error err;
    struct thread *thread;
    assert_true(thread_start(&thread, "spawner", spawn_in_thread, NULL, &err));
    thread_join(thread);
    time_sleep_ms(100);
    assert_true(sandbox_send(from_thread, ECHO, "still", 5, -1, &err));
    assert_string_equal(answer(from_thread), "still");
    assert_int_equal(sandbox_end(from_thread, 0, NULL), SANDBOX_KILLED);
}

static void test_dead_child_is_an_error(void **state) {
    (void)state;
    struct error err = {0};
    struct sandbox_child *child = start("status", NULL, NULL);
    closes(child);
    time_sleep_ms(50);
    assert_false(sandbox_send(child, ECHO, "x", 1, -1, &err));
    assert_string_equal(err.code, "parser_crash");
    sandbox_end(child, 0, NULL);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "child") == 0)
        child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),       cmocka_unit_test(test_half_frames),
        cmocka_unit_test(test_surroundings), cmocka_unit_test(test_pure),
        cmocka_unit_test(test_converter),    cmocka_unit_test(test_ends),
        cmocka_unit_test(test_kills_group),  cmocka_unit_test(test_dies_with_parent),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_dead_child_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
