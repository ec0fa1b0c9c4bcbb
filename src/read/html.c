/* HTML by gumbo, as a flow.
 *
 * The tree is walked with a stack of our own, and start tags past a nesting no author writes are
 * blanked before parsing: gumbo's own walks up its stack would cost the square of the depth.
 * Gumbo's memory is an arena that is freed whole, because its destructor recurses. Nothing is
 * fetched. */
#include <gumbo.h>
#include <libxml/HTMLparser.h>
#include <string.h>
#include <strings.h>

#include "read/flow.h"

#define MAX_DEPTH 2000 /* open elements that need an end tag */
#define MAX_TREE ((size_t)1 << 30)
#define MAX_HTML ((size_t)32 << 20)
#define MAX_FRAMES 100000
#define MAX_SPAN 1000

/* ---- before parsing ------------------------------------------------------------------------ */

/* Elements without an end tag, or whose end tag may be left out: they do not count as open. */
static bool is_shallow(const char *name, size_t len) {
    static const char *const names[] = {
        "area",   "base",     "br",       "col",    "embed", "hr",    "img",   "input",
        "link",   "meta",     "param",    "source", "track", "wbr",   "p",     "li",
        "dt",     "dd",       "tr",       "td",     "th",    "thead", "tbody", "tfoot",
        "option", "optgroup", "colgroup", "rp",     "rt",    "html",  "body",  "head",
    };
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0)
            return true;
    }
    return false;
}

static size_t name_length(const char *html, size_t len, size_t i) {
    size_t n = 0;
    while (i + n < len && n < 32 && html[i + n] != '>' && html[i + n] != '/' &&
           (unsigned char)html[i + n] > ' ')
        n++;
    return n;
}

/* Past a comment, or past the end of an element whose content is no markup. */
static size_t pass_raw(const char *html, size_t len, size_t i, const char *end) {
    const char *found = i < len ? memmem(html + i, len - i, end, strlen(end)) : NULL;
    return found == NULL ? len : (size_t)(found - html);
}

static void limit_depth(char *html, size_t len) {
    size_t depth = 0;
    for (size_t i = 0; i + 1 < len;) {
        if (html[i] != '<') {
            i++;
            continue;
        }
        if (len - i >= 4 && memcmp(html + i, "<!--", 4) == 0) {
            i = pass_raw(html, len, i + 4, "-->");
            continue;
        }
        bool closing = html[i + 1] == '/';
        size_t start = i, name = i + 1 + closing, n = name_length(html, len, name);
        const char *end = memchr(html + i, '>', len - i);
        size_t next = end == NULL ? len : (size_t)(end - html) + 1;
        bool letter = n > 0 && ((html[name] | 0x20) >= 'a' && (html[name] | 0x20) <= 'z');
        i = next;
        if (!letter || is_shallow(html + name, n) || (next >= 2 && html[next - 2] == '/'))
            continue;
        bool drop = depth > MAX_DEPTH;
        if (closing)
            depth -= depth > 0;
        else
            depth++;
        if (drop)
            memset(html + start, ' ', next - start);
        else if (!closing && n == 6 && strncasecmp(html + name, "script", 6) == 0)
            i = pass_raw(html, len, next, "</");
        else if (!closing && n == 5 && strncasecmp(html + name, "style", 5) == 0)
            i = pass_raw(html, len, next, "</");
    }
}

/* ---- the walk ------------------------------------------------------------------------------ */

struct frame {
    const GumboNode *node;
    unsigned child;
    enum doc_element_kind kind; /* what a text directly inside becomes */
    uint8_t level, list_depth;
    bool ordered, pre, hidden, block, first_of_item;
    bool in_cell; /* text goes to the open table's cell */
    bool opens_table, opens_cell;
};
/* A table being gathered; tables in its cells follow it. */
struct open_table {
    struct flow_table cells;
    struct flow later;
    struct flow_text cell;
    uint16_t *covered; /* rows a column is still covered by a cell above */
    size_t n_covered, cap_covered;
    size_t row, col, n_rows;
    size_t cell_col;
    unsigned row_span, col_span;
    bool header;
    struct flow_text outer; /* the text that was open around it */
};
struct walk {
    struct flow *flow;
    struct frame *frames;
    size_t n_frames, cap_frames;
    struct open_table **tables;
    size_t n_tables, cap_tables;
    struct flow_text text;
    struct buf code;
    struct flow later; /* pictures met inside the open text */
};

