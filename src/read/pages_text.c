/* Structured text -> raw words. MuPDF gives characters in paint order, in lines it found by motion;
 * here they are cut into words at white space (and around every CJK character, so that a hit can be
 * shown by its own box), cleaned, and put into logical order where they were painted from left to
 * right although they read from right to left. */
#include "read/pages_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "read/layout.h"

#define POOL_BYTES ((size_t)64 << 10)
#define MAX_LINE_GLYPHS ((size_t)1 << 20)

struct glyph {
    uint32_t c;
    fz_rect box;
    float base_y, size;
    uint32_t style;
    bool space, zero_width, mark;
};

/* ---- the list ------------------------------------------------------------------------------- */

static bool grow(void **items, size_t *cap, size_t n, size_t item_size, size_t max) {
    if (n <= *cap)
        return true;
    size_t want = *cap ? *cap * 2 : 256;
    if (want < n)
        want = n;
    if (want > max)
        want = max;
    if (want < n)
        return false;
    void *grown = mem_try_grow(*items, want, item_size, max * item_size);
    if (!grown)
        return false;
    *items = grown;
    *cap = want;
    return true;
}

static const char *pool_copy(struct raw_list *list, const char *text, size_t len) {
    if (len + 1 > list->pool_left) {
        size_t size = len + 1 > POOL_BYTES ? len + 1 : POOL_BYTES;
        list->pool = arena_try(list->arena, size, 1);
        list->pool_left = list->pool ? size : 0;
        if (!list->pool)
            return NULL;
    }
    char *copy = list->pool;
    memcpy(copy, text, len);
    copy[len] = '\0';
    list->pool += len + 1;
    list->pool_left -= len + 1;
    return copy;
}

void raw_list_add(struct raw_list *list, const struct raw_word *word, const char *text,
                  size_t len) {
    if (list->failed || len == 0)
        return;
    if (!grow((void **)&list->words, &list->cap, list->n + 1, sizeof *list->words, RAW_MAX_WORDS)) {
        list->failed = true;
        return;
    }
    struct raw_word *added = &list->words[list->n];
    *added = *word;
    added->text = pool_copy(list, text, len);
    added->len = (uint32_t)len;
    if (!added->text) {
        list->failed = true;
        return;
    }
    list->n++;
}

bool raw_list_take(struct raw_pages *raw, struct raw_list *list) {
    raw->words = arena_try(list->arena, list->n + 1, sizeof *raw->words);
    if (!raw->words)
        return false;
    if (list->n > 0)
        memcpy(raw->words, list->words, list->n * sizeof *raw->words);
    raw->n_words = list->n;
    return true;
}

void raw_list_fini(struct raw_list *list) {
    mem_free(list->words);
    mem_free(list->glyphs);
    mem_free(list->order);
    memset(list, 0, sizeof *list);
}

struct doc_box pages_text_box(fz_rect rect, fz_rect bounds) {
    float width = bounds.x1 - bounds.x0, height = bounds.y1 - bounds.y0;
    struct doc_box box = {(rect.x0 - bounds.x0) / width, (rect.y0 - bounds.y0) / height,
                          (rect.x1 - bounds.x0) / width, (rect.y1 - bounds.y0) / height};
    float *edges[4] = {&box.x0, &box.y0, &box.x1, &box.y1};
    for (int i = 0; i < 4; i++)
        *edges[i] = *edges[i] > 0 ? fminf(*edges[i], 1.0f) : 0.0f;
    if (box.x1 < box.x0)
        box.x1 = box.x0;
    if (box.y1 < box.y0)
        box.y1 = box.y0;
    return box;
}

/* ---- characters ----------------------------------------------------------------------------- */

static bool name_has(const char *name, const char *const *parts, size_t n_parts) {
    for (size_t i = 0; i < n_parts; i++) {
        size_t len = strlen(parts[i]);
        for (const char *at = name; *at; at++) {
            size_t j = 0;
            while (j < len && (at[j] | 32) == parts[i][j])
                j++;
            if (j == len)
                return true;
        }
    }
    return false;
}

