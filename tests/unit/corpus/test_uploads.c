/* Tests of what is known of the files in UPLOADS_DIR: the table and its file, and where a file is
 * seen. */
#include "corpus/uploads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    file->place = UINT64_MAX - 1;
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
        put(f, names[i], i % 2 ? UPLOAD_REFUSED : UPLOAD_TAKEN)->place += i == 2;
    put(f, "source.txt", UPLOAD_SOURCE)->place = 0;
    put(f, "new.txt", UPLOAD_NEW);
    f->table.place = UINT64_MAX;
    assert_true(uploads_save(&f->table, f->path, "/a root\nof two lines", &err));

    struct uploads_table back;
    uploads_table_init(&back);
    assert_true(uploads_load(&back, f->path, "/a root\nof two lines", &err));
    assert_int_equal(back.n, BASE_COUNT(names) + 2);
    assert_true(back.place == UINT64_MAX);
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        const struct upload_file *file = uploads_lookup(&back, names[i]);
        const struct upload_file *was = uploads_lookup(&f->table, names[i]);
        assert_non_null(file);
        assert_true(upload_mark_same(&file->mark, &was->mark));
        assert_int_equal(file->state, was->state);
        assert_true(file->place == (i == 2 ? UINT64_MAX : UINT64_MAX - 1));
    }
    assert_int_equal(uploads_lookup(&back, "source.txt")->state, UPLOAD_SOURCE);
    assert_true(uploads_lookup(&back, "source.txt")->place == 0);
    /* It is taken anew, whatever its mark; a document of what was there before is not forgotten. */
    const struct upload_file *new = uploads_lookup(&back, "new.txt");
    assert_true(new->state == UPLOAD_SOURCE &&new->place == UINT64_MAX - 1);
    assert_true(upload_mark_same(&new->mark, &(struct upload_mark){0}));
    uploads_table_fini(&back);

    uploads_table_init(&back);
    assert_true(uploads_load(&back, f->path, "/another root", &err));
    assert_true(back.n == 0 && back.place == 0);
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
    f->table.place = 1234567;
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
    static const char older[] = "docusearch uploads 1\n5 7\n/root\0t- 1 2 3 4 a.txt";
    assert_true(file_write_durable(f->path, older, sizeof older, &err));
    struct uploads_table none;
    uploads_table_init(&none);
    assert_false(uploads_load(&none, f->path, "/root", &err));
    assert_true(none.n == 0 && none.place == 0);
    uploads_table_fini(&none);
    assert_true(dir_remove(f->path, &err));
    assert_true(uploads_load(&f->table, f->path, "/root", &err)); /* none: nothing is known */
}

static void make(struct fixture *f, const char *name, const char *text) {
    char *path = mem_printf("%s/%s", f->folder, name);
    struct error err;
    assert_true(text ? file_write_durable(path, text, strlen(text), &err) : dir_make(path, &err));
    mem_free(path);
}

/* What is there: 'f' a file, 'o' something else, '-' nothing, '?' nobody can tell. */
static char look(uint64_t *place, const char *root, const char *path) {
    struct uploads_sight sight;
    bool ok = uploads_look(&sight, root, path);
    *place = sight.place;
    assert_true(!ok || sight.place != 0);
    return !ok ? '?' : uploads_is_file(&sight) ? 'f' : sight.exists ? 'o' : '-';
}

static void test_place(void **state) {
    struct fixture *f = *state;
    uint64_t root, place;
    char *link = mem_printf("%s/linked", f->folder), *file = mem_printf("%s/to.txt", f->folder);
    make(f, "a.txt", "a");
    make(f, "sub/deep", NULL);
    make(f, "sub/deep/b.txt", "b");
    assert_int_equal(symlink("sub", link), 0);
    assert_int_equal(symlink("a.txt", file), 0);
    assert_int_equal(look(&root, f->folder, "a.txt"), 'f');
    const struct {
        const char *path;
        char there;
    } cases[] = {{"a.txt", 'f'},
                 {"none.txt", '-'},
                 {"sub", 'o'},
                 {"sub/deep", 'o'},
                 {"sub/deep/b.txt", 'f'},
                 {"sub/deep/none", '-'},
                 {"none/at/all", '-'},
                 {"a.txt/below", '-'},
                 {"to.txt", 'o'},
                 {"linked/deep/b.txt", '-'}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        assert_int_equal(look(&place, f->folder, cases[i].path), cases[i].there);
        assert_true(place == root);
    }
    assert_int_equal(look(&place, link, "deep/b.txt"), 'f'); /* the folder itself may be a link */
    assert_true(place != root);
    assert_int_equal(look(&place, "/nowhere/at/all", "a.txt"), '?');

    /* The same folder under another name is the same place; another of its name is not. */
    char *away = mem_printf("%s/away", f->folder), *sub = mem_printf("%s/sub", f->folder);
    assert_int_equal(look(&root, sub, "deep/b.txt"), 'f');
    assert_int_equal(rename(sub, away), 0);
    assert_int_equal(look(&place, sub, "deep/b.txt"), '?');
    make(f, "sub/deep", NULL);
    assert_int_equal(look(&place, sub, "deep/b.txt"), '-');
    assert_true(place != root);
    assert_int_equal(look(&place, away, "deep/b.txt"), 'f');
    assert_true(place == root);
    mem_free(away);
    mem_free(sub);
    mem_free(link);
    mem_free(file);
}

/* /proc and /sys are mounts below "/" nearly everywhere. */
static void test_place_of_a_mount(void **state) {
    (void)state;
    struct stat root, below;
    uint64_t direct, proc, sys;
    if (stat("/", &root) != 0 || stat("/proc", &below) != 0 || root.st_dev == below.st_dev) {
        print_message("skipped: /proc is no mount here\n");
        skip();
    }
    assert_int_equal(look(&direct, "/", "none"), '-');
    assert_int_equal(look(&proc, "/", "proc/version"), 'f');
    assert_true(proc != direct);
    assert_int_equal(look(&sys, "/", "proc/sys/none"), '-');
    assert_true(proc == sys);
    assert_int_equal(look(&sys, "/", "proc/none/at/all"), '-');
    assert_true(proc == sys);
    if (stat("/sys", &below) == 0 && root.st_dev != below.st_dev) {
        assert_int_equal(look(&sys, "/", "sys/none"), '-');
        assert_true(sys != direct && sys != proc);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_saved_and_loaded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_place, set_up, tear_down),
        cmocka_unit_test(test_place_of_a_mount),
    };
    return cmocka_run_group_tests_name("uploads", tests, NULL, NULL);
}