static struct flow *sink(struct walk *walk) {
    return walk->n_tables > 0 ? &walk->tables[walk->n_tables - 1]->later : walk->flow;
}

static const char *attribute(const GumboNode *node, const char *name) {
    if (node->type != GUMBO_NODE_ELEMENT && node->type != GUMBO_NODE_TEMPLATE)
        return NULL;
    const GumboAttribute *found = gumbo_get_attribute(&node->v.element.attributes, name);
    return found == NULL ? NULL : found->value;
}

static bool is_hidden(const GumboNode *node) {
    if (attribute(node, "hidden") != NULL)
        return true;
    const char *style = attribute(node, "style");
    if (style == NULL)
        return false;
    const char *display = strcasestr(style, "display");
    if (display == NULL)
        return false;
    display += strlen("display");
    while (*display == ' ' || *display == ':')
        display++;
    return strncasecmp(display, "none", 4) == 0;
}

static void trim_code(struct buf *code) {
    while (code->len > 0 && (code->data[code->len - 1] == '\n' || code->data[code->len - 1] == ' '))
        code->data[--code->len] = '\0';
}

/* The open text ends here: an item, or a line of the open cell. */
static void flush(struct walk *walk, struct frame *frame) {
    struct flow_text *text = &walk->text;
    trim_code(&walk->code);
    const char *words = walk->code.len > 0 ? walk->code.data : flow_text_get(text);
    if (words[0] != '\0' && frame->in_cell && walk->n_tables > 0) {
        struct flow_text *cell = &walk->tables[walk->n_tables - 1]->cell;
        flow_text_break(cell);
        for (const char *p = words; *p != '\0';) {
            size_t len = strcspn(p, "\n");
            flow_text_put(cell, p, len);
            if (p[len] == '\n')
                flow_text_break(cell);
            p += len + (p[len] == '\n');
        }
    } else if (words[0] != '\0') {
        enum doc_element_kind kind = frame->kind;
        if (kind == DOC_LIST_ITEM && !frame->first_of_item)
            kind = DOC_PARAGRAPH;
        if (walk->code.len > 0 && kind == DOC_PARAGRAPH)
            kind = DOC_CODE;
        struct flow_item *item = flow_add(
            sink(walk), kind, kind == DOC_LIST_ITEM ? frame->list_depth : frame->level, words);
        if (item != NULL && kind == DOC_LIST_ITEM && frame->ordered)
            item->flags = DOC_ORDERED;
        if (item != NULL && item->kind == DOC_PARAGRAPH)
            item->level = 0;
    }
    if (words[0] != '\0' && frame->kind == DOC_LIST_ITEM) {
        /* Later texts of the same item are its further paragraphs. */
        for (size_t i = walk->n_frames; i-- > 0;) {
            struct frame *up = &walk->frames[i];
            up->first_of_item = false;
            if (up->node->type == GUMBO_NODE_ELEMENT && (up->node->v.element.tag == GUMBO_TAG_LI ||
                                                         up->node->v.element.tag == GUMBO_TAG_DD))
                break;
        }
    }
    flow_text_clear(text);
    buf_clear(&walk->code);
    flow_splice(sink(walk), &walk->later);
}

static void put_text(struct walk *walk, const struct frame *frame, const char *text) {
    if (frame->pre) {
        if (walk->code.max == 0)
            walk->code.max = FLOW_MAX_TEXT;
        if (walk->text.buf.len > 0)
            flow_text_puts(&walk->text, text);
        else
            buf_puts(&walk->code, text);
    } else if (walk->code.len > 0) {
        buf_puts(&walk->code, text);
    } else {
        flow_text_puts(&walk->text, text);
    }
}

static unsigned span_of(const GumboNode *node, const char *name) {
    const char *value = attribute(node, name);
    unsigned span = 0;
    for (; value != NULL && *value >= '0' && *value <= '9' && span <= MAX_SPAN; value++)
        span = span * 10 + (unsigned)(*value - '0');
    return span < 1 ? 1 : span > MAX_SPAN ? MAX_SPAN : span;
}