/* Flags first, then the names: fonts made by TeX carry no flags. */
static uint32_t font_style(fz_context *ctx, fz_font *font) {
    static const char *const bold[] = {"bold", "black", "heavy", "cmbx", "sfbx", "demi"};
    static const char *const italic[] = {"italic", "oblique", "cmti", "sfti", "cmsl"};
    static const char *const mono[] = {"mono", "courier", "cmtt", "sftt", "consol", "typewriter"};
    uint32_t style = 0;
    const char *name = font ? fz_font_name(ctx, font) : "";
    if (!font)
        return 0;
    if (fz_font_is_bold(ctx, font) || name_has(name, bold, BASE_COUNT(bold)))
        style |= RAW_BOLD;
    if (fz_font_is_italic(ctx, font) || name_has(name, italic, BASE_COUNT(italic)))
        style |= RAW_ITALIC;
    if (fz_font_is_monospaced(ctx, font) || name_has(name, mono, BASE_COUNT(mono)))
        style |= RAW_MONO;
    return style;
}

static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF;
}

bool pages_text_is_unmapped(uint32_t c) {
    return c == 0xFFFD || (c >= 0xE000 && c <= 0xF8FF) || c >= 0xF0000;
}

static bool is_rtl_mark(uint32_t c) {
    return (c >= 0x0591 && c <= 0x05BD) || c == 0x05BF || c == 0x05C1 || c == 0x05C2 ||
           (c >= 0x0610 && c <= 0x061A) || (c >= 0x064B && c <= 0x065F) || c == 0x0670 ||
           (c >= 0x06D6 && c <= 0x06DC);
}

/* The character's Unicode value for us, or 0 to drop it. */
static uint32_t clean_char(int value, float width, float size) {
    uint32_t c = (uint32_t)value;
    if (value <= 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF) || (c & 0xFFFE) == 0xFFFE)
        return value == 0 ? 0 : 0xFFFD;
    if (c == '\t' || c == '\n' || c == '\r' || c == 0x0B || c == 0x0C)
        return ' ';
    if (c == 0xAD)
        return width > 0.1f * size ? '-' : 0; /* one that is drawn is a hyphen */
    return is_control(c) ? 0 : c;
}

static bool read_glyph(struct glyph *out, const fz_stext_char *from, uint32_t style) {
    fz_rect box = fz_rect_from_quad(from->quad);
    float width = box.x1 - box.x0;
    if (!(isfinite(box.x0) && isfinite(box.y0) && isfinite(box.x1) && isfinite(box.y1)))
        return false;
    uint32_t c = clean_char(from->c, width, from->size);
    if (c == 0)
        return false;
    *out = (struct glyph){.c = c,
                          .box = box,
                          .base_y = from->origin.y,
                          .size = from->size,
                          .style = style,
                          .space = text_is_space(c),
                          .zero_width = width < 0.02f * from->size,
                          .mark = is_rtl_mark(c)};
    return true;
}

/* The line's characters that stand on the page, in list->glyphs. */
static void read_line_glyphs(struct raw_list *list, const fz_stext_line *line, fz_context *ctx,
                             fz_rect bounds) {
    fz_font *font = NULL;
    uint32_t style = 0;
    list->n_glyphs = 0;
    for (const fz_stext_char *c = line->first_char; c; c = c->next) {
        if (!grow((void **)&list->glyphs, &list->glyphs_cap, list->n_glyphs + 1,
                  sizeof *list->glyphs, MAX_LINE_GLYPHS)) {
            list->failed = true;
            return;
        }
        if (c->font != font || c == line->first_char) {
            font = c->font;
            style = font_style(ctx, font);
        }
        struct glyph *glyph = &list->glyphs[list->n_glyphs];
        if (!read_glyph(glyph, c, style))
            continue;
        if (glyph->box.x1 < bounds.x0 || glyph->box.x0 > bounds.x1 || glyph->box.y1 < bounds.y0 ||
            glyph->box.y0 > bounds.y1)
            continue;
        list->n_glyphs++;
    }
}

/* ---- right to left ----------------------------------------------------------------------------
 */

/* Whether glyphs stand in the order they are seen from the left, although they read from the
 * right. */
static bool is_visual_rtl(const struct glyph *glyphs, size_t n) {
    size_t forward = 0, backward = 0, n_rtl = 0;
    const struct glyph *last = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!layout_is_rtl(glyphs[i].c) || glyphs[i].mark)
            continue;
        n_rtl++;
        if (last && !glyphs[i].zero_width) {
            if (glyphs[i].box.x0 > last->box.x0)
                forward++;
            else
                backward++;
        }
        if (!glyphs[i].zero_width)
            last = &glyphs[i];
    }
    return n_rtl > 1 && forward > backward;
}

