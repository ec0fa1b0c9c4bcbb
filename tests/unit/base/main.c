/* Tests of base, a group a file. */
#include "tests.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

char *temp_dir_make(void) {
    const char *root = getenv("TMPDIR");
    char *dir = mem_printf("%s/docusearch-base-XXXXXX", root && root[0] ? root : "/tmp");
    assert_non_null(mkdtemp(dir));
    return dir;
}

void temp_dir_drop(char *dir) {
    struct error err;
    if (!dir_remove(dir, &err))
        fail_msg("%s", err.text);
    mem_free(dir);
}

int run_forked(void (*fn)(void *), void *arg) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        int fd = open("/dev/null", O_WRONLY);
        dup2(fd, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        fn(arg);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

int main(void) {
    int failed = run_memory_tests();
    failed += run_text_tests();
    failed += run_files_tests();
    failed += run_thread_tests();
    failed += run_log_tests();
    failed += run_settings_tests();
    failed += run_notify_tests();
    return failed != 0;
}
