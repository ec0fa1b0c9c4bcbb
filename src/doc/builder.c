/* The builder: growing arrays while a document is read, copied into the document's arena at the
 * end, one array at a time so that a large document is held twice only in part.
 *
 * What holds of every document it gives (and what doc_decode checks of one that comes from a
 * child):
 *   1. Text is valid UTF-8 without NUL. Element 0 starts at 0, each next one a '\n' after the end
 * of the one before, the last one ends where the text does.
 *   2. The elements' word ranges and cell ranges tile `words` and `cells` in order.
 *   3. A word is 1..DOC_MAX_WORD_BYTES long, on a page that is there, inside its element, cuts no
 *      character, and begins at or after the end of the word before.
 *   4. Only tables have cells, and each at least one. Cells tile the table's text: the first begins
 *      and the last ends with it, '\n' before a new row and '\t' before a new cell of the same row;
 *      (row, col) ascend and row + row_span, col + col_span are at most 65,536.
 *   5. Boxes and page sizes are finite, sizes are not negative. */
#include "doc/internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define META_MAX_BYTES 1000
#define LIST_MAX_LEVEL 9
#define GRID_MAX 65536 /* rows and columns of a table; indices are 16 bits */

struct doc_builder {
    struct arena *arena; /* the document's: strings at once, arrays at the end */
    char *text;
    size_t text_len, text_cap;
    struct doc_page *pages;
    size_t n_pages, pages_cap;
    struct doc_element *elements;
    size_t n_elements, elements_cap;
    struct doc_word *words;
    size_t n_words, words_cap;
    struct doc_cell *cells;
    size_t n_cells, cells_cap;
    struct doc_outline *outline;
    size_t n_outline, outline_cap;
    char *format, *title, *author, *created, *warning;
    bool slides;

    bool open;                  /* between doc_begin and doc_end */
    struct doc_element element; /* the open one; its counts are set at its end */
    bool element_has_text, element_has_box;
    size_t element_mark; /* text_len before the '\n' that precedes it */
    size_t part_off;     /* where the open element or cell begins */
    int cell_row_base;   /* the caller's row that is row 0 of this element */

    bool failed; /* a limit was passed: further calls do nothing, doc_finish says it */
    struct error error;
};

static bool builder_fail(struct doc_builder *builder, const char *what, size_t max) {
    if (!builder->failed)
        error_set(&builder->error, ERROR_LIMIT, "more than %zu %s, or no memory for them", max,
                  what);
    builder->failed = true;
    return false;
}

/* The array with room for n items: moved or as it was; NULL past max or without memory. */
static void *array_grow(struct doc_builder *builder, void *items, size_t *cap, size_t n,
                        size_t size_bytes, size_t max, const char *what) {
    if (builder->failed)
        return NULL;
    if (n <= *cap)
        return items;
    if (n > max) {
        builder_fail(builder, what, max);
        return NULL;
    }
    size_t grown_cap = *cap + *cap / 2 + 64;
    if (grown_cap < n)
        grown_cap = n;
    if (grown_cap > max)
        grown_cap = max;
    void *grown = mem_try_grow(items, grown_cap, size_bytes, max * size_bytes);
    if (!grown) {
        builder_fail(builder, what, max);
        return NULL;
    }
    *cap = grown_cap;
    return grown;
}

static char *text_room(struct doc_builder *builder, size_t len) {
    char *grown = array_grow(builder, builder->text, &builder->text_cap, builder->text_len + len, 1,
                             DOC_MAX_TEXT, "bytes of text");
    if (!grown)
        return NULL;
    builder->text = grown;
    return grown + builder->text_len;
}

static void text_append(struct doc_builder *builder, const char *text, size_t len) {
    char *room = len ? text_room(builder, len) : NULL;
    if (!room)
        return;
    memcpy(room, text, len);
    builder->text_len += len;
}

