/* A flow's elements, with the places that flow_match.c found for their words.
 *
 * The flow is right about text and structure, the pages about places. Numbers and bullets that the
 * pages put before list items are known by where they stand. What no element took goes to
 * read_layout: no word of a page is lost. */
#include <string.h>

#include "read/flow_place.h"

#define MAX_LABEL_SIGNS 24

/* A part of a flow's word and where it stands; raw UINT32_MAX: nowhere. */
struct part {
    uint32_t off, len;
    uint32_t raw;
    float from, to; /* of the raw word's width */
};
/* ---- parts of a word ----------------------------------------------------------------------- */

/* The byte of a word's text at which `folded` bytes of it, from `off` on, have been folded. */
static uint32_t unfold(const struct word *word, uint32_t off, uint32_t folded) {
    size_t pos = off;
    uint32_t n_bytes = 0;
    while (pos < word->len && n_bytes < folded) {
        uint32_t out[TEXT_FOLD_MAX];
        char utf8[4];
        size_t n = align_fold(out, utf8_next(word->text, word->len, &pos));
        for (size_t i = 0; i < n; i++)
            n_bytes += (uint32_t)utf8_put(utf8, out[i]);
    }
    return (uint32_t)pos;
}

static void add_part(struct place *place, size_t *n, uint32_t off, uint32_t len, uint32_t token) {
    const struct align_token *raw = &place->align.raw.tokens[token];
    float whole = (float)place->raw->words[raw->word].len;
    struct part part = {.off = off,
                        .len = len,
                        .raw = raw->word,
                        .from = (float)raw->off / whole,
                        .to = (float)(raw->off + raw->len) / whole};
    if (*n > 0 && place->parts[*n - 1].raw == part.raw) {
        struct part *last = &place->parts[*n - 1];
        last->len = off + len - last->off;
        last->to = part.to;
        return;
    }
    if (*n == place->cap_parts) {
        size_t cap = place->cap_parts == 0 ? 64 : place->cap_parts * 2;
        struct part *grown = mem_try_grow(place->parts, cap, sizeof(*grown), PLACE_MAX_BYTES);
        if (grown == NULL)
            return;
        place->parts = grown;
        place->cap_parts = cap;
    }
    place->parts[(*n)++] = part;
}

/* The raw tokens of a span lie one after another over its flow tokens' folded bytes; those that lie
 * over this flow token are its parts. */
static void add_span_parts(struct place *place, size_t *n, const struct word *word, uint32_t token,
                           const struct align_span *span) {
    const struct align_side *flow = &place->align.flow, *raw = &place->align.raw;
    const struct align_token *mine = &flow->tokens[token];
    if (span->n_flow == 1 && span->n_raw == 1) {
        add_part(place, n, mine->off, mine->len, span->raw);
        return;
    }
    uint32_t before = 0, total = 0;
    for (uint32_t t = span->flow; t < token; t++)
        before += flow->tokens[t].fold_len;
    for (uint32_t t = 0; t < span->n_flow; t++)
        total += flow->tokens[span->flow + t].fold_len;
    uint32_t at = 0;
    for (uint32_t t = 0; t < span->n_raw; t++) {
        uint32_t len = raw->tokens[span->raw + t].fold_len;
        const char *text = raw->folded.data + raw->tokens[span->raw + t].fold_off;
        bool last = t + 1 == span->n_raw;
        /* A hyphen that the page added has no letter of the flow under it. */
        if (!last && text[len - 1] == '-' &&
            flow->folded.data[flow->tokens[span->flow].fold_off + at + len - 1] != '-')
            len--;
        uint32_t from = at > before ? at - before : 0;
        uint32_t end = last ? total : at + len;
        uint32_t to = end > before ? end - before : 0;
        to = to > mine->fold_len ? mine->fold_len : to;
        if (from < to) {
            uint32_t off = from == 0 ? mine->off : unfold(word, mine->off, from);
            uint32_t stop = to == mine->fold_len ? mine->off + mine->len
                                                 : unfold(word, mine->off, to);
            if (stop > off)
                add_part(place, n, off, stop - off, span->raw + t);
        }
        at += len;
    }
}

/* The parts of a word, covering all of it in order; one without a place where it has none. */
static size_t parts_of(struct place *place, const struct word *word) {
    size_t n = 0;
    for (uint32_t t = word->token; t < word->token + word->n_tokens; t++) {
        int32_t number = place->align.flow.match[t];
        if (number >= 0)
            add_span_parts(place, &n, word, t, &place->align.spans[number]);
    }
    for (size_t i = 0; i < n; i++) {
        struct part *part = &place->parts[i];
        uint32_t end = i + 1 < n ? place->parts[i + 1].off : word->len;
        if (i == 0) {
            part->len += part->off;
            part->off = 0;
        }
        part->len = end - part->off;
    }
    return n;
}

