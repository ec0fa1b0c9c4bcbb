/* The document as bytes, on the pipe from a reader child and on disk; and a chunk's placed words.
 * Decoding checks all that builder.c's opening comment lists, so that a document from a child that
 * was taken over is as sound as one we built, only its content is not to be believed.
 *
 * Little-endian, no padding, in this order; f32 is IEEE 754, str is u16 len and len bytes of UTF-8
 * without NUL (len <= 1000):
 *
 *   offset  type
 *    0      u32   magic 0x31434f44 "DOC1"
 *    4      u32   text_len
 *    8      u32   n_pages
 *   12      u32   n_elements
 *   16      u32   n_words
 *   20      u32   n_cells
 *   24      u32   n_outline
 *   28      u32   flags: bit 0 slides
 *   32      text_len bytes of UTF-8 without NUL
 *           n_pages     x { f32 width_pt, f32 height_pt, u32 flags }
 *           n_elements  x { u8 kind, u8 level, u8 flags, u8 0, u32 page_i, f32 x0, y0, x1, y1,
 *                           u32 len, u32 n_words, u32 n_cells }
 *           n_words     x { u32 off, u16 len, u32 page_i, f32 x0, y0, x1, y1 }
 *           n_cells     x { u16 row, u16 col, u16 row_span, u16 col_span, u8 header, u32 len }
 *           n_outline   x { u32 level, u32 page_i, str title }
 *           str format, title, author, created, warning
 *           end
 *
 * Where an element or a cell begins follows from the lengths before it. */
#include "doc/internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define MAGIC 0x31434f44u
#define HEADER_BYTES 32
#define PAGE_BYTES 12
#define ELEMENT_BYTES 36
#define WORD_BYTES 26
#define CELL_BYTES 13
#define OUTLINE_MIN_BYTES 10
#define PLACE_BYTES 18
#define STRING_MAX 1000

/* ---- writing -------------------------------------------------------------------------------- */

static uint8_t *put_u16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    return at + 2;
}

static uint8_t *put_u32(uint8_t *at, uint32_t value) {
    return put_u16(put_u16(at, value & 0xffff), value >> 16);
}

static uint8_t *put_f32(uint8_t *at, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_u32(at, bits);
}

static uint8_t *put_box(uint8_t *at, const struct doc_box *box) {
    return put_f32(put_f32(put_f32(put_f32(at, box->x0), box->y0), box->x1), box->y1);
}

static void append_string(struct buf *out, const char *text) {
    uint8_t head[2];
    size_t len = strlen(text);
    assert(len <= STRING_MAX);
    put_u16(head, (uint32_t)len);
    buf_append(out, head, sizeof head);
    buf_append(out, text, len);
}

static void append_elements(struct buf *out, const struct document *doc) {
    for (uint32_t i = 0; i < doc->n_elements; i++) {
        const struct doc_element *element = &doc->elements[i];
        uint8_t record[ELEMENT_BYTES], *at = record;
        *at++ = (uint8_t)element->kind;
        *at++ = element->level;
        *at++ = element->flags;
        *at++ = 0;
        at = put_u32(at, element->page_i);
        at = put_box(at, &element->box);
        at = put_u32(at, element->len);
        at = put_u32(at, element->n_words);
        put_u32(at, element->n_cells);
        buf_append(out, record, sizeof record);
    }
}

static void append_words(struct buf *out, const struct document *doc) {
    for (uint32_t i = 0; i < doc->n_words; i++) {
        const struct doc_word *word = &doc->words[i];
        uint8_t record[WORD_BYTES], *at = put_u32(record, word->off);
        at = put_u16(at, word->len);
        at = put_u32(at, word->page_i);
        put_box(at, &word->box);
        buf_append(out, record, sizeof record);
    }
}

static void append_cells(struct buf *out, const struct document *doc) {
    for (uint32_t i = 0; i < doc->n_cells; i++) {
        const struct doc_cell *cell = &doc->cells[i];
        uint8_t record[CELL_BYTES], *at = put_u16(record, cell->row);
        at = put_u16(at, cell->col);
        at = put_u16(at, cell->row_span);
        at = put_u16(at, cell->col_span);
        *at++ = cell->header;
        put_u32(at, cell->len);
        buf_append(out, record, sizeof record);
    }
}