/* Appends text with every invalid byte and NUL as U+FFFD. */
static void text_append_clean(struct doc_builder *builder, const char *text, size_t len) {
    if (utf8_valid(text, len) && !memchr(text, 0, len)) {
        text_append(builder, text, len);
        return;
    }
    for (size_t pos = 0; pos < len && !builder->failed;) {
        char piece[4];
        uint32_t code_point = utf8_next(text, len, &pos);
        text_append(builder, piece, utf8_put(piece, code_point ? code_point : 0xfffd));
    }
}

/* One line of clean text, white space collapsed, at most META_MAX_BYTES. */
static char *meta_clean(struct arena *arena, const char *value) {
    char out[META_MAX_BYTES + 8];
    size_t n = 0, len = strlen(value);
    bool space = false;
    for (size_t pos = 0; pos < len && n <= META_MAX_BYTES;) {
        uint32_t code_point = utf8_next(value, len, &pos);
        if (code_point < 0x20 || code_point == 0x7f || text_is_space(code_point)) {
            space = n > 0;
            continue;
        }
        if (space)
            out[n++] = ' ';
        space = false;
        n += utf8_put(out + n, code_point);
    }
    return arena_strndup(arena, out, n > META_MAX_BYTES ? utf8_cut(out, n, META_MAX_BYTES) : n);
}

struct doc_builder *doc_builder_new(const char *format) {
    struct doc_builder *builder = mem_alloc(sizeof *builder);
    builder->arena = arena_new(0);
    builder->format = meta_clean(builder->arena, format);
    builder->title = builder->author = builder->created = builder->warning = arena_strdup(
        builder->arena, "");
    return builder;
}

void doc_builder_free(struct doc_builder *builder) {
    if (!builder)
        return;
    mem_free(builder->text);
    mem_free(builder->pages);
    mem_free(builder->elements);
    mem_free(builder->words);
    mem_free(builder->cells);
    mem_free(builder->outline);
    arena_free(builder->arena);
    mem_free(builder);
}

static float size_clean(float size_pt) {
    return isfinite(size_pt) && size_pt > 0 ? size_pt : 0;
}

uint32_t doc_add_page(struct doc_builder *builder, float width_pt, float height_pt,
                      uint32_t flags) {
    struct doc_page *grown = array_grow(builder, builder->pages, &builder->pages_cap,
                                        builder->n_pages + 1, sizeof *grown, DOC_MAX_PAGES,
                                        "pages");
    if (!grown)
        return 0;
    builder->pages = grown;
    grown[builder->n_pages] = (struct doc_page){
        .width_pt = size_clean(width_pt),
        .height_pt = size_clean(height_pt),
        .flags = flags & DOC_PAGE_FLAGS,
    };
    return (uint32_t)builder->n_pages++;
}

void doc_page_set_flags(struct doc_builder *builder, uint32_t page_i, uint32_t flags) {
    if (builder->failed)
        return;
    assert(page_i < builder->n_pages);
    builder->pages[page_i].flags |= flags & DOC_PAGE_FLAGS;
}

void doc_set_slides(struct doc_builder *builder) {
    builder->slides = true;
}

void doc_set_meta(struct doc_builder *builder, const char *name, const char *value) {
    if (!value || builder->failed)
        return;
    if (strcmp(name, "warning") == 0) {
        char *joined = *builder->warning ? mem_printf("%s; %s", builder->warning, value)
                                         : mem_strdup(value);
        builder->warning = meta_clean(builder->arena, joined);
        mem_free(joined);
    } else if (strcmp(name, "title") == 0) {
        builder->title = meta_clean(builder->arena, value);
    } else if (strcmp(name, "author") == 0) {
        builder->author = meta_clean(builder->arena, value);
    } else if (strcmp(name, "created") == 0) {
        builder->created = meta_clean(builder->arena, value);
    } else {
        assert(!"a name of metadata that is there");
    }
}

