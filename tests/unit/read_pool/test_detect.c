/* Magic and names, and the kinds of OLE files. */
#include "tests.h"

#include "read/ole.h"
#include "read/read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define OLE_MAGIC "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

static void test_detects(void **state) {
    (void)state;
    static const struct {
        const char *head;
        size_t len;
        const char *filename;
        enum read_format format;
    } cases[] = {
#define CASE(head, filename, format) {head, sizeof(head) - 1, filename, format}
        CASE("%PDF-1.7\n", "a.pdf", FORMAT_PDF),
        CASE("junk\n%PDF-1.7\n", "a.pdf", FORMAT_PDF),
        CASE("%PDF-1.7\n", "a.docx", FORMAT_PDF),
        CASE("%PDF-1.7\n", "noname", FORMAT_PDF),
        CASE("About %PDF-1.7 headers", "a.md", FORMAT_MARKDOWN),
        CASE("garbage", "a.pdf", FORMAT_PDF),
        CASE("", "a.pdf", FORMAT_PDF),
        CASE("garbage", "a.xyz", FORMAT_UNKNOWN),
        CASE("garbage", "noname", FORMAT_UNKNOWN),
        CASE("garbage", NULL, FORMAT_UNKNOWN),
        CASE("garbage", "pdf", FORMAT_UNKNOWN),
        CASE("garbage", "a.pdf/x", FORMAT_UNKNOWN),
        CASE("Text", "A.TXT", FORMAT_TEXT),
        CASE("a;b", "t.csv", FORMAT_CSV),
        CASE("a\0b", "t.txt", FORMAT_UNKNOWN),
        CASE("\xff\xfe"
             "a\0b\0",
             "t.txt", FORMAT_TEXT),
        CASE("# T", "r.markdown", FORMAT_MARKDOWN),
        CASE("<!DOCTYPE html><p>", "page", FORMAT_HTML),
        CASE("\xef\xbb\xbf\n <HTML>", "old.doc", FORMAT_HTML),
        CASE("<?xml version='1.0'?>\n<html xmlns=''>", "x.pdf", FORMAT_HTML),
        CASE("<p>", "x.htm", FORMAT_HTML),
        CASE("<html>", "x.txt", FORMAT_TEXT),
        CASE("{\\rtf1", "x.doc", FORMAT_RTF),
        CASE("\x89PNG\r\n\x1a\n", "x.jpg", FORMAT_PNG),
        CASE("\xff\xd8\xff\xe0", "x.png", FORMAT_JPEG),
        CASE("II*\0....", "x", FORMAT_TIFF),
        CASE("MM\0*....", "x", FORMAT_TIFF),
        CASE("RIFF\1\2\3\4WEBPVP8 ", "x", FORMAT_WEBP),
        CASE("RIFF\1\2\3\4WAVEfmt ", "x", FORMAT_UNKNOWN),
        CASE("BM\1\2\3\4\0\0\0\0\x36\0\0\0\x28\0\0\0", "x", FORMAT_BMP),
        CASE("BMW is a car, not a picture", "x", FORMAT_UNKNOWN),
        CASE(OLE_MAGIC, "x.doc", FORMAT_DOC),
        CASE(OLE_MAGIC, "x.XLS", FORMAT_XLS),
        CASE(OLE_MAGIC, "x.pdf", FORMAT_DOC),
        CASE(OLE_MAGIC, "x.msi", FORMAT_UNKNOWN),
        CASE("PK\3\4", "x.docx", FORMAT_DOCX),
        CASE("PK\3\4", "x.pdf", FORMAT_DOCX),
        CASE("PK\3\4", "x.zip", FORMAT_UNKNOWN),
        CASE("PK\3\4......................\10\0\0\0mimetypeapplication/epub+zipPK", "x.docx",
             FORMAT_EPUB),
        CASE("PK\3\4......................\10\0\0\0mimetype"
             "application/vnd.oasis.opendocument.spreadsheet",
             "x", FORMAT_ODS),
        CASE("PK\3\4......................\21\0\0\0word/document.xml<w", "x.zip", FORMAT_DOCX),
        CASE("PK\3\4......................\17\0\0\0ppt/slides/a.xml", "x", FORMAT_PPTX),
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        enum read_format got = read_detect(cases[i].head, cases[i].len, cases[i].filename);
        if (got != cases[i].format)
            fail_msg("case %zu (%s): %s, not %s", i, cases[i].filename,
                     read_format_lookup(got)->name, read_format_lookup(cases[i].format)->name);
    }
}

static void test_every_length_is_read_inside(void **state) {
    (void)state;
    static const char head[] = "PK\3\4......................\10\0\0\0mimetypeapplication/epub+zip";
    for (size_t len = 0; len < sizeof head; len++) {
        char *copy = mem_alloc(len + 1); /* what is read past it, a sanitizer sees */
        memcpy(copy, head, len);
        char *exact = mem_try_grow(copy, len ? len : 1, 1, 1000);
        (void)read_detect(exact, len, "x.epub");
        mem_free(exact);
    }
}

