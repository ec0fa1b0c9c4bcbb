/* ZIP archives in memory: by libzip as others write them, and byte by byte as an enemy does. */
#include "tests.h"

#include <stdlib.h>
#include <zip.h>
#include <zlib.h>

void package_build(struct buf *out, const struct part *parts, size_t n) {
    zip_error_t err;
    zip_error_init(&err);
    zip_source_t *source = zip_source_buffer_create(NULL, 0, 0, &err);
    assert_non_null(source);
    zip_t *zip = zip_open_from_source(source, ZIP_TRUNCATE, &err);
    assert_non_null(zip);
    zip_source_keep(source);
    for (size_t i = 0; i < n; i++) {
        size_t len = parts[i].len > 0 ? parts[i].len : strlen(parts[i].text);
        zip_source_t *member = zip_source_buffer(zip, parts[i].text, len, 0);
        assert_non_null(member);
        assert_true(zip_file_add(zip, parts[i].name, member, ZIP_FL_OVERWRITE) >= 0);
    }
    assert_int_equal(zip_close(zip), 0);
    assert_int_equal(zip_source_open(source), 0);
    char chunk[4096];
    zip_int64_t got;
    while ((got = zip_source_read(source, chunk, sizeof(chunk))) > 0)
        buf_append(out, chunk, (size_t)got);
    zip_source_close(source);
    zip_source_free(source);
}

void package_office(struct buf *out, const char *kind, const struct part *parts, size_t n) {
    static const struct {
        const char *kind, *type, *part;
    } kinds[] = {
        {"word", "wordprocessingml.document.main+xml", "word/document.xml"},
        {"ppt", "presentationml.presentation.main+xml", "ppt/presentation.xml"},
        {"xl", "spreadsheetml.sheet.main+xml", "xl/workbook.xml"},
    };
    for (size_t i = 0; i < BASE_COUNT(kinds); i++) {
        if (strcmp(kinds[i].kind, kind) != 0)
            continue;
        char *types = mem_printf(
            "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">"
            "<Override PartName=\"/%s\" ContentType=\"application/vnd.openxmlformats-"
            "officedocument.%s\"/></Types>",
            kinds[i].part, kinds[i].type);
        char *rels = mem_printf(RELS("<Relationship Id=\"a\" Type=\"x/officeDocument\" "
                                     "Target=\"%s\"/>" REL("b", "core-properties", "core.xml")),
                                kinds[i].part);
        struct part *all = mem_alloc((n + 2) * sizeof(*all));
        all[0] = (struct part){"[Content_Types].xml", types, 0};
        all[1] = (struct part){"_rels/.rels", rels, 0};
        if (n > 0)
            memcpy(all + 2, parts, n * sizeof(*parts));
        package_build(out, all, n + 2);
        mem_free(types);
        mem_free(rels);
        mem_free(all);
    }
}

static void put16(struct buf *out, uint32_t value) {
    buf_putc(out, (char)value);
    buf_putc(out, (char)(value >> 8));
}

static void put32(struct buf *out, uint32_t value) {
    put16(out, value & 0xFFFF);
    put16(out, value >> 16);
}

static void put_common(struct buf *out, const struct raw_member *member, uint32_t crc) {
    put16(out, 20);
    put16(out, 0); /* flags */
    put16(out, 0); /* stored */
    put32(out, 0); /* time */
    put32(out, crc);
    uint32_t size = member->claimed > 0 ? member->claimed : (uint32_t)member->len;
    put32(out, size);
    put32(out, size);
    put16(out, (uint32_t)strlen(member->name));
    put16(out, 0);
}

void package_raw(struct buf *out, const struct raw_member *members, size_t n) {
    uint32_t *offsets = calloc(n + 1, sizeof(*offsets));
    uint32_t *crcs = calloc(n + 1, sizeof(*crcs));
    for (size_t i = 0; i < n; i++) {
        if (members[i].data == NULL) {
            crcs[i] = crcs[0];
            continue;
        }
        offsets[i] = (uint32_t)out->len;
        crcs[i] = (uint32_t)crc32(0, members[i].data, (uInt)members[i].len);
        put32(out, 0x04034b50);
        put_common(out, &members[i], crcs[i]);
        buf_puts(out, members[i].name);
        buf_append(out, members[i].data, members[i].len);
    }
    uint32_t start = (uint32_t)out->len;
    for (size_t i = 0; i < n; i++) {
        put32(out, 0x02014b50);
        put16(out, 20);
        put_common(out, &members[i], crcs[i]);
        put16(out, 0); /* comment */
        put16(out, 0); /* disk */
        put16(out, 0);
        put32(out, 0);
        put32(out, offsets[i]);
        buf_puts(out, members[i].name);
    }
    uint32_t size = (uint32_t)out->len - start;
    put32(out, 0x06054b50);
    put32(out, 0);
    put16(out, (uint32_t)(n & 0xFFFF));
    put16(out, (uint32_t)(n & 0xFFFF));
    put32(out, size);
    put32(out, start);
    put16(out, 0);
    free(offsets);
    free(crcs);
}
