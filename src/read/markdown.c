/* Markdown by md4c (CommonMark with tables, strikethrough and task lists) as a flow.
 *
 * Front matter is no text; its title, author and date are the document's. Raw HTML blocks are read
 * as HTML, inline tags are dropped around their text. */
#include <md4c.h>
#include <string.h>
#include <strings.h>

#include "read/flow.h"

#define MAX_LISTS 64 /* deeper ones are shown as this deep */

struct markdown {
    struct flow *flow;
    struct flow_text text;
    struct buf raw;    /* a code or HTML block */
    struct flow later; /* pictures met in the open text */
    struct flow_text alt;
    int n_images; /* image spans open, one inside the other */
    bool ordered[MAX_LISTS];
    int depth;    /* lists open */
    bool in_item; /* the next text is the item's first */
    struct flow_table table;
    size_t row, col;
    bool header;
    bool in_table, in_code, in_html;
    struct error err;
};

/* The open text becomes an item; inside a list item the first is the item. */
static void flush(struct markdown *md, enum doc_element_kind kind, int level) {
    if (md->text.buf.len > 0) {
        bool item = md->in_item && kind == DOC_PARAGRAPH;
        struct flow_item *added = flow_add(md->flow, item ? DOC_LIST_ITEM : kind,
                                           item ? md->depth : level, md->text.buf.data);
        if (item && added != NULL && md->depth > 0 &&
            md->ordered[(md->depth > MAX_LISTS ? MAX_LISTS : md->depth) - 1])
            added->flags = DOC_ORDERED;
        md->in_item = md->in_item && !item;
    }
    flow_text_clear(&md->text);
    flow_splice(md->flow, &md->later);
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *ctx) {
    struct markdown *md = ctx;
    switch (type) {
    case MD_BLOCK_UL:
    case MD_BLOCK_OL:
        flush(md, DOC_PARAGRAPH, 0);
        if (md->depth < MAX_LISTS)
            md->ordered[md->depth] = type == MD_BLOCK_OL;
        md->depth++;
        break;
    case MD_BLOCK_LI:
        flush(md, DOC_PARAGRAPH, 0);
        md->in_item = true;
        break;
    case MD_BLOCK_CODE:
    case MD_BLOCK_HTML:
        flush(md, DOC_PARAGRAPH, 0);
        buf_clear(&md->raw);
        md->in_code = type == MD_BLOCK_CODE;
        md->in_html = type == MD_BLOCK_HTML;
        break;
    case MD_BLOCK_TABLE:
        md->in_table = true;
        md->row = 0;
        md->header = ((MD_BLOCK_TABLE_DETAIL *)detail)->head_row_count > 0;
        break;
    case MD_BLOCK_TR:
        md->col = 0;
        break;
    case MD_BLOCK_TH:
    case MD_BLOCK_TD:
        flow_text_clear(&md->text);
        break;
    case MD_BLOCK_DOC:
    case MD_BLOCK_QUOTE:
    case MD_BLOCK_HR:
    case MD_BLOCK_H:
    case MD_BLOCK_P:
    case MD_BLOCK_THEAD:
    case MD_BLOCK_TBODY:
        break;
    }
    return md->flow->full;
}

static void end_raw(struct markdown *md, bool html) {
    while (md->raw.len > 0 && md->raw.data[md->raw.len - 1] == '\n')
        md->raw.data[--md->raw.len] = '\0';
    if (md->raw.len > 0 && html)
        flow_add_html(md->flow, md->raw.data, md->raw.len, &md->err);
    else if (md->raw.len > 0)
        flow_add(md->flow, DOC_CODE, 0, md->raw.data);
    buf_clear(&md->raw);
    md->in_code = md->in_html = false;
}

static void end_row(struct markdown *md) {
    if (++md->row == FLOW_TABLE_ROWS) {
        flow_add_table(md->flow, &md->table);
        md->row = 0;
    }
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *ctx) {
    struct markdown *md = ctx;
    switch (type) {
    case MD_BLOCK_H:
        flush(md, DOC_HEADING, (int)((MD_BLOCK_H_DETAIL *)detail)->level);
        break;
    case MD_BLOCK_P:
        flush(md, DOC_PARAGRAPH, 0);
        break;
    case MD_BLOCK_LI:
        flush(md, DOC_PARAGRAPH, 0);
        md->in_item = false;
        break;
    case MD_BLOCK_UL:
    case MD_BLOCK_OL:
        md->depth--;
        break;
    case MD_BLOCK_CODE:
    case MD_BLOCK_HTML:
        end_raw(md, type == MD_BLOCK_HTML);
        break;
    case MD_BLOCK_TH:
    case MD_BLOCK_TD:
        flow_table_add(&md->table, md->flow, md->row, md->col++, 1, 1, type == MD_BLOCK_TH,
                       flow_text_get(&md->text), md->text.buf.len);
        flow_text_clear(&md->text);
        break;
    case MD_BLOCK_TR:
        end_row(md);
        break;
    case MD_BLOCK_TABLE:
        flow_add_table(md->flow, &md->table);
        md->in_table = false;
        flow_splice(md->flow, &md->later);
        break;
    case MD_BLOCK_DOC:
        flush(md, DOC_PARAGRAPH, 0);
        break;
    case MD_BLOCK_QUOTE:
    case MD_BLOCK_HR:
    case MD_BLOCK_THEAD:
    case MD_BLOCK_TBODY:
        break;
    }
    return md->flow->full;
}

