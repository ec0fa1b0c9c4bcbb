/* Allocators, arenas, buffers, errors. */
#include "tests.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

static void try_respects_maximum_and_overflow(void **state) {
    (void)state;
    assert_null(mem_try(SIZE_MAX / 2, 3, SIZE_MAX));
    assert_null(mem_try(11, 1, 10));
    unsigned char *block = mem_try(10, 1, 10);
    assert_non_null(block);
    for (int i = 0; i < 10; i++)
        assert_int_equal(block[i], 0);
    memset(block, 7, 10);
    assert_null(mem_try_grow(block, SIZE_MAX, 2, SIZE_MAX)); /* block is still ours */
    block = mem_try_grow(block, 20, 1, 20);
    assert_non_null(block);
    assert_int_equal(block[9], 7);
    mem_free(block);
    void *none = mem_try(0, 8, 0);
    assert_non_null(none);
    mem_free(none);
    mem_free(NULL);
}

static void printf_makes_the_whole_text(void **state) {
    (void)state;
    char *text = mem_printf("%s-%05d", "page", 42);
    assert_string_equal(text, "page-00042");
    mem_free(text);
}

static void arena_blocks_are_zeroed_aligned_apart(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    unsigned char *before = NULL;
    size_t before_size = 0;
    for (size_t size = 1; size < 300000; size = size * 3 / 2 + 1) {
        unsigned char *block = arena_alloc(arena, size);
        assert_int_equal((uintptr_t)block % 16, 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(block[i], 0);
        memset(block, 0xAA, size);
        if (before)
            assert_true(block >= before + before_size || block + size <= before);
        before = block;
        before_size = size;
    }
    /* After a large block the small ones go on filling the older one. */
    char *small = arena_alloc(arena, 8);
    arena_alloc(arena, 1 << 20);
    char *next = arena_alloc(arena, 8);
    assert_ptr_equal(next, small + 16);
    arena_free(arena);
    arena_free(NULL);
}

static void exhaust_arena(void *arg) {
    arena_alloc(arg, 64);
}

static void arena_stops_at_its_maximum(void **state) {
    (void)state;
    struct arena *arena = arena_new(1000);
    assert_non_null(arena_try(arena, 50, 16));
    assert_int_equal(arena_used(arena), 800);
    assert_null(arena_try(arena, 201, 1));
    assert_null(arena_try(arena, SIZE_MAX, 2));
    assert_null(arena_try(arena, SIZE_MAX, 1));
    assert_int_equal(arena_used(arena), 800);
    assert_non_null(arena_try(arena, 150, 1));
    assert_int_equal(arena_used(arena), 960);
    int status = run_forked(exhaust_arena, arena);
    assert_true(WIFSIGNALED(status));
    arena_free(arena);
}

static void arena_strings(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    assert_string_equal(arena_strdup(arena, "abc"), "abc");
    assert_string_equal(arena_strndup(arena, "abcdef", 2), "ab");
    assert_string_equal(arena_strndup(arena, NULL, 0), "");
    assert_string_equal(arena_printf(arena, "%d/%d", 1, 2), "1/2");
    arena_free(arena);
}

static void buf_grows_and_ends_in_nul(void **state) {
    (void)state;
    struct buf buf = {0};
    for (int i = 0; i < 1000; i++) {
        buf_printf(&buf, "%03d", i);
        assert_int_equal(buf.data[buf.len], '\0');
    }
    buf_putc(&buf, '!');
    buf_append(&buf, NULL, 0);
    assert_int_equal(buf.len, 3001);
    assert_memory_equal(buf.data, "000001002", 9);
    assert_string_equal(buf.data + 2997, "999!");
    assert_false(buf.failed);
    char *taken = buf_take(&buf);
    assert_int_equal(strlen(taken), 3001);
    assert_null(buf.data);
    mem_free(taken);
    taken = buf_take(&buf);
    assert_string_equal(taken, "");
    mem_free(taken);
    buf_fini(&buf);
}

static void buf_stops_at_its_maximum(void **state) {
    (void)state;
    struct buf buf = {.max = 10};
    buf_puts(&buf, "0123456789");
    assert_false(buf.failed);
    assert_string_equal(buf.data, "0123456789");
    buf_putc(&buf, 'x');
    assert_true(buf.failed);
    buf_puts(&buf, "");
    assert_int_equal(buf.len, 10);
    buf_clear(&buf);
    assert_false(buf.failed);
    assert_string_equal(buf.data, "");
    buf_printf(&buf, "%011d", 1);
    assert_true(buf.failed);
    assert_int_equal(buf.len, 0);
    buf_clear(&buf);
    buf_append(&buf, "", SIZE_MAX);
    assert_true(buf.failed);
    buf_fini(&buf);
    assert_int_equal(buf.max, 10);
}

static void error_says_kind_code_and_text(void **state) {
    (void)state;
    struct error err;
    assert_false(error_set(&err, ERROR_MISSING, "no document %d", 7));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_string_equal(err.code, "not_found");
    assert_string_equal(err.text, "no document 7");
    error_prefix(&err, "page %d: ", 14);
    assert_string_equal(err.text, "page 14: no document 7");
    assert_false(error_set_code(&err, ERROR_INPUT, "password_required", "again: %s", err.text));
    assert_string_equal(err.code, "password_required");
    assert_string_equal(err.text, "again: page 14: no document 7");
    assert_false(error_set(NULL, ERROR_IO, "nobody listens"));
    assert_false(error_set_errno(NULL, EIO, "nobody listens"));
    error_prefix(NULL, "nobody listens");
}

static void error_text_is_cut_between_characters(void **state) {
    (void)state;
    struct error err;
    char name[400];
    for (size_t i = 0; i + 1 < sizeof name; i += 2)
        memcpy(name + i, "\xC3\xA9", 2);
    name[398] = '\0';
    error_set(&err, ERROR_INPUT, "%s", name);
    assert_int_equal(strlen(err.text), 254);
    assert_true(utf8_valid(err.text, strlen(err.text)));
    error_prefix(&err, "12: ");
    assert_true(utf8_valid(err.text, strlen(err.text)));
    assert_memory_equal(err.text, "12: \xC3\xA9", 6);
    error_set(&err, ERROR_INPUT, "name \xFF\xC3 is %s", "\xEF\xBF\xBD");
    assert_string_equal(err.text, "name ?? is \xEF\xBF\xBD");
}

static void error_of_errno(void **state) {
    (void)state;
    struct error err;
    error_set_errno(&err, ENOSPC, "file %s", "a");
    assert_int_equal(err.kind, ERROR_IO);
    assert_string_equal(err.code, "disk_full");
    assert_string_equal(err.text, "file a: No space left on device");
    error_set_errno(&err, EDQUOT, "x");
    assert_string_equal(err.code, "disk_full");
    error_set_errno(&err, ENOENT, "x");
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_string_equal(err.code, "not_found");
    char long_path[5000];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    error_set_errno(&err, EACCES, "%s", long_path);
    assert_string_equal(err.code, "storage_error");
    assert_non_null(strstr(err.text, "a: Permission denied"));
}

int run_memory_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(try_respects_maximum_and_overflow),
        cmocka_unit_test(printf_makes_the_whole_text),
        cmocka_unit_test(arena_blocks_are_zeroed_aligned_apart),
        cmocka_unit_test(arena_stops_at_its_maximum),
        cmocka_unit_test(arena_strings),
        cmocka_unit_test(buf_grows_and_ends_in_nul),
        cmocka_unit_test(buf_stops_at_its_maximum),
        cmocka_unit_test(error_says_kind_code_and_text),
        cmocka_unit_test(error_text_is_cut_between_characters),
        cmocka_unit_test(error_of_errno),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