static void test_table(void **state) {
    (void)state;
    for (int i = 1; i < FORMAT_N; i++) {
        const struct read_format_info *info = read_format_lookup((enum read_format)i);
        assert_int_equal(info->format, i);
        assert_true(info->name[0] && info->extensions[0] && info->group[0]);
        char name[64];
        snprintf(name, sizeof name, "x.%.*s", (int)strcspn(info->extensions, " "),
                 info->extensions);
        assert_int_equal(read_detect("abc", 3, name), i);
    }
    assert_int_equal(read_format_lookup((enum read_format)99)->format, FORMAT_UNKNOWN);
}

/* ---- OLE ------------------------------------------------------------------------------------- */

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static void put_entry(uint8_t *at, const char *name, int type, uint32_t first, uint32_t size) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        at[i * 2] = (uint8_t)name[i];
    at[64] = (uint8_t)((n + 1) * 2);
    at[66] = (uint8_t)type;
    put32(at + 116, first);
    put32(at + 120, size);
}

/* Header, FAT (sector 0), directory (1), stream (2). */
static size_t make_ole(uint8_t file[4 * 512], const char *stream) {
    memset(file, 0, 4 * 512);
    memcpy(file, OLE_MAGIC, 8);
    file[30] = 9;
    put32(file + 44, 1);
    put32(file + 48, 1);
    put32(file + 56, 4096);
    put32(file + 68, 0xfffffffe);
    for (int i = 0; i < 109; i++)
        put32(file + 76 + i * 4, i == 0 ? 0 : 0xffffffff);
    uint8_t *fat = file + 512, *dir = file + 1024;
    put32(fat, 0xfffffffd);
    put32(fat + 4, 0xfffffffe);
    put32(fat + 8, 0xfffffffe);
    put_entry(dir, "Root Entry", 5, 0xfffffffe, 0);
    put_entry(dir + 128, stream, 2, 2, 4096);
    return 4 * 512;
}

static void test_ole(void **state) {
    (void)state;
    uint8_t file[4 * 512];
    struct ole_kind kind;
    size_t size = make_ole(file, "WordDocument");
    assert_true(ole_identify(&kind, file, size));
    assert_int_equal(kind.format, FORMAT_DOC);
    assert_false(kind.encrypted || kind.package);
    put32(file + 3 * 512, 0xa5ec);
    file[3 * 512 + 11] = 0x01;
    assert_true(ole_identify(&kind, file, size) && kind.encrypted);

    size = make_ole(file, "Workbook");
    assert_true(ole_identify(&kind, file, size));
    assert_true(kind.format == FORMAT_XLS && !kind.encrypted);
    static const uint8_t records[] = {9, 8, 2, 0, 0, 0, 0x2f, 0, 4, 0};
    memcpy(file + 3 * 512, records, sizeof records);
    assert_true(ole_identify(&kind, file, size) && kind.encrypted);

    size = make_ole(file, "EncryptedPackage");
    assert_true(ole_identify(&kind, file, size));
    assert_true(kind.package && kind.format == FORMAT_UNKNOWN);
    size = make_ole(file, "PowerPoint Document");
    assert_true(ole_identify(&kind, file, size) && kind.format == FORMAT_PPT);

    put32(file + 512 + 4, 1); /* the directory's chain goes round: it ends all the same */
    assert_true(ole_identify(&kind, file, size));
    put32(file + 48, 0x7fffffff);
    assert_false(ole_identify(&kind, file, size));
}

static void test_ole_damaged(void **state) {
    (void)state;
    uint8_t file[4 * 512];
    struct ole_kind kind;
    for (size_t len = 0; len <= sizeof file; len += 7) {
        make_ole(file, "WordDocument");
        uint8_t *exact = mem_try(len ? len : 1, 1, sizeof file);
        memcpy(exact, file, len);
        (void)ole_identify(&kind, exact, len);
        mem_free(exact);
    }
    unsigned seed = 12345;
    for (int round = 0; round < 20000; round++) {
        size_t size = make_ole(file, "WordDocument");
        for (int i = 0; i < 4; i++) {
            seed = seed * 1103515245u + 12345u;
            file[(seed >> 8) % size] = (uint8_t)(seed >> 24);
        }
        (void)ole_identify(&kind, file, size);
    }
}

int run_detect_tests(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detects),     cmocka_unit_test(test_every_length_is_read_inside),
        cmocka_unit_test(test_table),       cmocka_unit_test(test_ole),
        cmocka_unit_test(test_ole_damaged),
    };
    return cmocka_run_group_tests_name("detect", tests, NULL, NULL);
}
