/* Tests of read's flows: readers of OOXML, HTML, Markdown, CSV and text, and the places of words.
 */
#ifndef TESTS_READ_FLOW_H
#define TESTS_READ_FLOW_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "read/container.h"
#include "read/flow.h"

struct fixture {
    struct flow flow;
    struct read_task task;
    struct error err;
    bool ok; /* what the reader said */
};
typedef bool (*flow_reader)(struct flow *flow, struct read_task *task, struct error *err);

/* Reads data; the fixture is fixture_fini's. */
void fixture_read(struct fixture *fixture, flow_reader read, const void *data, size_t size);
void fixture_read_text(struct fixture *fixture, flow_reader read, const char *text);
void fixture_fini(struct fixture *fixture);
/* The flow as lines: "h1 Title", "p text", "li2 text", "ol1 text", "table" with "  row,col+span" …
 */
char *fixture_show(struct fixture *fixture);
void assert_flow(struct fixture *fixture, const char *expected);

/* package.c: ZIP archives in memory. */
struct part {
    const char *name, *text;
    size_t len; /* 0: strlen(text) */
};
void package_build(struct buf *out, const struct part *parts, size_t n);
/* A package of one kind ("word", "ppt", "xl") with its content types and relations; parts are
 * added. */
void package_office(struct buf *out, const char *kind, const struct part *parts, size_t n);
/* Stored members written byte by byte, for archives that no library would write. */
struct raw_member {
    const char *name;
    const void *data; /* NULL: none of its own, the directory points at offset 0 */
    size_t len;
    uint32_t claimed; /* the size its entry claims; 0: the true one */
};
void package_raw(struct buf *out, const struct raw_member *members, size_t n);

#define W_NS                                                                                       \
    "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\" "                    \
    "xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\" "             \
    "xmlns:m=\"http://schemas.openxmlformats.org/officeDocument/2006/math\" "                      \
    "xmlns:mc=\"http://schemas.openxmlformats.org/markup-compatibility/2006\" "                    \
    "xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" "                           \
    "xmlns:wp=\"http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing\""
#define W_DOCUMENT(body) "<w:document " W_NS "><w:body>" body "</w:body></w:document>"
#define W_P(text) "<w:p><w:r><w:t>" text "</w:t></w:r></w:p>"
#define RELS(items)                                                                                \
    "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">" items \
    "</Relationships>"
#define REL(id, type, target)                                                                      \
    "<Relationship Id=\"" id "\" Type=\"http://x/" type "\" Target=\"" target "\"/>"

int run_align(void);
int run_hostile(void);
int run_number(void);
int run_place(void);
int run_sheet(void);
int run_slide(void);
int run_text(void);
int run_word(void);

#endif
