#include "test_http.h"

#include <string.h>

struct heard {
    struct buf text; /* "<name|filename|type>content;" for every part */
    int refuse_part;
    int n;
};

static bool on_begin(void *ctx, const struct http_part *part, struct error *err) {
    struct heard *heard = ctx;
    if (++heard->n == heard->refuse_part)
        return error_set_code(err, ERROR_LIMIT, "refused", "part %d", heard->n);
    buf_printf(&heard->text, "<%s|%s|%s>", part->name, part->filename ? part->filename : "-",
               part->media_type);
    return true;
}

static bool on_data(void *ctx, const void *data, size_t len, struct error *err) {
    (void)err;
    buf_append(&((struct heard *)ctx)->text, data, len);
    return true;
}

static bool on_end(void *ctx, struct error *err) {
    (void)err;
    buf_putc(&((struct heard *)ctx)->text, ';');
    return true;
}

/* What is heard of a body given in pieces of `piece` bytes; NULL when it is refused. */
static char *parse(const char *type, const char *body, size_t len, size_t piece,
                   struct error *err) {
    struct heard heard = {0};
    struct http_part_sink sink = {&heard, on_begin, on_data, on_end};
    struct http_multipart *multipart = NULL;
    bool ok = http_multipart_open(&multipart, type, &sink, err);
    for (size_t at = 0; ok && at < len; at += piece)
        ok = http_multipart_write(multipart, body + at, len - at < piece ? len - at : piece, err);
    if (ok)
        ok = http_multipart_finish(multipart, err);
    http_multipart_free(multipart);
    char *out = ok ? buf_take(&heard.text) : NULL;
    if (ok && !out)
        out = mem_strdup("");
    buf_fini(&heard.text);
    return out;
}

#define TYPE "multipart/form-data; boundary=XyZ"

static void parts_are_found_however_cut(void **state) {
    (void)state;
    static const char body[] =
        "ignored\r\n--XyZ\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nplain\r\n"
        "--XyZ \t\r\ncontent-disposition: form-data; name=file; filename=\"x y.pdf\"\r\n"
        "Content-Type: application/pdf\r\n\r\nab\r\n--Xy\r\n\r\n--XyQ\r\r\n--XyZ\r\n"
        "Content-Disposition: form-data; name=\"file\"; filename=\"\"\r\n\r\n\r\n"
        "--XyZ--\r\nepilogue";
    for (size_t piece = 1; piece < sizeof(body); piece++) {
        struct error err = {0};
        char *heard = parse(TYPE, body, sizeof(body) - 1, piece, &err);
        assert_non_null(heard);
        assert_string_equal(heard, "<a|-|>plain;<file|x y.pdf|application/pdf>"
                                   "ab\r\n--Xy\r\n\r\n--XyQ\r;<file||>;");
        mem_free(heard);
    }
}