void doc_encode(struct buf *out, const struct document *doc) {
    uint8_t header[HEADER_BYTES], *at = put_u32(header, MAGIC);
    at = put_u32(at, doc->text_len);
    at = put_u32(at, doc->n_pages);
    at = put_u32(at, doc->n_elements);
    at = put_u32(at, doc->n_words);
    at = put_u32(at, doc->n_cells);
    at = put_u32(at, doc->n_outline);
    put_u32(at, doc->slides);
    buf_append(out, header, sizeof header);
    buf_append(out, doc->text, doc->text_len);
    for (uint32_t i = 0; i < doc->n_pages; i++) {
        uint8_t record[PAGE_BYTES];
        at = put_f32(put_f32(record, doc->pages[i].width_pt), doc->pages[i].height_pt);
        put_u32(at, doc->pages[i].flags);
        buf_append(out, record, sizeof record);
    }
    append_elements(out, doc);
    append_words(out, doc);
    append_cells(out, doc);
    for (uint32_t i = 0; i < doc->n_outline; i++) {
        uint8_t record[8];
        put_u32(put_u32(record, doc->outline[i].level), doc->outline[i].page_i);
        buf_append(out, record, sizeof record);
        append_string(out, doc->outline[i].title);
    }
    append_string(out, doc->format);
    append_string(out, doc->title);
    append_string(out, doc->author);
    append_string(out, doc->created);
    append_string(out, doc->warning);
}

/* ---- reading -------------------------------------------------------------------------------- */

struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool bad(struct error *err, const char *what, size_t i) {
    return error_set_code(err, ERROR_INPUT, "parser_protocol", "encoded document: bad %s %zu", what,
                          i);
}

/* The next n bytes, which the caller knows to be there. */
static const uint8_t *take(struct cursor *from, size_t n) {
    assert(n <= from->left);
    const uint8_t *at = from->at;
    from->at += n;
    from->left -= n;
    return at;
}

static uint32_t get_u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t get_u32(const uint8_t *at) {
    return get_u16(at) | get_u16(at + 2) << 16;
}

