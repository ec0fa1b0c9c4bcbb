/* flow_read_ooxml: a package of any bytes (an even first byte), or a sound package whose main part
 * is any bytes (an odd one): a document, a slide, a sheet, a chart or a style sheet, as the second
 * byte says. What it reads must be a document, and its page sound HTML. */
#include <stdlib.h>
#include <string.h>

#include "read/container.h"
#include "read/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void put16(struct buf *out, uint32_t value) {
    buf_putc(out, (char)value);
    buf_putc(out, (char)(value >> 8));
}

static void put32(struct buf *out, uint32_t value) {
    put16(out, value & 0xFFFF);
    put16(out, value >> 16);
}

static uint32_t crc_of(const void *data, size_t len) {
    const uint8_t *bytes = data;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

struct member {
    const char *name;
    const void *data;
    size_t len;
};

static void put_common(struct buf *out, const struct member *member) {
    put16(out, 20);
    put32(out, 0);
    put32(out, 0);
    put32(out, crc_of(member->data, member->len));
    put32(out, (uint32_t)member->len);
    put32(out, (uint32_t)member->len);
    put16(out, (uint32_t)strlen(member->name));
    put16(out, 0);
}

/* A ZIP of stored members. */
static void put_package(struct buf *out, const struct member *members, size_t n) {
    uint32_t offsets[8];
    for (size_t i = 0; i < n; i++) {
        offsets[i] = (uint32_t)out->len;
        put32(out, 0x04034b50);
        put_common(out, &members[i]);
        buf_puts(out, members[i].name);
        buf_append(out, members[i].data, members[i].len);
    }
    uint32_t start = (uint32_t)out->len;
    for (size_t i = 0; i < n; i++) {
        put32(out, 0x02014b50);
        put16(out, 20);
        put_common(out, &members[i]);
        put16(out, 0);
        put32(out, 0);
        put32(out, 0);
        put32(out, offsets[i]);
        buf_puts(out, members[i].name);
    }
    uint32_t size = (uint32_t)out->len - start;
    put32(out, 0x06054b50);
    put32(out, 0);
    put16(out, (uint32_t)n);
    put16(out, (uint32_t)n);
    put32(out, size);
    put32(out, start);
    put16(out, 0);
}

#define NS_OFFICE "xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\""
#define RELS(items)                                                                                \
    "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">" items \
    "</Relationships>"
#define REL(id, type, target)                                                                      \
    "<Relationship Id=\"" id "\" Type=\"x/" type "\" Target=\"" target "\"/>"
#define CONTENT(type)                                                                              \
    "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Override "     \
    "PartName=\"/m\" ContentType=\"" type ".main+xml\"/></Types>"

static struct member text_member(const char *name, const char *text) {
    return (struct member){name, text, strlen(text)};
}

static const char word_body[] =
    "<w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body>"
    "<w:p><w:pPr><w:pStyle w:val=\"A\"/><w:numPr><w:numId w:val=\"1\"/></w:numPr></w:pPr><w:r><w:t>"
    "text</w:t></w:r></w:p></w:body></w:document>";
#define PRESENTATION "http://schemas.openxmlformats.org/presentationml/2006/main"
static const char deck[] = "<p:presentation xmlns:p=\"" PRESENTATION "\" " NS_OFFICE
                           "><p:sldIdLst><p:sldId r:id=\"f\"/></p:sldIdLst></p:presentation>";
static const char book[] =
    "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" " NS_OFFICE
    "><sheets><sheet name=\"S\" r:id=\"f\"/></sheets></workbook>";

/* The part under test is "f"; which part it is, its relation's type says. */
static void wrap(struct buf *out, uint8_t which, const uint8_t *data, size_t len) {
    struct member members[5];
    static const char main_rel[] = RELS(REL("a", "officeDocument", "m"));
    members[1] = text_member("_rels/.rels", main_rel);
    members[4] = (struct member){"f", data, len};
    switch (which % 6) {
    case 0:
        members[0] = text_member("[Content_Types].xml", CONTENT("wordprocessingml.document"));
        members[2] = (struct member){"m", data, len};
        members[3] = text_member("_rels/m.rels", RELS(REL("f", "header", "f")));
        break;
    case 1:
    case 2:
        members[0] = text_member("[Content_Types].xml", CONTENT("wordprocessingml.document"));
        members[2] = text_member("m", word_body);
        members[3] = text_member("_rels/m.rels", which % 6 == 1 ? RELS(REL("f", "styles", "f"))
                                                                : RELS(REL("f", "numbering", "f")));
        break;
    case 3:
        members[0] = text_member("[Content_Types].xml", CONTENT("presentationml.presentation"));
        members[2] = text_member("m", deck);
        members[3] = text_member("_rels/m.rels", RELS(REL("f", "slide", "f")));
        break;
    default:
        members[0] = text_member("[Content_Types].xml", CONTENT("spreadsheetml.sheet"));
        members[2] = text_member("m", book);
        members[3] = text_member("_rels/m.rels", which % 6 == 4 ? RELS(REL("f", "worksheet", "f"))
                                                                : RELS(REL("f", "styles", "f")));
        break;
    }
    put_package(out, members, BASE_COUNT(members));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 2)
        return 0;
    container_prepare();
    struct buf package = {0};
    if ((data[0] & 1) != 0)
        wrap(&package, data[1], data + 2, len - 2);
    else
        buf_append(&package, data + 1, len - 1);
    struct arena *arena = arena_new(0);
    struct flow flow = {.arena = arena};
    struct read_task task = {.data = (const uint8_t *)package.data,
                             .size = package.len,
                             .arena = arena,
                             .builder = doc_builder_new("docx"),
                             .format = ooxml_kind(package.data, package.len)};
    struct error err = {0};
    struct raw_pages none = {0};
    if (flow_read_ooxml(&flow, &task, &err)) {
        struct buf html = {0};
        struct document *doc = NULL;
        flow_write_html(&html, &flow);
        flow_place(&task, &flow, &none);
        if (!utf8_valid(html.data, html.len) || !doc_finish(&doc, task.builder, &err))
            abort();
        doc_free(doc);
        buf_fini(&html);
    } else {
        if (err.kind == 0 || err.code[0] == '\0')
            abort();
        doc_builder_free(task.builder);
    }
    arena_free(arena);
    buf_fini(&package);
    return 0;
}
