/* Paragraphs -> elements of the document. Words that a line's end has cut in two are joined; a list
 * item loses its marker; code keeps its lines and their indents. */
#include "read/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INDENT 60

/* Words of the document that are written with a hyphen, by hash: what a line's end parts at such a
 * hyphen keeps it. */
struct compounds {
    uint64_t *slots;
    size_t mask;
};

struct writer {
    struct layout *layout;
    struct doc_builder *builder;
    struct compounds compounds;
};

static bool is_hyphen(uint32_t c) {
    return c == '-' || c == 0x2010;
}

/* ---- compounds ------------------------------------------------------------------------------ */

#define HASH_START 0xcbf29ce484222325u

/* Letters and inner hyphens, folded; continues a hash, so that two halves can be put together. */
static uint64_t hash_letters(uint64_t hash, const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        uint32_t c = utf8_next(text, len, &at);
        if (is_hyphen(c))
            c = '-';
        else if (!text_is_word(c))
            continue;
        hash = (hash ^ (c >= 'A' && c <= 'Z' ? c + 32 : c)) * 0x100000001b3u;
    }
    return hash;
}

static bool has_inner_hyphen(const struct raw_word *word) {
    const char *hyphen = memchr(word->text, '-', word->len);
    return hyphen && hyphen > word->text && hyphen + 1 < word->text + word->len;
}

static void compounds_add(struct compounds *compounds, uint64_t hash) {
    size_t at = hash & compounds->mask;
    while (compounds->slots[at] != 0 && compounds->slots[at] != hash)
        at = (at + 1) & compounds->mask;
    compounds->slots[at] = hash;
}

static bool compounds_have(const struct compounds *compounds, uint64_t hash) {
    if (!compounds->slots)
        return false;
    for (size_t at = hash & compounds->mask; compounds->slots[at] != 0;
         at = (at + 1) & compounds->mask)
        if (compounds->slots[at] == hash)
            return true;
    return false;
}

static void find_compounds(struct compounds *compounds, const struct layout *layout) {
    const struct raw_pages *raw = layout->raw;
    size_t n = 0, n_slots = 64;
    for (size_t i = 0; i < raw->n_words; i++)
        n += has_inner_hyphen(&raw->words[i]);
    while (n_slots < n * 2)
        n_slots *= 2;
    compounds->slots = arena_try(layout->arena, n_slots, sizeof *compounds->slots);
    compounds->mask = n_slots - 1;
    for (size_t i = 0; compounds->slots && i < raw->n_words; i++)
        if (has_inner_hyphen(&raw->words[i]))
            compounds_add(compounds,
                          hash_letters(HASH_START, raw->words[i].text, raw->words[i].len));
}

/* ---- joins ---------------------------------------------------------------------------------- */

enum join { JOIN_SPACE, JOIN_NOTHING, JOIN_DROP_HYPHEN };

/* How the last word of a line and the first of the next are joined. */
static enum join line_join(const struct writer *writer, const struct raw_word *last,
                           const struct raw_word *next) {
    uint32_t end = layout_last_char(last), start = layout_first_char(next);
    if (text_is_cjk(end) && text_is_cjk(start) && !(start >= 0xAC00 && start <= 0xD7A3))
        return JOIN_NOTHING;
    if (!is_hyphen(end) || last->len < 2)
        return JOIN_SPACE;
    size_t before = last->len - (end == '-' ? 1 : 3), at = 0;
    uint32_t c = 0;
    while (at < before)
        c = utf8_next(last->text, before, &at);
    if (!text_is_word(c) || !text_is_word(start))
        return JOIN_SPACE;
    if (!layout_is_lower(start) || (c >= '0' && c <= '9'))
        return JOIN_NOTHING;
    uint64_t whole = hash_letters(HASH_START, last->text, last->len);
    whole = hash_letters(whole, next->text, next->len);
    return compounds_have(&writer->compounds, whole) ? JOIN_NOTHING : JOIN_DROP_HYPHEN;
}

static void put(struct writer *writer, const char *separator, const struct raw_word *word,
                size_t len) {
    doc_put(writer->builder, separator, word->text, len, word->page_i, &word->box);
}

/* A new line of code: its indent in characters of its own width. */
static const char *code_separator(char text[MAX_INDENT + 2], const struct line *line, float left) {
    int indent = (int)((line->box.x0 - left) / (0.6f * line->size) + 0.5f);
    if (indent < 0 || !(line->box.x0 - left < 1e6f))
        indent = 0;
    if (indent > MAX_INDENT)
        indent = MAX_INDENT;
    text[0] = '\n';
    memset(text + 1, ' ', (size_t)indent);
    text[1 + indent] = '\0';
    return text;
}

static float left_of(const struct layout *layout, const struct para *para) {
    float left = INFINITY;
    for (uint32_t i = 0; i < para->n; i++)
        left = fminf(left, layout->lines[para->first + i].box.x0);
    return left;
}

/* ---- elements ------------------------------------------------------------------------------- */

/* carry: the word at the end of what was written, whose line is over; NULL at the beginning. It is
 * put when what follows is known. */
static void write_lines(struct writer *writer, const struct para *para, bool item,
                        const struct raw_word **carry) {
    struct layout *layout = writer->layout;
    char indent[MAX_INDENT + 2];
    float left = left_of(layout, para);
    for (uint32_t i = 0; i < para->n; i++) {
        const struct line *line = &layout->lines[para->first + i];
        uint32_t first = item && i == 0 ? line->marker : 0;
        const char *separator = "";
        for (uint32_t k = first; k < line->n; k++) {
            const struct raw_word *word = layout_word(layout, line, k);
            if (k > first)
                separator = word->glued ? "" : " ";
            else if (para->kind == DOC_CODE && *carry)
                separator = code_separator(indent, line, left);
            else if (para->row && *carry)
                separator = "\n";
            else if (*carry) {
                enum join join = line_join(writer, *carry, word);
                separator = join == JOIN_SPACE ? " " : "";
            }
            bool drop = false;
            if (k + 1 == line->n && para->kind != DOC_CODE && !para->row) {
                const struct raw_word *next = NULL;
                if (i + 1 < para->n)
                    next = layout_word(layout, line + 1, 0);
                else if (para->next)
                    next = layout_word(layout, &layout->lines[layout->paras[para->next].first], 0);
                drop = next && line_join(writer, word, next) == JOIN_DROP_HYPHEN;
            }
            size_t hyphen = layout_last_char(word) == '-' ? 1 : 3;
            put(writer, separator, word, word->len - (drop ? hyphen : 0));
            *carry = word;
        }
    }
}

static void write_para(struct writer *writer, const struct para *para) {
    const struct raw_word *carry = NULL;
    bool item = para->kind == DOC_LIST_ITEM;
    doc_begin(writer->builder, para->kind, para->level, para->flags);
    write_lines(writer, para, item, &carry);
    while (para->next) {
        para = &writer->layout->paras[para->next];
        write_lines(writer, para, false, &carry);
    }
    doc_end(writer->builder);
}

void layout_write(struct layout *layout, struct read_task *task) {
    struct writer writer = {.layout = layout, .builder = task->builder};
    find_compounds(&writer.compounds, layout);
    for (uint32_t i = 0; i < layout->n_paras; i++)
        if (!layout->paras[i].continued)
            write_para(&writer, &layout->paras[i]);
}