static bool open_table(struct walk *walk) {
    if (walk->n_tables == walk->cap_tables) {
        size_t cap = walk->cap_tables == 0 ? 8 : walk->cap_tables * 2;
        struct open_table **grown = mem_try_grow(walk->tables, cap, sizeof(*grown),
                                                 (size_t)1 << 24);
        if (grown == NULL)
            return false;
        walk->tables = grown;
        walk->cap_tables = cap;
    }
    struct open_table *table = mem_alloc(sizeof(*table));
    table->later.arena = walk->flow->arena;
    table->outer = walk->text;
    memset(&walk->text, 0, sizeof(walk->text));
    walk->tables[walk->n_tables++] = table;
    return true;
}

/* The gathered rows as one item; where no cell was marked a header, the first row of plain data
 * stays plain. */
static void emit_table(struct walk *walk, struct open_table *table, struct flow *to) {
    for (size_t i = 0; i < table->cells.n; i++) {
        struct flow_cell *cell = &table->cells.cells[i];
        size_t below = table->n_rows - cell->row;
        if (cell->row_span > below)
            cell->row_span = (uint16_t)below;
    }
    (void)walk;
    flow_add_table(to, &table->cells);
}

static void close_table(struct walk *walk) {
    struct open_table *table = walk->tables[--walk->n_tables];
    struct flow *to = sink(walk);
    emit_table(walk, table, to);
    flow_splice(to, &table->later);
    flow_text_fini(&walk->text);
    walk->text = table->outer;
    flow_text_fini(&table->cell);
    flow_table_fini(&table->cells);
    mem_free(table->covered);
    mem_free(table);
}

static void next_row(struct walk *walk) {
    struct open_table *table = walk->tables[walk->n_tables - 1];
    if (table->n_rows > 0) {
        for (size_t i = 0; i < table->n_covered; i++)
            table->covered[i] -= table->covered[i] > 0;
    }
    if (table->n_rows >= FLOW_TABLE_ROWS) {
        emit_table(walk, table, &table->later);
        table->n_rows = 0;
    }
    table->row = table->n_rows++;
    table->col = 0;
}

static void open_cell(struct walk *walk, const GumboNode *node) {
    struct open_table *table = walk->tables[walk->n_tables - 1];
    if (table->n_rows == 0)
        next_row(walk);
    while (table->col < table->n_covered && table->covered[table->col] > 0)
        table->col++;
    table->row_span = span_of(node, "rowspan");
    table->col_span = span_of(node, "colspan");
    table->header = node->v.element.tag == GUMBO_TAG_TH;
    table->cell_col = table->col;
    size_t end = table->col + table->col_span;
    end = end > FLOW_TABLE_COLS ? FLOW_TABLE_COLS : end;
    if (end > table->cap_covered) {
        size_t cap = end * 2;
        uint16_t *grown = mem_try_grow(table->covered, cap, sizeof(*grown), (size_t)1 << 20);
        if (grown == NULL)
            return;
        table->covered = grown;
        table->cap_covered = cap;
    }
    while (table->n_covered < end)
        table->covered[table->n_covered++] = 0;
    while (table->col < end)
        table->covered[table->col++] = (uint16_t)table->row_span;
    flow_text_clear(&table->cell);
}

static void close_cell(struct walk *walk) {
    struct open_table *table = walk->tables[walk->n_tables - 1];
    flow_table_add(&table->cells, walk->flow, table->row, table->cell_col, table->row_span,
                   table->col_span, table->header, flow_text_get(&table->cell),
                   table->cell.buf.len);
    flow_text_clear(&table->cell);
}

/* A table of one cell, or one said to be for looks, only holds blocks together. */
static bool is_layout_table(const GumboNode *node) {
    const char *role = attribute(node, "role");
    if (role != NULL && (strcmp(role, "presentation") == 0 || strcmp(role, "none") == 0))
        return true;
    size_t n_cells = 0;
    const GumboVector *parts = &node->v.element.children;
    for (unsigned i = 0; i < parts->length && n_cells < 2; i++) {
        const GumboNode *part = parts->data[i];
        const GumboVector *rows = part->type == GUMBO_NODE_ELEMENT ? &part->v.element.children
                                                                   : NULL;
        for (unsigned k = 0; rows != NULL && k < rows->length && n_cells < 2; k++) {
            const GumboNode *row = rows->data[k];
            if (row->type != GUMBO_NODE_ELEMENT)
                continue;
            for (unsigned m = 0; m < row->v.element.children.length; m++) {
                const GumboNode *cell = row->v.element.children.data[m];
                n_cells += cell->type == GUMBO_NODE_ELEMENT;
            }
        }
    }
    return n_cells < 2;
}