void doc_add_outline(struct doc_builder *builder, const char *title, uint32_t level,
                     uint32_t page_i) {
    if (builder->n_outline == DOC_MAX_OUTLINE)
        return;
    struct doc_outline *grown = array_grow(builder, builder->outline, &builder->outline_cap,
                                           builder->n_outline + 1, sizeof *grown, DOC_MAX_OUTLINE,
                                           "bookmarks");
    if (!grown)
        return;
    builder->outline = grown;
    grown[builder->n_outline++] = (struct doc_outline){
        .title = meta_clean(builder->arena, title ? title : ""),
        .level = level < 255 ? level : 255,
        .page_i = page_i,
    };
}

static uint8_t level_clean(enum doc_element_kind kind, int level) {
    int min = kind == DOC_HEADING || kind == DOC_LIST_ITEM ? 1 : 0;
    int max = kind == DOC_HEADING ? 6 : LIST_MAX_LEVEL;
    return (uint8_t)(level < min ? min : level > max ? max : level);
}

void doc_begin(struct doc_builder *builder, enum doc_element_kind kind, int level, uint32_t flags) {
    assert(!builder->open && kind < DOC_N_ELEMENT_KINDS);
    builder->open = true;
    builder->element_has_text = builder->element_has_box = false;
    builder->element_mark = builder->text_len;
    builder->cell_row_base = 0;
    if (builder->n_elements > 0)
        text_append(builder, "\n", 1);
    builder->part_off = builder->text_len;
    builder->element = (struct doc_element){
        .kind = kind,
        .level = level_clean(kind, level),
        .flags = (uint8_t)(flags & DOC_ELEMENT_FLAGS),
        .page_i = DOC_NO_PAGE,
        .off = (uint32_t)builder->text_len,
        .first_word = (uint32_t)builder->n_words,
        .first_cell = (uint32_t)builder->n_cells,
    };
}

static float clamp_unit(float value) {
    return value > 0 ? (value < 1 ? value : 1) : 0;
}

static bool box_clean(struct doc_box *out, const struct doc_box *box) {
    if (!box || !isfinite(box->x0) || !isfinite(box->y0) || !isfinite(box->x1) ||
        !isfinite(box->y1))
        return false;
    *out = (struct doc_box){
        .x0 = clamp_unit(fminf(box->x0, box->x1)),
        .y0 = clamp_unit(fminf(box->y0, box->y1)),
        .x1 = clamp_unit(fmaxf(box->x0, box->x1)),
        .y1 = clamp_unit(fmaxf(box->y0, box->y1)),
    };
    return true;
}

/* The element begins on the first page anything of it is put on; its box holds what is there. */
static void element_place(struct doc_element *element, bool *has_box, uint32_t page_i,
                          const struct doc_box *box) {
    if (element->page_i == DOC_NO_PAGE)
        element->page_i = page_i;
    if (element->page_i != page_i || !box)
        return;
    if (!*has_box) {
        element->box = *box;
        *has_box = true;
        return;
    }
    element->box.x0 = fminf(element->box.x0, box->x0);
    element->box.y0 = fminf(element->box.y0, box->y0);
    element->box.x1 = fmaxf(element->box.x1, box->x1);
    element->box.y1 = fmaxf(element->box.y1, box->y1);
}

/* Places text[off, end) on a page: one word, or several where it is longer than a word may be. */
static void words_add(struct doc_builder *builder, size_t off, size_t end, uint32_t page_i,
                      const struct doc_box *box) {
    while (off < end) {
        struct doc_word *grown = array_grow(builder, builder->words, &builder->words_cap,
                                            builder->n_words + 1, sizeof *grown, DOC_MAX_WORDS,
                                            "words");
        if (!grown)
            return;
        builder->words = grown;
        size_t len = utf8_cut(builder->text + off, end - off, DOC_MAX_WORD_BYTES);
        grown[builder->n_words++] = (struct doc_word){
            .off = (uint32_t)off, .len = (uint32_t)len, .page_i = page_i, .box = *box};
        off += len;
    }
}