static void names_are_read_as_clients_write_them(void **state) {
    (void)state;
    static const struct {
        const char *field, *filename;
    } cases[] = {
        {"filename=\"a\\\"b.pdf\"", "a\"b.pdf"},
        {"filename=\"a%22b.pdf\"", "a\"b.pdf"},
        {"filename=\"100%.pdf\"", "100%.pdf"},
        {"filename=\"C:\\dir\\file.pdf\"", "C:\\dir\\file.pdf"},
        {"filename=\"../../etc/passwd\"", "../../etc/passwd"},
        {"filename=plain.txt", "plain.txt"},
        {"filename=\"x.pdf\"; filename*=UTF-8''na%C3%AFve.pdf", "na\xc3\xafve.pdf"},
        {"filename*=UTF-8''a%00b.pdf; filename=\"x.pdf\"", "x.pdf"},
        {"filename*=latin1''%FF; filename=\"x.pdf\"", "x.pdf"},
        {"filename=\"na\xc3\xafve \xff.pdf\"", "na\xc3\xafve \xff.pdf"},
        {"filename=\"unclosed.pdf", "-"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct buf body = {0}, want = {0};
        buf_printf(&body,
                   "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; %s\r\n\r\n\r\n--XyZ--",
                   cases[i].field);
        buf_printf(&want, "<f|%s|>;", cases[i].filename);
        struct error err = {0};
        char *heard = parse(TYPE, body.data, body.len, 7, &err);
        assert_non_null(heard);
        assert_string_equal(heard, want.data);
        mem_free(heard);
        buf_fini(&body);
        buf_fini(&want);
    }
}

static void broken_bodies_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "no boundary",
        "--XyZ",
        "--XyZ\r\n",
        "--XyZ\r\nContent-Disposition: form-data\r\n",
        "--XyZ\r\n\r\ncontent",
        "--XyZ\r\n\r\ncontent\r\n--XyZ",
        "--XyZ\r\n\r\ncontent\r\n--XyZ-",
        "--XyZ\r\n\r\ncontent\r\n--XyZjunk\r\n",
        "--XyZ\n\ncontent\n--XyZ--",
    };
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        struct error err = {0};
        char *heard = parse(TYPE, bad[i], strlen(bad[i]), 3, &err);
        if (heard)
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(err.kind, ERROR_INPUT);
    }
    struct error err = {0};
    static const char nul[] = "--XyZ\r\nContent-Disposition: form-data; name=\"a\0b\"\r\n\r\n";
    assert_null(parse(TYPE, nul, sizeof(nul) - 1, 100, &err));
}

static void types_without_boundary_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=\"open",
        "multipart/form-data; boundary="
        "01234567890123456789012345678901234567890123456789012345678901234567890",
        NULL,
    };
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        struct error err = {0};
        assert_null(parse(bad[i], "", 0, 1, &err));
        assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    }
}

static void limits_hold(void **state) {
    (void)state;
    struct buf body = {0};
    struct error err = {0};
    for (int i = 0; i <= HTTP_MAX_PARTS; i++)
        buf_puts(&body, i ? "\r\n--XyZ\r\n\r\n" : "--XyZ\r\n\r\n");
    buf_puts(&body, "\r\n--XyZ--");
    assert_null(parse(TYPE, body.data, body.len, 4096, &err));
    assert_string_equal(err.code, "too_many_parts");
    buf_clear(&body);
    buf_puts(&body, "--XyZ\r\nX: ");
    for (int i = 0; i < HTTP_MAX_PART_HEADER; i++)
        buf_putc(&body, 'a');
    buf_puts(&body, "\r\n\r\n\r\n--XyZ--");
    assert_null(parse(TYPE, body.data, body.len, 100, &err));
    assert_null(parse(TYPE, body.data, body.len, 100000, &err));
    buf_clear(&body);
    for (int i = 0; i < 10000; i++)
        buf_putc(&body, '-');
    assert_null(parse(TYPE, body.data, body.len, 100, &err));
    buf_fini(&body);
}

static void large_parts_pass_whole(void **state) {
    (void)state;
    struct buf body = {0};
    struct error err = {0};
    buf_puts(&body, "--XyZ\r\n\r\n");
    size_t start = body.len;
    for (int i = 0; i < 300000; i++)
        buf_putc(&body, "\r\n--XyY"[i % 7]);
    size_t len = body.len - start;
    buf_puts(&body, "\r\n--XyZ--");
    char *heard = parse(TYPE, body.data, body.len, 65536, &err);
    assert_non_null(heard);
    assert_int_equal(strlen(heard), strlen("<|-|>;") + len);
    assert_memory_equal(heard + strlen("<|-|>"), body.data + start, len);
    mem_free(heard);
    buf_fini(&body);
}

int test_multipart(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_found_however_cut),
        cmocka_unit_test(names_are_read_as_clients_write_them),
        cmocka_unit_test(broken_bodies_are_refused),
        cmocka_unit_test(types_without_boundary_are_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(large_parts_pass_whole),
    };
    return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