static void put_word(struct place *place, const struct word *word, const char *separator) {
    struct doc_builder *builder = place->task->builder;
    size_t n = parts_of(place, word);
    if (n == 0)
        doc_put(builder, separator, word->text, word->len, DOC_NO_PAGE, NULL);
    for (size_t i = 0; i < n; i++) {
        const struct part *part = &place->parts[i];
        const struct raw_word *raw = &place->raw->words[part->raw];
        struct doc_box box = raw->box;
        bool upright = (raw->style & RAW_VERTICAL) != 0;
        float size = upright ? raw->box.y1 - raw->box.y0 : raw->box.x1 - raw->box.x0;
        if (upright) {
            box.y0 = raw->box.y0 + size * part->from;
            box.y1 = raw->box.y0 + size * part->to;
        } else {
            box.x0 = raw->box.x0 + size * part->from;
            box.x1 = raw->box.x0 + size * part->to;
        }
        doc_put(builder, i == 0 ? separator : "", word->text + part->off, part->len, raw->page_i,
                &box);
    }
}

/* A later page's copy of a header or footer, marked as repeated. */
static void write_repeated(struct place *place, enum doc_element_kind kind, const uint32_t *hits,
                           size_t n) {
    struct doc_builder *builder = place->task->builder;
    uint32_t last = UINT32_MAX;
    doc_begin(builder, kind, 0, DOC_REPEATED);
    for (size_t i = 0; i < n; i++) {
        if (hits[i] == UINT32_MAX)
            continue;
        uint32_t number = place->align.raw.tokens[hits[i]].word;
        if (number == last)
            continue;
        const struct raw_word *word = &place->raw->words[number];
        bool joined = last != UINT32_MAX && word->glued && number == last + 1;
        doc_put(builder, last == UINT32_MAX || joined ? "" : " ", word->text, word->len,
                word->page_i, &word->box);
        last = number;
    }
    doc_end(builder);
}

/* ---- labels -------------------------------------------------------------------------------- */

/* "1.", "a)", "IV.", "2.3.1", a bullet: what stands before a list item and is no word of it. */
static bool is_label(const struct raw_word *word, bool ordered) {
    size_t pos = 0, n = 0;
    bool digit = false;
    uint32_t first = 0, last = 0;
    while (pos < word->len) {
        last = utf8_next(word->text, word->len, &pos);
        first = n == 0 ? last : first;
        digit = digit || (last >= '0' && last <= '9');
        n++;
    }
    bool letter = (last >= 'a' && last <= 'z') || (last >= 'A' && last <= 'Z');
    if (n == 1 && (!letter || (last == 'o' && !ordered))) /* Word's hollow bullet is an 'o' */
        return true;
    return n <= MAX_LABEL_SIGNS &&
           (last == '.' || last == ')' || last == ':' || first == '(' || digit);
}

/* The raw word that this word begins with, or UINT32_MAX. */
static uint32_t first_place(const struct place *place, const struct word *word) {
    if (word->n_tokens == 0 || place->align.flow.match[word->token] < 0)
        return UINT32_MAX;
    const struct align_span *span = &place->align.spans[place->align.flow.match[word->token]];
    return span->flow == word->token ? place->align.raw.tokens[span->raw].word : UINT32_MAX;
}

/* The number or bullet that the page shows before this word is taken, unless it was already. A
 * heading shows its number: then it is written. */
static void take_label(struct place *place, const struct word *word, bool write, bool ordered,
                       const char **separator) {
    enum { MAX_WORDS = 2 };
    uint32_t first = first_place(place, word), from;
    if (first == UINT32_MAX)
        return;
    const struct raw_word *text = &place->raw->words[first];
    for (from = first; from > 0 && first - from < MAX_WORDS; from--) {
        const struct raw_word *label = &place->raw->words[from - 1];
        float middle = (label->box.y0 + label->box.y1) / 2;
        if (place->claimed[from - 1] || label->page_i != text->page_i || middle < text->box.y0 ||
            middle > text->box.y1 || !is_label(label, ordered))
            break;
    }
    for (; from < first; from++) {
        const struct raw_word *label = &place->raw->words[from];
        place->claimed[from] = 1;
        if (!write)
            continue;
        doc_put(place->task->builder, *separator, label->text, label->len, label->page_i,
                &label->box);
        *separator = " ";
    }
}

/* A sign of no language: what is left of bullets is no word. */
static bool is_bullet(const struct raw_word *word) {
    size_t pos = 0;
    while (pos < word->len) {
        uint32_t c = utf8_next(word->text, word->len, &pos);
        bool bullet = (c >= 0xE000 && c <= 0xF8FF) || c == 0x2022 || c == 0x25E6 || c == 0xB7 ||
                      (c >= 0x25A0 && c <= 0x25FF) || c == 0x2023 || c == 0x2043 || c == 0x2219;
        if (!bullet)
            return false;
    }
    return true;
}

