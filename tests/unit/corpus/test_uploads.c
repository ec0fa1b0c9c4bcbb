/* Tests of what is known of the files in UPLOADS_DIR: the table and its file. */
#include "corpus/uploads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    char folder[64], path[96];
    struct uploads_table table;
};

static int set_up(void **state) {
    struct fixture *f = mem_alloc(sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/docusearch-uploads-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/uploads.seen", f->folder);
    uploads_table_init(&f->table);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    struct error err;
    uploads_table_fini(&f->table);
    assert_true(dir_remove(f->folder, &err));
    mem_free(f);
    return 0;
}

static struct upload_file *put(struct fixture *f, const char *path, enum upload_state state) {
    struct upload_file *file = uploads_put(&f->table, path);
    assert_non_null(file);
    file->state = state;
    file->device = UINT64_MAX - 1;
    file->mark = (struct upload_mark){
        .size_bytes = (int64_t)strlen(path), .mtime_ns = -5000000000123456789, .inode = UINT64_MAX};
    return file;
}

static void count(void *ctx, struct upload_file *file) {
    (void)file;
    ++*(int *)ctx;
}

static void drop_odd(void *ctx, struct upload_file *file) {
    if (strtol(file->path, NULL, 10) % 2)
        uploads_forget(ctx, file);
}

static void test_table(void **state) {
    struct fixture *f = *state;
    char path[32];
    int n = 0;
    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof path, "%d/file", i);
        assert_null(uploads_lookup(&f->table, path));
        put(f, path, UPLOAD_TAKEN);
    }
    uploads_each(&f->table, count, &n);
    assert_int_equal(n, 3000);
    uploads_each(&f->table, drop_odd, &f->table);
    assert_int_equal(f->table.n, 1500);
    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof path, "%d/file", i);
        assert_int_equal(uploads_lookup(&f->table, path) != NULL, i % 2 == 0);
    }
}

static void test_limit(void **state) {
    struct fixture *f = *state;
    char path[32];
    for (int i = 0; i < UPLOADS_MAX_FILES; i++) {
        snprintf(path, sizeof path, "%d", i);
        assert_non_null(uploads_put(&f->table, path));
    }
    assert_null(uploads_put(&f->table, "one more"));
    uploads_forget(&f->table, uploads_lookup(&f->table, "17"));
    assert_non_null(uploads_put(&f->table, "one more"));
}

static const char *const names[] = {"a.txt",        " leading blank.pdf", "two\nlines.txt",
                                    "sub/b c d.md", "bad \xff\xfe.txt",   "9 9 9"};

static void test_saved_and_loaded(void **state) {
    struct fixture *f = *state;
    struct error err;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        put(f, names[i], i % 2 ? UPLOAD_REFUSED : UPLOAD_TAKEN)->kept = i == 2;
    put(f, "source.txt", UPLOAD_SOURCE);
    put(f, "new.txt", UPLOAD_NEW);
    f->table.folder = (struct upload_folder){true, 77, UINT64_MAX};
    assert_true(uploads_save(&f->table, f->path, "/a root\nof two lines", &err));

    struct uploads_table back;
    uploads_table_init(&back);
    assert_true(uploads_load(&back, f->path, "/a root\nof two lines", &err));
    assert_int_equal(back.n, BASE_COUNT(names) + 1);
    assert_true(back.folder.known && back.folder.device == 77 && back.folder.inode == UINT64_MAX);
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        const struct upload_file *file = uploads_lookup(&back, names[i]);
        const struct upload_file *was = uploads_lookup(&f->table, names[i]);
        assert_non_null(file);
        assert_true(upload_mark_same(&file->mark, &was->mark));
        assert_int_equal(file->state, was->state);
        assert_int_equal(file->kept, i == 2);
    }
    assert_int_equal(uploads_lookup(&back, "source.txt")->state, UPLOAD_SOURCE);
    assert_null(uploads_lookup(&back, "new.txt"));
    uploads_table_fini(&back);

    uploads_table_init(&back);
    assert_true(uploads_load(&back, f->path, "/another root", &err));
    assert_true(back.n == 0 && !back.folder.known);
    uploads_table_fini(&back);
}

/* Every length, and every byte changed: nothing is read past its end, nothing new is invented. */
static void test_damaged(void **state) {
    struct fixture *f = *state;
    struct error err;
    char *data;
    size_t len;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        put(f, names[i], UPLOAD_TAKEN);
    f->table.folder.known = true;
    assert_true(uploads_save(&f->table, f->path, "/root", &err));
    assert_true(file_read(&data, &len, f->path, 1 << 20, &err));
    for (size_t i = 0; i < 2 * len; i++) {
        FILE *file = fopen(f->path, "wb");
        size_t n = i < len ? i : len;
        char was = data[i % len];
        if (i >= len)
            data[i % len] ^= 0x15;
        assert_non_null(file);
        assert_int_equal(fwrite(data, 1, n, file), n);
        fclose(file);
        data[i % len] = was;
        struct uploads_table back;
        uploads_table_init(&back);
        if (!uploads_load(&back, f->path, "/root", &err))
            assert_true(back.n == 0 && err.kind == ERROR_INPUT);
        assert_true(back.n <= BASE_COUNT(names) + 1);
        uploads_table_fini(&back);
    }
    mem_free(data);
    assert_true(dir_remove(f->path, &err));
    assert_true(uploads_load(&f->table, f->path, "/root", &err)); /* none: nothing is known */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_saved_and_loaded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("uploads", tests, NULL, NULL);
}