static void open_list(struct frame *frame, bool ordered) {
    frame->block = true;
    frame->list_depth = (uint8_t)(frame->list_depth < 9 ? frame->list_depth + 1 : 9);
    frame->ordered = ordered;
}

static void open_item(struct frame *frame) {
    frame->block = true;
    frame->kind = DOC_LIST_ITEM;
    frame->first_of_item = true;
    if (frame->list_depth == 0)
        frame->list_depth = 1;
}

static void judge_heading(struct frame *frame, int level) {
    frame->block = true;
    if (frame->kind == DOC_LIST_ITEM)
        return; /* a heading in a list stays a part of its item */
    frame->kind = DOC_HEADING;
    frame->level = (uint8_t)level;
}

static void note_title(struct walk *walk, const GumboNode *node) {
    struct flow_text title = {0};
    const GumboVector *children = &node->v.element.children;
    for (unsigned i = 0; i < children->length; i++) {
        const GumboNode *child = children->data[i];
        if (child->type == GUMBO_NODE_TEXT || child->type == GUMBO_NODE_WHITESPACE)
            flow_text_puts(&title, child->v.text.text);
    }
    if (title.buf.len > 0 && walk->flow->title == NULL)
        walk->flow->title = utf8_clean(walk->flow->arena, title.buf.data, title.buf.len);
    flow_text_fini(&title);
}

static void note_meta(struct walk *walk, const GumboNode *node) {
    const char *name = attribute(node, "name"), *content = attribute(node, "content");
    if (name == NULL || content == NULL || content[0] == '\0')
        return;
    if (strcasecmp(name, "author") == 0 && walk->flow->author == NULL)
        walk->flow->author = utf8_clean(walk->flow->arena, content, strlen(content));
}

/* What an element's start tag does. The frame begins as a copy of its parent's. */
static void enter(struct walk *walk, struct frame *frame) {
    const GumboNode *node = frame->node;
    bool in_table = walk->n_tables > 0;
    switch ((int)node->v.element.tag) {
    case GUMBO_TAG_SCRIPT:
    case GUMBO_TAG_STYLE:
    case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_IFRAME:
    case GUMBO_TAG_NOFRAMES:
    case GUMBO_TAG_RP:
        frame->hidden = true;
        return;
    case GUMBO_TAG_TITLE:
        if (node->v.element.tag_namespace == GUMBO_NAMESPACE_HTML)
            note_title(walk, node);
        frame->hidden = true;
        return;
    case GUMBO_TAG_META:
        note_meta(walk, node);
        return;
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6:
        judge_heading(frame, (int)node->v.element.tag - GUMBO_TAG_H1 + 1);
        return;
    case GUMBO_TAG_UL:
    case GUMBO_TAG_MENU:
    case GUMBO_TAG_DIR:
        open_list(frame, false);
        return;
    case GUMBO_TAG_OL:
        open_list(frame, true);
        return;
    case GUMBO_TAG_LI:
        open_item(frame);
        return;
    case GUMBO_TAG_DL:
        open_list(frame, false);
        frame->kind = DOC_PARAGRAPH;
        return;
    case GUMBO_TAG_DD:
        open_item(frame);
        return;
    case GUMBO_TAG_DT:
        frame->block = true;
        frame->kind = DOC_PARAGRAPH;
        return;
    case GUMBO_TAG_PRE:
    case GUMBO_TAG_LISTING:
    case GUMBO_TAG_XMP:
    case GUMBO_TAG_PLAINTEXT:
    case GUMBO_TAG_TEXTAREA:
        frame->block = true;
        frame->pre = true;
        return;
    case GUMBO_TAG_CAPTION:
    case GUMBO_TAG_FIGCAPTION:
        frame->block = true;
        frame->kind = DOC_CAPTION;
        frame->in_cell = false;
        return;
    case GUMBO_TAG_IMG:
    case GUMBO_TAG_AREA: {
        const char *alt = attribute(node, "alt");
        if (alt != NULL && alt[0] != '\0') {
            if (frame->in_cell)
                put_text(walk, frame, alt);
            else
                flow_add(&walk->later, DOC_PICTURE, 0, alt);
        }
        return;
    }
    case GUMBO_TAG_BR:
        if (walk->code.len > 0)
            buf_putc(&walk->code, '\n');
        else
            flow_text_break(&walk->text);
        return;
    case GUMBO_TAG_TABLE:
        frame->block = true;
        if (is_layout_table(node))
            return;
        frame->opens_table = true;
        return;
    case GUMBO_TAG_TR:
        frame->block = true;
        if (in_table)
            next_row(walk);
        return;
    case GUMBO_TAG_TD:
    case GUMBO_TAG_TH:
        frame->block = true;
        frame->opens_cell = in_table;
        return;
    case GUMBO_TAG_P:
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_ARTICLE:
    case GUMBO_TAG_ASIDE:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_FIGURE:
    case GUMBO_TAG_FORM:
    case GUMBO_TAG_FIELDSET:
    case GUMBO_TAG_LEGEND:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_SUMMARY:
    case GUMBO_TAG_CENTER:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_BODY:
    case GUMBO_TAG_HEAD:
    case GUMBO_TAG_OPTION:
    case GUMBO_TAG_SELECT:
    case GUMBO_TAG_BUTTON:
    case GUMBO_TAG_HGROUP:
        frame->block = true;
        return;
    }
}

