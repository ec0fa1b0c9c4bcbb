/* Files, folders, time. */
#include "tests.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state) {
    *state = temp_dir_make();
    return 0;
}

static int tear_down(void **state) {
    temp_dir_drop(*state);
    return 0;
}

static int n_entries(const char *path) {
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int n = -2; /* . and .. */
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void write_text(const char *path, const char *text) {
    struct error err;
    if (!file_write_durable(path, text, strlen(text), &err))
        fail_msg("%s", err.text);
}

static void paths_join_and_split(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    assert_string_equal(path_join(arena, "/a", "b"), "/a/b");
    assert_string_equal(path_join(arena, "/a/", "b"), "/a/b");
    assert_string_equal(path_join(arena, "", "b"), "b");
    assert_string_equal(path_name("/a/b.pdf"), "b.pdf");
    assert_string_equal(path_name("b.pdf"), "b.pdf");
    assert_string_equal(path_name("/a/"), "");
    arena_free(arena);
}

static void folders_are_made_with_parents(void **state) {
    struct error err;
    char *deep = mem_printf("%s/a//b/c/", (char *)*state);
    assert_true(dir_make(deep, &err));
    assert_true(dir_make(deep, &err));
    struct stat info;
    assert_int_equal(stat(deep, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_true(dir_sync(deep, &err));
    mem_free(deep);

    char *file = mem_printf("%s/file", (char *)*state);
    write_text(file, "x");
    assert_false(dir_make(file, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    char *below = mem_printf("%s/below", file);
    assert_false(dir_make(below, &err));
    assert_false(dir_sync(file, &err));
    mem_free(below);
    mem_free(file);
}

static void removal_stays_inside_the_tree(void **state) {
    struct error err;
    char *keep = mem_printf("%s/keep", (char *)*state);
    char *kept_file = mem_printf("%s/file", keep);
    char *tree = mem_printf("%s/tree/a/b", (char *)*state);
    char *root = mem_printf("%s/tree", (char *)*state);
    assert_true(dir_make(keep, &err));
    assert_true(dir_make(tree, &err));
    write_text(kept_file, "kept");
    char *link_to_dir = mem_printf("%s/link", tree);
    char *link_to_file = mem_printf("%s/link", root);
    char *dangling = mem_printf("%s/dangling", root);
    assert_int_equal(symlink(keep, link_to_dir), 0);
    assert_int_equal(symlink(kept_file, link_to_file), 0);
    assert_int_equal(symlink("/nowhere", dangling), 0);
    char *plain = mem_printf("%s/plain", tree);
    write_text(plain, "gone");

    if (!dir_remove(root, &err))
        fail_msg("%s", err.text);
    assert_int_equal(access(root, F_OK), -1);
    assert_int_equal(access(kept_file, F_OK), 0);
    assert_true(dir_remove(root, &err)); /* missing is fine */

    /* The root itself a link: the link goes, not what it points at. */
    assert_int_equal(symlink(keep, root), 0);
    assert_true(dir_remove(root, &err));
    assert_int_equal(access(kept_file, F_OK), 0);
    struct stat info;
    assert_int_equal(lstat(root, &info), -1);
    mem_free(keep);
    mem_free(kept_file);
    mem_free(tree);
    mem_free(root);
    mem_free(link_to_dir);
    mem_free(link_to_file);
    mem_free(dangling);
    mem_free(plain);
}

static void durable_write_replaces_whole_files(void **state) {
    struct error err;
    char *path = mem_printf("%s/data", (char *)*state);
    write_text(path, "first, longer");
    write_text(path, "second");
    char *data;
    size_t len;
    assert_true(file_read(&data, &len, path, 100, &err));
    assert_int_equal(len, 6);
    assert_string_equal(data, "second");
    mem_free(data);
    assert_int_equal(n_entries(*state), 1); /* no temporary file is left */
    mem_free(path);
}

static void durable_write_of_the_longest_name(void **state) {
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    char *path = mem_printf("%s/%s", (char *)*state, name);
    write_text(path, "x");
    assert_int_equal(access(path, F_OK), 0);
    mem_free(path);
}

static void durable_write_that_fails_leaves_the_old(void **state) {
    struct error err;
    char *missing = mem_printf("%s/missing/data", (char *)*state);
    assert_false(file_write_durable(missing, "x", 1, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    mem_free(missing);

    /* A folder under the name: the rename fails after everything was written. */
    char *taken = mem_printf("%s/taken/inner", (char *)*state);
    assert_true(dir_make(taken, &err));
    taken[strlen(taken) - strlen("/inner")] = '\0';
    assert_false(file_write_durable(taken, "x", 1, &err));
    assert_int_equal(err.kind, ERROR_IO);
    assert_int_equal(n_entries(*state), 1);
    mem_free(taken);
}

static void write_past_file_size_limit(void *arg) {
    struct rlimit small = {.rlim_cur = 1000, .rlim_max = 1000};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    char *bytes = mem_alloc(5000);
    struct error err;
    bool wrote = file_write_durable(arg, bytes, 5000, &err);
    _exit(wrote ? 1 : strcmp(err.code, "storage_error") == 0 ? 2 : 3);
}

static void durable_write_cut_short_leaves_the_old(void **state) {
    struct error err;
    char *path = mem_printf("%s/data", (char *)*state);
    write_text(path, "old");
    int status = run_forked(write_past_file_size_limit, path);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 2);
    char *data;
    size_t len;
    assert_true(file_read(&data, &len, path, 100, &err));
    assert_string_equal(data, "old");
    mem_free(data);
    assert_int_equal(n_entries(*state), 1);
    mem_free(path);
}

static void read_has_a_maximum(void **state) {
    struct error err;
    char *path = mem_printf("%s/data", (char *)*state);
    write_text(path, "0123456789");
    char *data = NULL;
    size_t len = 0;
    assert_true(file_read(&data, &len, path, 10, &err));
    assert_int_equal(len, 10);
    assert_int_equal(data[10], '\0');
    mem_free(data);
    data = NULL;
    assert_false(file_read(&data, &len, path, 9, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_false(file_read(&data, &len, path, 0, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_false(file_read(&data, &len, *state, 10, &err)); /* a folder */
    assert_int_equal(err.kind, ERROR_IO);
    assert_null(data);
    write_text(path, "");
    assert_true(file_read(&data, &len, path, 0, &err));
    assert_int_equal(len, 0);
    assert_string_equal(data, "");
    mem_free(data);
    mem_free(path);
    assert_false(file_read(&data, &len, "/nowhere/at/all", 10, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_string_equal(err.code, "not_found");
}

static void hash_of_a_file(void **state) {
    struct error err;
    char *path = mem_printf("%s/data", (char *)*state);
    size_t len = 600001;
    char *bytes = mem_alloc(len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 31);
    assert_true(file_write_durable(path, bytes, len, &err));
    char expected[SHA256_HEX + 1], hex[SHA256_HEX + 1];
    int64_t size = 0;
    sha256_hex(expected, bytes, len);
    assert_true(file_sha256(hex, &size, path, &err));
    assert_string_equal(hex, expected);
    assert_int_equal(size, len);
    assert_false(file_sha256(hex, &size, "/nowhere", &err));
    assert_false(file_sha256(hex, &size, *state, &err));
    char id[GIT_ID_HEX + 1];
    assert_true(file_write_durable(path, "hello\n", 6, &err));
    assert_true(file_git_id(id, path, &err));
    assert_string_equal(id, "ce013625030ba8dba906f756967f9e9ca394464a"); /* git hash-object */
    assert_false(file_git_id(id, "/nowhere", &err));
    mem_free(bytes);
    mem_free(path);
}

static void write_all_to_a_slow_pipe(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    size_t len = 1 << 20;
    pid_t pid = fork();
    if (pid == 0) {
        char scratch[5000];
        size_t got = 0;
        ssize_t n;
        close(ends[1]);
        while ((n = read(ends[0], scratch, sizeof scratch)) > 0)
            got += (size_t)n;
        _exit(got == len ? 0 : 1);
    }
    close(ends[0]);
    char *bytes = mem_alloc(len);
    struct error err;
    assert_true(fd_write_all(ends[1], bytes, len, &err));
    close(ends[1]);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_false(fd_write_all(-1, bytes, 1, &err));
    assert_int_equal(err.kind, ERROR_IO);
    mem_free(bytes);
}

static void free_space(void **state) {
    struct error err;
    int64_t bytes = -1;
    assert_true(disk_free_bytes(&bytes, *state, &err));
    assert_true(bytes > 0);
    assert_false(disk_free_bytes(&bytes, "/nowhere", &err));
}

static void times_as_text(void **state) {
    (void)state;
    char text[TIME_ISO];
    time_iso(text, 0);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    time_iso(text, 1795322503123);
    assert_string_equal(text, "2026-11-22T04:41:43.123Z");
    time_iso(text, 951782400000);
    assert_string_equal(text, "2000-02-29T00:00:00.000Z");
    time_iso(text, -5);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    time_iso(text, INT64_MAX);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
}

static void sleep_lasts(void **state) {
    (void)state;
    int64_t start = time_mono_ms();
    time_sleep_ms(20);
    assert_true(time_mono_ms() - start >= 20);
    time_sleep_ms(0);
    time_sleep_ms(-1);
    assert_true(time_wall_ms() > 1700000000000);
}

int run_files_tests(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_join_and_split),
        IN_FOLDER(folders_are_made_with_parents),
        IN_FOLDER(removal_stays_inside_the_tree),
        IN_FOLDER(durable_write_replaces_whole_files),
        IN_FOLDER(durable_write_of_the_longest_name),
        IN_FOLDER(durable_write_that_fails_leaves_the_old),
        IN_FOLDER(durable_write_cut_short_leaves_the_old),
        IN_FOLDER(read_has_a_maximum),
        IN_FOLDER(hash_of_a_file),
        cmocka_unit_test(write_all_to_a_slow_pipe),
        IN_FOLDER(free_space),
        cmocka_unit_test(times_as_text),
        cmocka_unit_test(sleep_lasts),
    };
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