static int enter_span(MD_SPANTYPE type, void *detail, void *ctx) {
    (void)detail;
    struct markdown *md = ctx;
    if (type == MD_SPAN_IMG && md->n_images++ == 0)
        flow_text_clear(&md->alt);
    return 0;
}

static int leave_span(MD_SPANTYPE type, void *detail, void *ctx) {
    (void)detail;
    struct markdown *md = ctx;
    if (type != MD_SPAN_IMG || --md->n_images > 0 || md->alt.buf.len == 0)
        return 0;
    if (md->in_table)
        flow_text_puts(&md->text, md->alt.buf.data);
    else
        flow_add(&md->later, DOC_PICTURE, 0, md->alt.buf.data);
    return 0;
}

static int put_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *ctx) {
    struct markdown *md = ctx;
    struct flow_text *to = md->n_images > 0 ? &md->alt : &md->text;
    char utf8[4];
    size_t n;
    if (md->in_code || md->in_html) {
        buf_append(&md->raw, text, size);
        return 0;
    }
    switch (type) {
    case MD_TEXT_NULLCHAR:
        flow_text_puts(to, "\xEF\xBF\xBD");
        break;
    case MD_TEXT_BR:
        flow_text_break(to);
        break;
    case MD_TEXT_SOFTBR:
        flow_text_put(to, " ", 1);
        break;
    case MD_TEXT_ENTITY:
        n = flow_entity(utf8, text, size);
        flow_text_put(to, n > 0 ? utf8 : text, n > 0 ? n : size);
        break;
    case MD_TEXT_HTML:
        if (size >= 3 && strncasecmp(text, "<br", 3) == 0)
            flow_text_break(to);
        break;
    case MD_TEXT_NORMAL:
    case MD_TEXT_CODE:
    case MD_TEXT_LATEXMATH:
        flow_text_put(to, text, size);
        break;
    }
    return 0;
}

/* ---- front matter -------------------------------------------------------------------------- */

static const char *front_value(struct arena *arena, const char *line, size_t len, const char *key) {
    size_t n = strlen(key);
    if (len <= n || strncasecmp(line, key, n) != 0 || line[n] != ':')
        return NULL;
    line += n + 1;
    len -= n + 1;
    while (len > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\r'))
        len--;
    if (len >= 2 && (*line == '"' || *line == '\'') && line[len - 1] == *line) {
        line++;
        len -= 2;
    }
    return len == 0 ? NULL : arena_strndup(arena, line, len);
}

/* Bytes of a leading block between lines of "---" that holds "key: value" lines; 0 without one. */
static size_t read_front_matter(struct flow *flow, const char *text, size_t len) {
    enum { MAX_LINES = 200 };
    if (len < 4 || memcmp(text, "---", 3) != 0 || (text[3] != '\n' && text[3] != '\r'))
        return 0;
    const char *title = NULL, *author = NULL, *created = NULL;
    size_t at = 0;
    for (int n = 0; n < MAX_LINES && at < len; n++) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t size = end == NULL ? len - at : (size_t)(end - text) - at;
        const char *line = text + at;
        at += size + (end != NULL);
        if (n == 0)
            continue;
        if (size >= 3 && (memcmp(line, "---", 3) == 0 || memcmp(line, "...", 3) == 0)) {
            flow->title = title;
            flow->author = author;
            flow->created = created;
            return at;
        }
        if (n == 1 && memchr(line, ':', size) == NULL && line[0] != '#')
            return 0;
        const char *value;
        if ((value = front_value(flow->arena, line, size, "title")) != NULL)
            title = value;
        else if ((value = front_value(flow->arena, line, size, "author")) != NULL)
            author = value;
        else if ((value = front_value(flow->arena, line, size, "date")) != NULL)
            created = value;
    }
    return 0;
}

bool flow_read_markdown(struct flow *flow, struct read_task *task, struct error *err) {
    size_t len = 0;
    char *text = flow_decode(&len, task->arena, task->data, task->size, NULL);
    if (text == NULL || len > UINT32_MAX)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the text");
    size_t start = read_front_matter(flow, text, len);
    struct markdown md = {.flow = flow, .raw = {.max = FLOW_MAX_TEXT}};
    md.later.arena = flow->arena;
    MD_PARSER parser = {
        .flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS,
        .enter_block = enter_block,
        .leave_block = leave_block,
        .enter_span = enter_span,
        .leave_span = leave_span,
        .text = put_text,
    };
    int result = md_parse(text + start, (MD_SIZE)(len - start), &parser, &md);
    flow_table_fini(&md.table);
    flow_text_fini(&md.text);
    flow_text_fini(&md.alt);
    buf_fini(&md.raw);
    if (md.err.kind != 0) {
        *err = md.err;
        return false;
    }
    if (result < 0)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the text");
    return true;
}