static bool push(struct walk *walk, const GumboNode *node) {
    if (walk->n_frames == walk->cap_frames) {
        size_t cap = walk->cap_frames == 0 ? 64 : walk->cap_frames * 2;
        struct frame *grown = walk->n_frames >= MAX_FRAMES
                                  ? NULL
                                  : mem_try_grow(walk->frames, cap, sizeof(*grown), MAX_TREE);
        if (grown == NULL)
            return false;
        walk->frames = grown;
        walk->cap_frames = cap;
    }
    struct frame frame = {.kind = DOC_PARAGRAPH};
    struct frame *parent = walk->n_frames > 0 ? &walk->frames[walk->n_frames - 1] : NULL;
    if (parent != NULL)
        frame = *parent;
    frame.node = node;
    frame.child = 0;
    frame.block = frame.opens_table = frame.opens_cell = false;
    if (node->type == GUMBO_NODE_ELEMENT || node->type == GUMBO_NODE_TEMPLATE) {
        frame.hidden = frame.hidden || is_hidden(node);
        if (!frame.hidden)
            enter(walk, &frame);
        if (!frame.hidden && frame.block && parent != NULL)
            flush(walk, parent);
        if (frame.kind == DOC_LIST_ITEM && parent != NULL && parent->kind == DOC_LIST_ITEM &&
            !(node->v.element.tag == GUMBO_TAG_LI || node->v.element.tag == GUMBO_TAG_DD))
            frame.first_of_item = parent->first_of_item;
    }
    if (frame.opens_table && !open_table(walk))
        return false;
    if (frame.opens_table) {
        frame.in_cell = false;
        frame.kind = DOC_PARAGRAPH;
        frame.list_depth = 0;
    }
    if (frame.opens_cell) {
        open_cell(walk, node);
        frame.in_cell = true;
        frame.kind = DOC_PARAGRAPH;
    }
    walk->frames[walk->n_frames++] = frame;
    return true;
}

static void pop(struct walk *walk) {
    struct frame frame = walk->frames[walk->n_frames - 1];
    if (frame.block && !frame.hidden)
        flush(walk, &frame);
    if (frame.opens_cell)
        close_cell(walk);
    if (frame.opens_table)
        close_table(walk);
    walk->n_frames--;
}

static const GumboVector *children_of(const GumboNode *node) {
    switch (node->type) {
    case GUMBO_NODE_DOCUMENT:
        return &node->v.document.children;
    case GUMBO_NODE_ELEMENT:
    case GUMBO_NODE_TEMPLATE:
        return &node->v.element.children;
    case GUMBO_NODE_TEXT:
    case GUMBO_NODE_CDATA:
    case GUMBO_NODE_COMMENT:
    case GUMBO_NODE_WHITESPACE:
        return NULL;
    }
    return NULL;
}