static float get_f32(const uint8_t *at) {
    uint32_t bits = get_u32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool get_box(struct doc_box *out, const uint8_t *at) {
    *out = (struct doc_box){get_f32(at), get_f32(at + 4), get_f32(at + 8), get_f32(at + 12)};
    /* A NaN fails every comparison. */
    return out->x0 >= 0 && out->x0 <= out->x1 && out->x1 <= 1 && out->y0 >= 0 &&
           out->y0 <= out->y1 && out->y1 <= 1;
}

static bool size_is_good(float size_pt) {
    return isfinite(size_pt) && size_pt >= 0;
}

static bool text_is_good(const char *text, size_t len) {
    return utf8_valid(text, len) && !memchr(text, 0, len);
}

static bool get_string(char **out, struct cursor *from, struct arena *arena, const char *what,
                       struct error *err) {
    if (from->left < 2)
        return bad(err, what, 0);
    size_t len = get_u16(take(from, 2));
    if (len > STRING_MAX || len > from->left)
        return bad(err, what, len);
    const char *text = (const char *)take(from, len);
    if (!text_is_good(text, len))
        return bad(err, what, len);
    *out = arena_strndup(arena, text, len);
    return true;
}

static bool decode_header(struct document *doc, struct cursor *from, struct error *err) {
    if (from->left < HEADER_BYTES)
        return bad(err, "length", from->left);
    const uint8_t *at = take(from, HEADER_BYTES);
    if (get_u32(at) != MAGIC)
        return bad(err, "magic", get_u32(at));
    doc->text_len = get_u32(at + 4);
    doc->n_pages = get_u32(at + 8);
    doc->n_elements = get_u32(at + 12);
    doc->n_words = get_u32(at + 16);
    doc->n_cells = get_u32(at + 20);
    doc->n_outline = get_u32(at + 24);
    uint32_t flags = get_u32(at + 28);
    if (flags > 1)
        return bad(err, "flags", flags);
    doc->slides = flags == 1;
    if (doc->text_len > DOC_MAX_TEXT || doc->n_pages > DOC_MAX_PAGES ||
        doc->n_elements > DOC_MAX_ELEMENTS || doc->n_words > DOC_MAX_WORDS ||
        doc->n_cells > DOC_MAX_CELLS || doc->n_outline > DOC_MAX_OUTLINE)
        return error_set(err, ERROR_LIMIT, "encoded document: a count past its maximum");
    /* Nothing is allocated for records that are not there. Counts are at most 2^28: no overflow. */
    uint64_t needed = (uint64_t)doc->text_len + (uint64_t)doc->n_pages * PAGE_BYTES +
                      (uint64_t)doc->n_elements * ELEMENT_BYTES +
                      (uint64_t)doc->n_words * WORD_BYTES + (uint64_t)doc->n_cells * CELL_BYTES +
                      (uint64_t)doc->n_outline * OUTLINE_MIN_BYTES;
    if (needed > from->left)
        return bad(err, "length", from->left);
    return true;
}

static bool decode_text(struct document *doc, struct cursor *from, struct error *err) {
    const char *text = (const char *)take(from, doc->text_len);
    if (!text_is_good(text, doc->text_len))
        return bad(err, "text of length", doc->text_len);
    memcpy(doc->text, text, doc->text_len);
    return true;
}

static bool decode_pages(struct document *doc, struct cursor *from, struct error *err) {
    for (uint32_t i = 0; i < doc->n_pages; i++) {
        const uint8_t *at = take(from, PAGE_BYTES);
        struct doc_page *page = &doc->pages[i];
        *page = (struct doc_page){get_f32(at), get_f32(at + 4), get_u32(at + 8)};
        if (!size_is_good(page->width_pt) || !size_is_good(page->height_pt) ||
            (page->flags & ~(uint32_t)DOC_PAGE_FLAGS))
            return bad(err, "page", i);
    }
    return true;
}

static bool level_is_good(enum doc_element_kind kind, uint8_t level) {
    if (kind == DOC_HEADING)
        return level >= 1 && level <= 6;
    return level <= 9 && (kind != DOC_LIST_ITEM || level >= 1);
}

static bool decode_elements(struct document *doc, struct cursor *from, struct error *err) {
    static const struct doc_box nowhere;
    uint32_t off = 0, first_word = 0, first_cell = 0;
    for (uint32_t i = 0; i < doc->n_elements; i++) {
        const uint8_t *at = take(from, ELEMENT_BYTES);
        struct doc_element *element = &doc->elements[i];
        if (at[0] >= DOC_N_ELEMENT_KINDS || at[3] != 0)
            return bad(err, "element", i);
        if (i > 0 && (off >= doc->text_len || doc->text[off++] != '\n'))
            return bad(err, "element", i);
        *element = (struct doc_element){
            .kind = (enum doc_element_kind)at[0],
            .level = at[1],
            .flags = at[2],
            .page_i = get_u32(at + 4),
            .off = off,
            .len = get_u32(at + 24),
            .first_word = first_word,
            .n_words = get_u32(at + 28),
            .first_cell = first_cell,
            .n_cells = get_u32(at + 32),
        };
        bool has_page = element->page_i != DOC_NO_PAGE;
        if (!level_is_good(element->kind, element->level) ||
            (element->flags & ~DOC_ELEMENT_FLAGS) ||
            (has_page && element->page_i >= doc->n_pages) || !get_box(&element->box, at + 8) ||
            (!has_page && memcmp(&element->box, &nowhere, sizeof nowhere) != 0) ||
            element->len > doc->text_len - off || element->n_words > doc->n_words - first_word ||
            element->n_cells > doc->n_cells - first_cell ||
            (element->n_cells > 0) != (element->kind == DOC_TABLE) ||
            (element->len == 0 && element->kind != DOC_PICTURE))
            return bad(err, "element", i);
        off += element->len;
        first_word += element->n_words;
        first_cell += element->n_cells;
    }
    if (off != doc->text_len || first_word != doc->n_words || first_cell != doc->n_cells)
        return bad(err, "number of elements", doc->n_elements);
    return true;
}

static bool decode_words(struct document *doc, struct cursor *from, struct error *err) {
    for (uint32_t element_i = 0; element_i < doc->n_elements; element_i++) {
        const struct doc_element *element = &doc->elements[element_i];
        uint32_t min_off = element->off, end = element->off + element->len;
        for (uint32_t k = 0; k < element->n_words; k++) {
            const uint8_t *at = take(from, WORD_BYTES);
            struct doc_word *word = &doc->words[element->first_word + k];
            word->off = get_u32(at);
            word->len = get_u16(at + 4);
            word->page_i = get_u32(at + 6);
            if (!get_box(&word->box, at + 10) || word->page_i >= doc->n_pages ||
                word->off < min_off || word->off > end || word->len > end - word->off ||
                word->len == 0 || word->len > DOC_MAX_WORD_BYTES ||
                byte_is_inner(doc->text[word->off]) ||
                byte_is_inner(doc->text[word->off + word->len]))
                return bad(err, "word", element->first_word + k);
            min_off = word->off + word->len;
        }
    }
    return true;
}

static bool cell_is_good(const struct document *doc, const struct doc_element *element,
                         uint32_t i) {
    const struct doc_cell *cell = &doc->cells[i];
    if (cell->row_span == 0 || cell->col_span == 0 || cell->row + cell->row_span > 65536 ||
        cell->col + cell->col_span > 65536)
        return false;
    uint32_t end = element->off + element->len;
    if (cell->off > end || cell->len > end - cell->off || byte_is_inner(doc->text[cell->off]) ||
        byte_is_inner(doc->text[cell->off + cell->len]))
        return false;
    if (i == element->first_cell)
        return true;
    const struct doc_cell *last = &doc->cells[i - 1];
    if (cell->row < last->row || (cell->row == last->row && cell->col <= last->col))
        return false;
    return doc->text[cell->off - 1] == (cell->row == last->row ? '\t' : '\n');
}

static bool decode_cells(struct document *doc, struct cursor *from, struct error *err) {
    for (uint32_t element_i = 0; element_i < doc->n_elements; element_i++) {
        const struct doc_element *element = &doc->elements[element_i];
        uint32_t off = element->off;
        for (uint32_t k = 0; k < element->n_cells; k++) {
            const uint8_t *at = take(from, CELL_BYTES);
            uint32_t i = element->first_cell + k;
            if (k > 0)
                off++;
            doc->cells[i] = (struct doc_cell){
                .row = (uint16_t)get_u16(at),
                .col = (uint16_t)get_u16(at + 2),
                .row_span = (uint16_t)get_u16(at + 4),
                .col_span = (uint16_t)get_u16(at + 6),
                .header = at[8] == 1,
                .off = off,
                .len = get_u32(at + 9),
            };
            if (at[8] > 1 || !cell_is_good(doc, element, i))
                return bad(err, "cell", i);
            off += doc->cells[i].len;
        }
        if (element->n_cells > 0 && off != element->off + element->len)
            return bad(err, "cells of element", element_i);
    }
    return true;
}

static bool decode_outline(struct document *doc, struct cursor *from, struct error *err) {
    for (uint32_t i = 0; i < doc->n_outline; i++) {
        if (from->left < OUTLINE_MIN_BYTES)
            return bad(err, "bookmark", i);
        const uint8_t *at = take(from, 8);
        struct doc_outline *outline = &doc->outline[i];
        outline->level = get_u32(at);
        outline->page_i = get_u32(at + 4);
        if (outline->level > 255 ||
            (outline->page_i != DOC_NO_PAGE && outline->page_i >= doc->n_pages) ||
            !get_string(&outline->title, from, doc->arena, "bookmark", err))
            return bad(err, "bookmark", i);
    }
    return true;
}

static bool document_alloc(struct document *doc) {
    doc->text = arena_try(doc->arena, (size_t)doc->text_len + 1, 1);
    doc->pages = arena_try(doc->arena, (size_t)doc->n_pages + 1, sizeof *doc->pages);
    doc->elements = arena_try(doc->arena, (size_t)doc->n_elements + 1, sizeof *doc->elements);
    doc->words = arena_try(doc->arena, (size_t)doc->n_words + 1, sizeof *doc->words);
    doc->cells = arena_try(doc->arena, (size_t)doc->n_cells + 1, sizeof *doc->cells);
    doc->outline = arena_try(doc->arena, (size_t)doc->n_outline + 1, sizeof *doc->outline);
    return doc->text && doc->pages && doc->elements && doc->words && doc->cells && doc->outline;
}

bool doc_decode(struct document **out, const void *data, size_t len, struct error *err) {
    struct arena *arena = arena_new(0);
    struct document *doc = arena_alloc(arena, sizeof *doc);
    struct cursor from = {data, len};
    doc->arena = arena;
    if (!decode_header(doc, &from, err))
        goto fail;
    if (!document_alloc(doc)) {
        error_set(err, ERROR_LIMIT, "encoded document: no memory for %zu bytes", len);
        goto fail;
    }
    if (!decode_text(doc, &from, err) || !decode_pages(doc, &from, err) ||
        !decode_elements(doc, &from, err) || !decode_words(doc, &from, err) ||
        !decode_cells(doc, &from, err) || !decode_outline(doc, &from, err) ||
        !get_string(&doc->format, &from, arena, "format", err) ||
        !get_string(&doc->title, &from, arena, "title", err) ||
        !get_string(&doc->author, &from, arena, "author", err) ||
        !get_string(&doc->created, &from, arena, "created", err) ||
        !get_string(&doc->warning, &from, arena, "warning", err))
        goto fail;
    if (from.left > 0) {
        bad(err, "rest of length", from.left);
        goto fail;
    }
    *out = doc;
    return true;
fail:
    arena_free(arena);
    return false;
}

/* ---- a chunk's placed words ------------------------------------------------------------------ */

static uint8_t *put_unit(uint8_t *at, float value) {
    return put_u16(at, (uint32_t)lroundf(value * 65535.0f));
}

void doc_places_encode(struct buf *out, const struct doc_word *words, uint32_t n) {
    uint8_t head[4];
    put_u32(head, n);
    buf_append(out, head, sizeof head);
    for (uint32_t i = 0; i < n; i++) {
        const struct doc_word *word = &words[i];
        uint8_t record[PLACE_BYTES], *at = put_u32(record, word->off);
        assert(word->len <= UINT16_MAX);
        at = put_u16(at, word->len);
        at = put_u32(at, word->page_i);
        at = put_unit(put_unit(at, word->box.x0), word->box.y0);
        put_unit(put_unit(at, word->box.x1), word->box.y1);
        buf_append(out, record, sizeof record);
    }
}

bool doc_places_decode(struct doc_word **out, uint32_t *n, struct arena *arena, const void *data,
                       size_t len, struct error *err) {
    struct cursor from = {data, len};
    if (len < 4)
        return error_set(err, ERROR_INPUT, "placed words: %zu bytes", len);
    uint32_t count = get_u32(take(&from, 4));
    if (from.left % PLACE_BYTES != 0 || from.left / PLACE_BYTES != count)
        return error_set(err, ERROR_INPUT, "placed words: %u in %zu bytes", count, len);
    struct doc_word *words = arena_try(arena, (size_t)count + 1, sizeof *words);
    if (!words)
        return error_set(err, ERROR_LIMIT, "placed words: no memory for %u", count);
    uint64_t min_off = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = take(&from, PLACE_BYTES);
        struct doc_word *word = &words[i];
        word->off = get_u32(at);
        word->len = get_u16(at + 4);
        word->page_i = get_u32(at + 6);
        word->box = (struct doc_box){
            (float)get_u16(at + 10) / 65535.0f, (float)get_u16(at + 12) / 65535.0f,
            (float)get_u16(at + 14) / 65535.0f, (float)get_u16(at + 16) / 65535.0f};
        if (word->len == 0 || word->off < min_off || (uint64_t)word->off + word->len > UINT32_MAX ||
            word->page_i >= DOC_MAX_PAGES || word->box.x0 > word->box.x1 ||
            word->box.y0 > word->box.y1)
            return error_set(err, ERROR_INPUT, "placed words: bad word %u", i);
        min_off = (uint64_t)word->off + word->len;
    }
    *out = words;
    *n = count;
    return true;
}