static bool range_has_text(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] > ' ')
            return true;
    return false;
}

void doc_put(struct doc_builder *builder, const char *separator, const char *text, size_t len,
             uint32_t page_i, const struct doc_box *box) {
    assert(builder->open);
    if (builder->failed)
        return;
    struct doc_element *element = &builder->element;
    bool has_page = page_i != DOC_NO_PAGE;
    assert(!has_page || page_i < builder->n_pages);
    if (element->kind == DOC_TABLE && builder->n_cells == element->first_cell && len > 0)
        doc_cell(builder, 0, 0, 1, 1, false);

    size_t start = builder->text_len;
    if (len > 0 && start > builder->part_off)
        text_append_clean(builder, separator, strlen(separator));
    size_t off = builder->text_len;
    text_append_clean(builder, text, len);
    if (builder->failed)
        return;
    size_t end = builder->text_len;
    if (element->kind == DOC_TABLE) /* these two are what parts cells */
        for (size_t i = start; i < end; i++)
            if (builder->text[i] == '\t' || builder->text[i] == '\n')
                builder->text[i] = ' ';
    if (end > off && range_has_text(builder->text + off, end - off))
        builder->element_has_text = true;

    struct doc_box clean;
    bool has_box = has_page && box_clean(&clean, box);
    if (has_page)
        element_place(element, &builder->element_has_box, page_i, has_box ? &clean : NULL);
    if (has_box)
        words_add(builder, off, end, page_i, &clean);
}

/* Ends the last cell where the text now ends. */
static void cell_close(struct doc_builder *builder) {
    if (builder->n_cells == builder->element.first_cell)
        return;
    struct doc_cell *cell = &builder->cells[builder->n_cells - 1];
    cell->len = (uint32_t)(builder->text_len - cell->off);
}

static int span_clean(int span, int from) {
    int max = GRID_MAX - from;
    max = max > UINT16_MAX ? UINT16_MAX : max;
    return span < 1 ? 1 : span > max ? max : span;
}

/* Moves (row, col) behind the last cell where it is not. */
static void cell_ascend(const struct doc_builder *builder, int *row, int *col) {
    *row = *row < 0 ? 0 : *row;
    *col = *col < 0 ? 0 : *col;
    if (builder->n_cells == builder->element.first_cell)
        return;
    const struct doc_cell *last = &builder->cells[builder->n_cells - 1];
    if (*row < last->row)
        *row = last->row;
    if (*row == last->row && *col <= last->col)
        *col = last->col + 1;
}

void doc_cell(struct doc_builder *builder, int row, int col, int row_span, int col_span,
              bool header) {
    assert(builder->open && builder->element.kind == DOC_TABLE);
    if (builder->failed)
        return;
    row = row < 0 ? 0 : row;
    if (row - builder->cell_row_base >= GRID_MAX) { /* a longer table goes on in another element */
        uint8_t level = builder->element.level, flags = builder->element.flags;
        doc_end(builder);
        doc_begin(builder, DOC_TABLE, level, flags);
        builder->cell_row_base = row;
    }
    row -= builder->cell_row_base;
    cell_ascend(builder, &row, &col);
    if (col >= GRID_MAX) {
        builder_fail(builder, "columns in a table", GRID_MAX);
        return;
    }
    struct doc_cell *grown = array_grow(builder, builder->cells, &builder->cells_cap,
                                        builder->n_cells + 1, sizeof *grown, DOC_MAX_CELLS,
                                        "table cells");
    if (!grown)
        return;
    builder->cells = grown;
    cell_close(builder);
    if (builder->n_cells > builder->element.first_cell)
        text_append(builder, grown[builder->n_cells - 1].row == row ? "\t" : "\n", 1);
    builder->part_off = builder->text_len;
    grown[builder->n_cells++] = (struct doc_cell){
        .row = (uint16_t)row,
        .col = (uint16_t)col,
        .row_span = (uint16_t)span_clean(row_span, row),
        .col_span = (uint16_t)span_clean(col_span, col),
        .header = header,
        .off = (uint32_t)builder->text_len,
    };
}