/* ---- elements ------------------------------------------------------------------------------ */

/* One text's words, with the white space between them: as it stands in code, else a space or a line
 * break. */
static void put_text(struct place *place, const char *text, bool verbatim, bool in_cell,
                     const char *first) {
    size_t len = strlen(text), end = 0;
    char spaces[256];
    for (size_t pos = place_pass_space(text, len, 0); pos < len;
         pos = place_pass_space(text, len, end)) {
        size_t gap = pos - end;
        const char *separator = end == 0 ? first : " ";
        if (verbatim && gap < sizeof(spaces)) {
            memcpy(spaces, text + end, gap);
            spaces[gap] = '\0';
            separator = spaces;
        } else if (end > 0 && memchr(text + end, '\n', gap) != NULL) {
            separator = "\n";
        }
        bool line = end == 0 || *separator == '\n';
        end = place_pass_word(text, len, pos);
        if (in_cell && line && !place->failed)
            take_label(place, &place->words[place->at], false, false, &separator);
        if (place->failed)
            doc_put(place->task->builder, separator, text + pos, end - pos, DOC_NO_PAGE, NULL);
        else
            put_word(place, &place->words[place->at++], separator);
    }
}

static void write_item(struct place *place, size_t i) {
    const struct flow_item *item = &place->flow->items[i];
    struct doc_builder *builder = place->task->builder;
    const char *separator = "";
    place->at = place->failed ? 0 : place->item_words[i];
    doc_begin(builder, item->kind, item->level, item->flags & (unsigned)~FLOW_UNSEEN);
    bool worded = !place->failed && place->item_words[i] < place->item_words[i + 1];
    if (worded && (item->kind == DOC_LIST_ITEM || item->kind == DOC_HEADING))
        take_label(place, &place->words[place->at], item->kind == DOC_HEADING,
                   (item->flags & DOC_ORDERED) != 0, &separator);
    if (item->kind != DOC_TABLE)
        put_text(place, item->text, item->kind == DOC_CODE, false, separator);
    for (size_t k = 0; item->kind == DOC_TABLE && k < item->n_cells; k++) {
        const struct flow_cell *cell = &item->cells[k];
        doc_cell(builder, cell->row, cell->col, cell->row_span, cell->col_span, cell->header);
        put_text(place, cell->text, false, true, "");
    }
    doc_end(builder);
}

static void write_rest(struct place *place) {
    const struct raw_pages *raw = place->raw;
    struct raw_pages rest = *raw;
    size_t n = 0;
    for (size_t i = 0; i < raw->n_words; i++) {
        place->claimed[i] = place->claimed[i] || is_bullet(&raw->words[i]);
        n += !place->claimed[i];
    }
    rest.words = arena_try(place->task->arena, n == 0 ? 1 : n, sizeof(*rest.words));
    if (n == 0 || rest.words == NULL)
        return;
    rest.n_words = 0;
    for (size_t i = 0; i < raw->n_words; i++) {
        if (place->claimed[i])
            continue;
        rest.words[rest.n_words] = raw->words[i];
        if (i > 0 && place->claimed[i - 1])
            rest.words[rest.n_words].glued = false;
        rest.n_words++;
    }
    read_layout(place->task, &rest);
}

void flow_place(struct read_task *task, const struct flow *flow, const struct raw_pages *raw) {
    struct place place = {.task = task, .flow = flow, .raw = raw};
    struct doc_builder *builder = task->builder;
    if (flow->title != NULL)
        doc_set_meta(builder, "title", flow->title);
    if (flow->author != NULL)
        doc_set_meta(builder, "author", flow->author);
    if (flow->created != NULL)
        doc_set_meta(builder, "created", flow->created);
    if (flow->full)
        doc_set_meta(builder, "warning", "only the beginning of a very large text was read");
    if (task->format == FORMAT_PPTX || task->format == FORMAT_XLSX)
        doc_set_slides(builder);
    place.failed = !place_prepare(&place);
    if (place.failed)
        doc_set_meta(builder, "warning", "too large to find its words on the pages");
    else
        place_match(&place);
    for (size_t i = 0; i < flow->n_items; i++)
        write_item(&place, i);
    for (size_t i = 0; i < place.copies.n; i++)
        write_repeated(&place, place.copies.items[i]->kind, place.copies.items[i]->hits,
                       place.copies.items[i]->n);
    if (!place.failed)
        write_rest(&place);
    mem_free(place.copies.items);
    mem_free(place.words);
    mem_free(place.item_words);
    mem_free(place.raw_tokens);
    mem_free(place.claimed);
    mem_free(place.parts);
    align_fini(&place.align);
}