/* What belongs together when a word is turned round: a base character, the parts of the ligature it
 * was drawn with (no width of their own), its marks. Returns the cluster's end. */
static size_t cluster_end(const struct glyph *glyphs, size_t from, size_t n) {
    size_t end = from;
    while (end < n && glyphs[end].mark) /* painted before their base */
        end++;
    if (end == n)
        return n;
    const struct glyph *base = &glyphs[end++];
    while (end < n && (glyphs[end].zero_width || glyphs[end].mark) &&
           (!glyphs[end].mark || glyphs[end].box.x0 < base->box.x1 - 0.01f * base->size))
        end++;
    return end;
}

static size_t put_cluster(char *out, size_t at, const struct glyph *glyphs, size_t from,
                          size_t end) {
    for (int marks = 0; marks < 2; marks++)
        for (size_t i = from; i < end; i++)
            if (glyphs[i].mark == (marks == 1))
                at += utf8_put(out + at, glyphs[i].c);
    return at;
}

/* The word turned round into out; runs that read from the left (Latin, digits) keep their order. */
static size_t put_visual_rtl(char *out, const struct glyph *glyphs, size_t n) {
    size_t starts[RAW_MAX_WORD_BYTES / 4 + 1], n_clusters = 0, at = 0;
    for (size_t i = 0; i < n; n_clusters++) {
        starts[n_clusters] = i;
        i = cluster_end(glyphs, i, n);
    }
    starts[n_clusters] = n;
    for (size_t k = n_clusters; k > 0;) {
        size_t first = k - 1;
        if (text_is_word(glyphs[starts[first]].c) && !layout_is_rtl(glyphs[starts[first]].c))
            while (first > 0 && !layout_is_rtl(glyphs[starts[first - 1]].c) &&
                   text_is_word(glyphs[starts[first - 1]].c))
                first--;
        for (size_t i = first; i < k; i++)
            at = put_cluster(out, at, glyphs, starts[i], starts[i + 1]);
        k = first;
    }
    return at;
}

/* ---- words ---------------------------------------------------------------------------------- */

struct word_place {
    uint32_t page_i, line, block, style;
    fz_rect bounds;
};

static void add_word(struct raw_list *list, struct text_tally *tally, const struct glyph *glyphs,
                     size_t n, bool glued, const struct word_place *place) {
    char text[RAW_MAX_WORD_BYTES + 8];
    size_t len = 0;
    fz_rect box = glyphs[0].box;
    float size = 0;
    uint32_t style = RAW_BOLD | RAW_ITALIC | RAW_MONO;
    for (size_t i = 0; i < n; i++) {
        box = fz_union_rect(box, glyphs[i].box);
        size = fmaxf(size, glyphs[i].size);
        style &= glyphs[i].style;
        tally->n_unmapped += pages_text_is_unmapped(glyphs[i].c);
    }
    if (is_visual_rtl(glyphs, n))
        len = put_visual_rtl(text, glyphs, n);
    else
        for (size_t i = 0; i < n; i++)
            len += utf8_put(text + len, glyphs[i].c);
    struct raw_word word = {.page_i = place->page_i,
                            .line = place->line,
                            .block = place->block,
                            .box = pages_text_box(box, place->bounds),
                            .size_pt = size,
                            .style = style | place->style,
                            .glued = glued};
    raw_list_add(list, &word, text, len);
    tally->n_words++;
    tally->n_chars += n;
}

static bool is_raised(const struct glyph *small, const struct glyph *normal) {
    return small->size < 0.85f * normal->size &&
           small->base_y < normal->base_y - 0.1f * normal->size;
}

/* Whether a new word begins at glyphs[i] although no white space is before it; *glued says whether
 * it still belongs to the one before. A raised number after a word is a note's mark, after anything
 * shorter an exponent. */