void doc_end(struct doc_builder *builder) {
    assert(builder->open);
    builder->open = false;
    if (builder->failed)
        return;
    struct doc_element *element = &builder->element;
    if (!builder->element_has_text && element->kind != DOC_PICTURE) {
        builder->text_len = builder->element_mark;
        builder->n_words = element->first_word;
        builder->n_cells = element->first_cell;
        return;
    }
    struct doc_element *grown = array_grow(builder, builder->elements, &builder->elements_cap,
                                           builder->n_elements + 1, sizeof *grown, DOC_MAX_ELEMENTS,
                                           "elements");
    if (!grown)
        return;
    builder->elements = grown;
    cell_close(builder);
    element->len = (uint32_t)(builder->text_len - element->off);
    element->n_words = (uint32_t)builder->n_words - element->first_word;
    element->n_cells = (uint32_t)builder->n_cells - element->first_cell;
    grown[builder->n_elements++] = *element;
}

/* Moves n items of a builder's array into the arena. */
static bool array_move(void **out, struct doc_builder *builder, void *items, size_t n,
                       size_t size_bytes) {
    if (n > 0) {
        *out = arena_try(builder->arena, n, size_bytes);
        if (!*out)
            return builder_fail(builder, "bytes of document", n * size_bytes);
        memcpy(*out, items, n * size_bytes);
    }
    mem_free(items);
    return true;
}

static bool builder_move(struct document *doc, struct doc_builder *builder) {
    void *moved = NULL;
#define MOVE(field, n)                                                                             \
    do {                                                                                           \
        moved = NULL;                                                                              \
        if (!array_move(&moved, builder, builder->field, n, sizeof *builder->field))               \
            return false;                                                                          \
        builder->field = NULL;                                                                     \
        doc->field = moved;                                                                        \
    } while (0)
    if (!text_room(builder, 1))
        return false;
    builder->text[builder->text_len] = 0;
    MOVE(text, builder->text_len + 1);
    MOVE(pages, builder->n_pages);
    MOVE(elements, builder->n_elements);
    MOVE(words, builder->n_words);
    MOVE(cells, builder->n_cells);
    MOVE(outline, builder->n_outline);
#undef MOVE
    doc->text_len = (uint32_t)builder->text_len;
    doc->n_pages = (uint32_t)builder->n_pages;
    doc->n_elements = (uint32_t)builder->n_elements;
    doc->n_words = (uint32_t)builder->n_words;
    doc->n_cells = (uint32_t)builder->n_cells;
    doc->n_outline = (uint32_t)builder->n_outline;
    for (uint32_t i = 0; i < doc->n_outline; i++)
        if (doc->outline[i].page_i >= doc->n_pages)
            doc->outline[i].page_i = DOC_NO_PAGE;
    return true;
}

bool doc_finish(struct document **out, struct doc_builder *builder, struct error *err) {
    if (builder->open)
        doc_end(builder);
    struct document *doc = arena_alloc(builder->arena, sizeof *doc);
    if (builder->failed || !builder_move(doc, builder)) {
        if (err)
            *err = builder->error;
        doc_builder_free(builder);
        return false;
    }
    doc->format = builder->format;
    doc->title = builder->title;
    doc->author = builder->author;
    doc->created = builder->created;
    doc->warning = builder->warning;
    doc->slides = builder->slides;
    doc->arena = builder->arena;
    builder->arena = NULL;
    doc_builder_free(builder);
    *out = doc;
    return true;
}

void doc_free(struct document *doc) {
    if (doc)
        arena_free(doc->arena); /* doc itself lies in it */
}
