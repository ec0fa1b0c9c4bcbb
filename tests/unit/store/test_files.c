/* Originals, the check at start, the folder's lock. */
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

static char *new_file(struct fixture *f, const char *bytes) {
    int fd;
    char *path;
    must(store_tmp_new(&fd, &path, f->arena, f->store, &err));
    must(fd_write_all(fd, bytes, strlen(bytes), &err));
    close(fd);
    return path;
}

static void originals_are_kept_once(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    const char *id = test_id(f.arena, 0xabc);
    char *one = new_file(&f, "bytes"), *two = new_file(&f, "bytes");
    assert_string_not_equal(one, two);
    must(store_keep_original(f.store, id, one, &err));
    must(store_keep_original(f.store, id, two, &err));
    assert_false(exists(one));
    assert_false(exists(two));
    char *path = store_path(f.arena, f.store, id, STORE_ORIGINAL, 0), *data;
    size_t len;
    must(file_read(&data, &len, path, 100, &err));
    assert_string_equal(data, "bytes");
    mem_free(data);
    assert_non_null(strstr(store_path(f.arena, f.store, id, STORE_PAGE, 7), "/page-00007.jpg"));
    assert_non_null(
        strstr(store_path(f.arena, f.store, id, STORE_THUMB, 7), "/page-00007-thumb.jpg"));
    char *picture = store_path(f.arena, f.store, id, STORE_PAGE, 7);
    must(file_write_durable(picture, "jpeg", 4, &err));
    must(store_drop_reading(f.store, id, &err));
    assert_false(exists(picture));
    assert_true(exists(path));
    must(store_drop_files(f.store, id, &err));
    must(store_drop_files(f.store, id, &err));
    assert_false(exists(path));
    fixture_close(&f);
}

static void a_lost_temporary_is_an_error(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    assert_false(store_keep_original(f.store, test_id(f.arena, 1), "/nowhere/at/all", &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_true(store_check_space(f.store, 0, &err));
    assert_false(store_check_space(f.store, INT64_MAX, &err));
    assert_string_equal(err.code, "disk_full");
    assert_false(store_check_space(f.store, INT64_MAX / 2, &err));
    fixture_close(&f);
}

static void the_check_makes_files_and_rows_agree(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    put_text(&f, 1, "kept");
    put_text(&f, 2, "lost");
    must(store_keep_original(f.store, test_id(f.arena, 1), new_file(&f, "1"), &err));
    must(store_keep_original(f.store, test_id(f.arena, 3), new_file(&f, "3"), &err));
    char *left = new_file(&f, "left behind");
    int n_lost = 0;
    must(store_check(f.store, &n_lost, &err));
    assert_int_equal(n_lost, 1);
    assert_false(exists(left));
    assert_true(exists(store_path(f.arena, f.store, test_id(f.arena, 1), STORE_ORIGINAL, 0)));
    assert_false(exists(store_path(f.arena, f.store, test_id(f.arena, 3), STORE_ORIGINAL, 0)));
    assert_string_equal(found_by(&f, "lost kept"), "1");
    struct document_row row;
    bool found;
    must(store_find_document(&row, &found, f.arena, f.store, test_id(f.arena, 2), &err));
    assert_int_equal(row.state, DOCUMENT_FAILED);
    assert_string_equal(row.error_code, "original_missing");
    fixture_close(&f);
}

static void a_folder_that_is_not_mounted_loses_nothing(void **state) {
    (void)state;
    struct fixture f;
    int n_lost;
    fixture_open(&f);
    put_text(&f, 1, "one");
    put_text(&f, 2, "two");
    put_text(&f, 3, "three");
    assert_false(store_check(f.store, &n_lost, &err));
    assert_string_equal(err.code, "originals_missing");
    assert_string_equal(found_by(&f, "two"), "2");
    fixture_close(&f);
}

static void a_new_database_removes_no_document(void **state) {
    (void)state;
    struct fixture f;
    fixture_open(&f);
    must(store_keep_original(f.store, test_id(f.arena, 3), new_file(&f, "3"), &err));
    int n_lost = 0;
    must(store_check(f.store, &n_lost, &err));
    assert_true(exists(store_path(f.arena, f.store, test_id(f.arena, 3), STORE_ORIGINAL, 0)));
    fixture_close(&f);
}

static void one_process_has_the_folder(void **state) {
    (void)state;
    struct fixture f;
    struct store_lock *lock, *other;
    char *url;
    fixture_open(&f);
    must(store_lock_take(&lock, NULL, f.dir, &err));
    assert_false(store_lock_take(&other, &url, f.dir, &err));
    assert_int_equal(err.kind, ERROR_BUSY);
    assert_string_equal(err.code, "data_folder_in_use");
    assert_string_equal(url, "");
    mem_free(url);
    must(store_lock_set_url(lock, "http://127.0.0.1:8002", &err));

    pid_t child = fork();
    if (child == 0) {
        struct error child_err;
        bool refused = !store_lock_take(&other, &url, f.dir, &child_err) && url &&
                       strcmp(url, "http://127.0.0.1:8002") == 0 &&
                       strstr(child_err.text, "http://127.0.0.1:8002");
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    store_lock_release(lock);
    must(store_lock_take(&lock, &url, f.dir, &err));
    assert_null(url);
    store_lock_release(lock);
    fixture_close(&f);
}

int run_files_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(originals_are_kept_once),
        cmocka_unit_test(a_lost_temporary_is_an_error),
        cmocka_unit_test(the_check_makes_files_and_rows_agree),
        cmocka_unit_test(a_folder_that_is_not_mounted_loses_nothing),
        cmocka_unit_test(a_new_database_removes_no_document),
        cmocka_unit_test(one_process_has_the_folder),
    };
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