static bool word_breaks(bool *glued, const struct glyph *glyphs, size_t first, size_t i) {
    const struct glyph *last = &glyphs[i - 1], *next = &glyphs[i];
    *glued = true;
    if (i - first >= RAW_MAX_WORD_BYTES / 4)
        return true;
    if (text_is_cjk(last->c) || text_is_cjk(next->c))
        return text_is_word(next->c) || !text_is_cjk(last->c);
    if (next->zero_width)
        return false;
    if (is_raised(next, last)) {
        bool mark = (next->c >= '0' && next->c <= '9') || next->c == '*' || next->c == 0x2020;
        *glued = !(mark && (i - first >= 3 || !text_is_word(last->c)));
        return true;
    }
    return is_raised(last, next);
}

static void put_line_in_order(struct raw_list *list, size_t first) {
    size_t n = list->n - first;
    if (n < 2 || !layout_words_rtl(list->words + first, NULL, n))
        return;
    if (!grow((void **)&list->order, &list->order_cap, n, sizeof *list->order, RAW_MAX_WORDS))
        return;
    for (size_t i = 0; i < n; i++)
        list->order[i] = (uint32_t)i;
    layout_order_rtl(list->words + first, list->order, n);
    struct raw_word *sorted = mem_try(n, sizeof *sorted, RAW_MAX_WORDS * sizeof *sorted);
    if (!sorted)
        return;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = list->words[first + list->order[i]];
        sorted[i].glued = false;
    }
    memcpy(list->words + first, sorted, n * sizeof *sorted);
    mem_free(sorted);
}

static void read_line(struct raw_list *list, struct text_tally *tally, const fz_stext_line *line,
                      fz_context *ctx, struct word_place *place) {
    size_t first_word = list->n, i = 0;
    bool vertical = line->wmode == 1 || fabsf(line->dir.x) < fabsf(line->dir.y);
    read_line_glyphs(list, line, ctx, place->bounds);
    place->line = list->n_lines++;
    place->style = vertical ? RAW_VERTICAL : 0;
    const struct glyph *glyphs = list->glyphs;
    size_t n = list->n_glyphs;
    bool glued = false;
    while (i < n) {
        if (glyphs[i].space) {
            glued = false;
            i++;
            continue;
        }
        size_t end = i + 1;
        bool next_glued = false;
        while (end < n && !glyphs[end].space && !word_breaks(&next_glued, glyphs, i, end))
            end++;
        add_word(list, tally, glyphs + i, end - i, glued, place);
        glued = end < n && !glyphs[end].space && next_glued;
        i = end;
    }
    put_line_in_order(list, first_word);
}

static double area_share(fz_rect rect, fz_rect bounds) {
    fz_rect seen = fz_intersect_rect(rect, bounds);
    double area = (double)(bounds.x1 - bounds.x0) * (double)(bounds.y1 - bounds.y0);
    if (fz_is_empty_rect(seen) || !(area > 0))
        return 0;
    return (double)(seen.x1 - seen.x0) * (double)(seen.y1 - seen.y0) / area;
}

void pages_text_read(struct raw_list *list, struct text_tally *tally, const fz_stext_page *text,
                     fz_context *ctx, fz_rect bounds, uint32_t page_i) {
    struct word_place place = {.page_i = page_i, .bounds = bounds};
    for (const fz_stext_block *block = text->first_block; block; block = block->next) {
        if (block->type == FZ_STEXT_BLOCK_IMAGE) {
            tally->image_share += area_share(block->bbox, bounds);
            continue;
        }
        place.block = list->n_blocks++;
        for (const fz_stext_line *line = block->u.t.first_line; line && !list->failed;
             line = line->next)
            read_line(list, tally, line, ctx, &place);
    }
    if (!(tally->image_share < 1))
        tally->image_share = 1;
}

void pages_text_plain(struct raw_list *list, const char *text, uint32_t page_i, struct doc_box box,
                      uint32_t style) {
    size_t len = strlen(text), at = 0, start = 0;
    struct raw_word word = {.page_i = page_i,
                            .line = list->n_lines++,
                            .block = list->n_blocks++,
                            .box = box,
                            .size_pt = 0,
                            .style = style};
    while (at < len) {
        size_t before = at;
        uint32_t c = utf8_next(text, len, &at);
        bool ends = text_is_space(c) || is_control(c);
        if (ends || at - start >= RAW_MAX_WORD_BYTES) {
            raw_list_add(list, &word, text + start, (ends ? before : at) - start);
            word.glued = !ends;
            start = at;
        }
    }
    raw_list_add(list, &word, text + start, len - start);
}