static void walk_tree(struct walk *walk, const GumboNode *root) {
    if (!push(walk, root))
        walk->flow->full = true;
    while (walk->n_frames > 0 && !walk->flow->full) {
        struct frame *frame = &walk->frames[walk->n_frames - 1];
        const GumboVector *children = frame->hidden ? NULL : children_of(frame->node);
        if (children == NULL || frame->child >= children->length) {
            pop(walk);
            continue;
        }
        const GumboNode *child = children->data[frame->child++];
        switch (child->type) {
        case GUMBO_NODE_TEXT:
        case GUMBO_NODE_CDATA:
        case GUMBO_NODE_WHITESPACE:
            put_text(walk, frame, child->v.text.text);
            break;
        case GUMBO_NODE_ELEMENT:
        case GUMBO_NODE_TEMPLATE:
            if (!push(walk, child))
                walk->flow->full = true;
            break;
        case GUMBO_NODE_DOCUMENT:
        case GUMBO_NODE_COMMENT:
            break;
        }
    }
    while (walk->n_frames > 0)
        pop(walk);
}

/* ---- entry --------------------------------------------------------------------------------- */

static void *tree_alloc(void *arena, size_t size) {
    return arena_alloc(arena, size);
}

static void tree_free(void *arena, void *block) {
    (void)arena;
    (void)block;
}

bool flow_add_html(struct flow *flow, const char *html, size_t len, struct error *err) {
    if (len > MAX_HTML) {
        flow->full = true;
        len = utf8_cut(html, len, MAX_HTML);
    }
    struct arena *tree = arena_new(MAX_TREE);
    char *copy = arena_try(tree, len + 1, 1);
    if (copy == NULL) {
        arena_free(tree);
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the page");
    }
    memcpy(copy, html, len);
    limit_depth(copy, len);
    GumboOptions options = kGumboDefaultOptions;
    options.allocator = tree_alloc;
    options.deallocator = tree_free;
    options.userdata = tree;
    options.max_errors = 0;
    bool was_full = flow->full;
    flow->full = false;
    struct walk walk = {.flow = flow};
    walk.later.arena = flow->arena;
    GumboOutput *output = gumbo_parse_with_options(&options, copy, len);
    walk_tree(&walk, output->document);
    flow->full = flow->full || was_full;
    mem_free(walk.frames);
    mem_free(walk.tables);
    flow_text_fini(&walk.text);
    buf_fini(&walk.code);
    arena_free(tree);
    return true;
}

/* charset=… of a meta tag in the first 4 KiB, as browsers look for it. */
static const char *declared_charset(char out[40], const char *html, size_t len) {
    size_t end = len > 4096 ? 4096 : len;
    for (size_t i = 0; i + 8 < end; i++) {
        if (strncasecmp(html + i, "charset", 7) != 0)
            continue;
        size_t k = i + 7, n = 0;
        while (k < end && (html[k] == ' ' || html[k] == '='))
            k++;
        if (k < end && (html[k] == '"' || html[k] == '\''))
            k++;
        while (k < end && n < 39 && html[k] > ' ' && strchr("\"'>;/", html[k]) == NULL)
            out[n++] = html[k++];
        out[n] = '\0';
        if (n > 0)
            return out;
    }
    return NULL;
}

bool flow_read_html(struct flow *flow, struct read_task *task, struct error *err) {
    char name[40];
    size_t len = 0;
    char *html = flow_decode(&len, task->arena, task->data, task->size,
                             declared_charset(name, (const char *)task->data, task->size));
    if (html == NULL)
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for the page");
    return flow_add_html(flow, html, len, err);
}

size_t flow_entity(char out[4], const char *entity, size_t len) {
    if (len < 3 || entity[0] != '&' || entity[len - 1] != ';')
        return 0;
    uint32_t code = 0;
    if (entity[1] == '#') {
        bool hex = (entity[2] | 0x20) == 'x';
        for (size_t i = hex ? 3 : 2; i + 1 < len && code <= 0x10FFFF; i++) {
            char c = (char)(entity[i] | 0x20);
            uint32_t digit = c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                                                  : (uint32_t)(entity[i] - '0');
            code = code * (hex ? 16 : 10) + digit;
        }
    } else {
        char name[16];
        if (len - 2 >= sizeof(name))
            return 0;
        memcpy(name, entity + 1, len - 2);
        name[len - 2] = '\0';
        const htmlEntityDesc *found = htmlEntityLookup((const xmlChar *)name);
        code = found == NULL ? 0 : found->value;
        if (strcmp(name, "apos") == 0)
            code = '\'';
    }
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return 0;
    return utf8_put(out, code);
}
