/* Places on the pages for a flow's words, and the flow's elements with them.
 *
 * The flow is right about text and structure, the pages about places. align.c finds which words are
 * which, first along the whole (or a slide at a time), then among what both sides have left: that
 * finds what the pages show elsewhere than the file has it (footnotes, text boxes, the columns of a
 * wide sheet). Headers and footers are looked for at the edges of every page. Numbers and bullets
 * that the pages put before list items are known by where they stand. What no element took goes to
 * read_layout: no word of a page is lost. */
#include <string.h>

#include "read/align.h"
#include "read/flow.h"

#define MAX_BYTES ((size_t)1 << 30)
#define MAX_ROUNDS 12
#define EDGE 0.25f        /* of the page: where headers and footers may stand */
#define EDGE_WORDS 120    /* looked at there */
#define MAX_LABEL_BYTES 24

/* One word of a flow's item or cell. */
struct word {
    const char *text;
    uint32_t len;
    uint32_t item;
    uint32_t token, n_tokens;
};
/* A part of a flow's word and where it stands; raw UINT32_MAX: nowhere. */
struct part {
    uint32_t off, len;
    uint32_t raw;
    float from, to; /* of the raw word's width */
};
struct place {
    struct read_task *task;
    const struct flow *flow;
    const struct raw_pages *raw;
    struct align align;
    struct word *words;
    size_t n_words, cap_words;
    uint32_t *item_words; /* an item: its first word; one more at the end */
    uint32_t *raw_tokens; /* a raw word: its first token; one more at the end */
    uint8_t *claimed;     /* raw words that are in an element */
    struct part *parts;   /* scratch: of one word */
    size_t cap_parts;
    size_t at; /* the next word to write */
    bool failed;
};

static bool is_furniture(const struct flow_item *item)
{
    return item->kind == DOC_PAGE_HEADER || item->kind == DOC_PAGE_FOOTER;
}

/* ---- words ------------------------------------------------------------------------------------ */

static size_t pass_space(const char *text, size_t len, size_t pos)
{
    while (pos < len) {
        size_t next = pos;
        if (!text_is_space(utf8_next(text, len, &next)))
            break;
        pos = next;
    }
    return pos;
}

static size_t pass_word(const char *text, size_t len, size_t pos)
{
    while (pos < len) {
        size_t next = pos;
        if (text_is_space(utf8_next(text, len, &next)))
            break;
        pos = next;
    }
    return pos;
}

static void add_words(struct place *place, uint32_t item, const char *text)
{
    size_t len = strlen(text);
    for (size_t pos = pass_space(text, len, 0); pos < len && !place->failed;) {
        size_t end = pass_word(text, len, pos);
        if (place->n_words == place->cap_words) {
            size_t cap = place->cap_words == 0 ? 256 : place->cap_words * 2;
            struct word *grown = mem_try_grow(place->words, cap, sizeof(*grown), MAX_BYTES * 2);
            if (grown == NULL) {
                place->failed = true;
                return;
            }
            place->words = grown;
            place->cap_words = cap;
        }
        struct word *word = &place->words[place->n_words];
        *word = (struct word){.text = text + pos,
                              .len = (uint32_t)(end - pos),
                              .item = item,
                              .token = (uint32_t)place->align.flow.n};
        align_add_word(&place->align, &place->align.flow, (uint32_t)place->n_words, word->text,
                       word->len);
        word->n_tokens = (uint32_t)place->align.flow.n - word->token;
        place->n_words++;
        pos = pass_space(text, len, end);
    }
}

static bool prepare(struct place *place)
{
    const struct flow *flow = place->flow;
    const struct raw_pages *raw = place->raw;
    place->item_words = mem_try(flow->n_items + 1, sizeof(uint32_t), MAX_BYTES);
    place->raw_tokens = mem_try(raw->n_words + 1, sizeof(uint32_t), MAX_BYTES);
    place->claimed = mem_try(raw->n_words + 1, 1, MAX_BYTES);
    if (place->item_words == NULL || place->raw_tokens == NULL || place->claimed == NULL)
        return false;
    for (size_t i = 0; i < flow->n_items; i++) {
        place->item_words[i] = (uint32_t)place->n_words;
        const struct flow_item *item = &flow->items[i];
        if (item->kind != DOC_TABLE)
            add_words(place, (uint32_t)i, item->text);
        for (size_t k = 0; item->kind == DOC_TABLE && k < item->n_cells; k++)
            add_words(place, (uint32_t)i, item->cells[k].text);
    }
    place->item_words[flow->n_items] = (uint32_t)place->n_words;
    for (size_t i = 0; i < raw->n_words; i++) {
        place->raw_tokens[i] = (uint32_t)place->align.raw.n;
        align_add_word(&place->align, &place->align.raw, (uint32_t)i, raw->words[i].text,
                       raw->words[i].len);
    }
    place->raw_tokens[raw->n_words] = (uint32_t)place->align.raw.n;
    return !place->failed && align_begin(&place->align);
}

/* ---- matching --------------------------------------------------------------------------------- */

struct list {
    uint32_t *items;
    size_t n;
};

/* Unmatched tokens of the items that pages show: all, or one slide's. */
static void list_flow(struct list *out, const struct place *place, int slide)
{
    out->n = 0;
    const struct align_side *side = &place->align.flow;
    for (size_t i = 0; i < side->n; i++) {
        const struct flow_item *item = &place->flow->items[place->words[side->tokens[i].word].item];
        if (side->match[i] >= 0 || (item->flags & FLOW_UNSEEN) != 0)
            continue;
        if (slide >= 0 ? item->page_hint != slide : is_furniture(item))
            continue;
        out->items[out->n++] = (uint32_t)i;
    }
}

static void list_raw(struct list *out, const struct place *place, size_t from, size_t to)
{
    out->n = 0;
    const struct align_side *side = &place->align.raw;
    for (size_t i = place->raw_tokens[from]; i < place->raw_tokens[to]; i++) {
        if (side->match[i] < 0)
            out->items[out->n++] = (uint32_t)i;
    }
}

/* Rounds over what is left, while they find more than a little. */
static void match_rest(struct place *place, struct list *f, struct list *r)
{
    for (int round = 0; round < MAX_ROUNDS; round++) {
        list_flow(f, place, -1);
        list_raw(r, place, 0, place->raw->n_words);
        size_t n = f->n == 0 || r->n == 0
                       ? 0
                       : align_match(&place->align, f->items, f->n, r->items, r->n, true);
        if (n < 3 || n < f->n / 200)
            break;
    }
}

/* Slide by slide where the pages are the slides shown. False where they are not. */
static bool match_slides(struct place *place, struct list *f, struct list *r)
{
    uint32_t n_slides = 0;
    for (size_t i = 0; i < place->flow->n_items; i++) {
        int hint = place->flow->items[i].page_hint;
        if (hint >= 0 && (uint32_t)hint + 1 > n_slides)
            n_slides = (uint32_t)hint + 1;
    }
    const struct raw_pages *raw = place->raw;
    if (n_slides > raw->n_pages) /* slides at the end may be empty; there are never fewer pages */
        return false;
    /* The flow's tokens come slide by slide: one pass lists them, the page's words likewise. */
    const struct align_side *side = &place->align.flow;
    size_t token = 0, from = 0;
    while (token < side->n) {
        const struct flow_item *item =
            &place->flow->items[place->words[side->tokens[token].word].item];
        int slide = item->page_hint;
        bool seen = (item->flags & FLOW_UNSEEN) == 0 && slide >= 0;
        f->n = 0;
        for (; token < side->n; token++) {
            item = &place->flow->items[place->words[side->tokens[token].word].item];
            if (item->page_hint != slide)
                break;
            if ((item->flags & FLOW_UNSEEN) == 0)
                f->items[f->n++] = (uint32_t)token;
        }
        seen = seen || f->n > 0;
        if (!seen || slide < 0)
            continue;
        while (from < raw->n_words && raw->words[from].page_i < (uint32_t)slide)
            from++;
        size_t to = from;
        while (to < raw->n_words && raw->words[to].page_i == (uint32_t)slide)
            to++;
        for (int round = 0; round < 3; round++) {
            size_t kept = 0;
            for (size_t i = 0; i < f->n; i++) {
                if (side->match[f->items[i]] < 0)
                    f->items[kept++] = f->items[i];
            }
            f->n = kept;
            list_raw(r, place, from, to);
            if (f->n > 0 && r->n > 0)
                align_match(&place->align, f->items, f->n, r->items, r->n, false);
        }
        from = to;
    }
    return true;
}

/* ---- headers and footers ---------------------------------------------------------------------- */

static bool is_number(const struct align_side *side, uint32_t token)
{
    const struct align_token *t = &side->tokens[token];
    for (uint32_t i = 0; i < t->fold_len; i++) {
        char c = side->folded.data[t->fold_off + i];
        if (c < '0' || c > '9')
            return false;
    }
    return true;
}

static bool is_alike(const struct align *align, uint32_t f, uint32_t r)
{
    const struct align_token *a = &align->flow.tokens[f], *b = &align->raw.tokens[r];
    if (is_number(&align->flow, f) && is_number(&align->raw, r))
        return true; /* the page's own number */
    return a->hash == b->hash && a->fold_len == b->fold_len;
}

/* A header's or footer's words at a page's edge: at least two in three of them, in order, each the
 * next alike one. Fills hits with their raw tokens (UINT32_MAX: none); false where it is not there. */
static bool find_at_edge(const struct place *place, const struct list *item, const struct list *edge,
                         bool header, uint32_t *hits)
{
    size_t best = 0;
    uint32_t trial[EDGE_WORDS];
    size_t n_item = item->n > EDGE_WORDS ? EDGE_WORDS : item->n;
    for (size_t turn = 0; turn < edge->n; turn++) {
        size_t start = header ? turn : edge->n - 1 - turn; /* the outermost first */
        size_t at = start, n = 0;
        for (size_t i = 0; i < n_item; i++) {
            size_t k = at;
            while (k < edge->n && k < at + 4 &&
                   !is_alike(&place->align, item->items[i], edge->items[k]))
                k++;
            bool hit = k < edge->n && k < at + 4;
            trial[i] = hit ? edge->items[k] : UINT32_MAX;
            at = hit ? k + 1 : at;
            n += hit;
        }
        if (n > best) {
            best = n;
            memcpy(hits, trial, n_item * sizeof(*trial));
        }
        if (best == n_item)
            break;
    }
    return best > 0 && best * 3 >= n_item * 2;
}

static void claim_token(struct place *place, uint32_t token)
{
    place->claimed[place->align.raw.tokens[token].word] = 1;
}

/* A later page's copy of a header or footer, marked as repeated. */
static void write_repeated(struct place *place, enum doc_element_kind kind, const uint32_t *hits,
                           size_t n)
{
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

/* Unmatched tokens near the top or bottom of the page whose words are [from, to). */
static void list_edge(struct list *out, const struct place *place, size_t from, size_t to,
                      bool header)
{
    out->n = 0;
    for (size_t i = from; i < to && out->n < EDGE_WORDS; i++) {
        const struct doc_box *box = &place->raw->words[i].box;
        if (place->claimed[i] || (header ? box->y1 > EDGE : box->y0 < 1 - EDGE))
            continue;
        for (uint32_t t = place->raw_tokens[i]; t < place->raw_tokens[i + 1]; t++) {
            if (place->align.raw.match[t] < 0 && out->n < EDGE_WORDS)
                out->items[out->n++] = t;
        }
    }
}

/* The repeated copies are kept for the end: hits of one item on one page. */
struct copy {
    enum doc_element_kind kind;
    uint32_t n;
    uint32_t hits[EDGE_WORDS];
};
struct copies {
    struct copy **items;
    size_t n, cap;
};

static void keep_copy(struct place *place, struct copies *copies, enum doc_element_kind kind,
                      const uint32_t *hits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (hits[i] != UINT32_MAX)
            claim_token(place, hits[i]);
    }
    if (copies->n == copies->cap) {
        size_t cap = copies->cap == 0 ? 64 : copies->cap * 2;
        struct copy **grown = mem_try_grow(copies->items, cap, sizeof(*grown), MAX_BYTES);
        if (grown == NULL)
            return;
        copies->items = grown;
        copies->cap = cap;
    }
    struct copy *copy = arena_try(place->task->arena, 1, sizeof(*copy));
    if (copy == NULL)
        return;
    copy->kind = kind;
    copy->n = (uint32_t)n;
    memcpy(copy->hits, hits, n * sizeof(*hits));
    copies->items[copies->n++] = copy;
}

static void match_furniture(struct place *place, struct copies *copies)
{
    const struct raw_pages *raw = place->raw;
    uint32_t item_tokens[EDGE_WORDS], edge_tokens[EDGE_WORDS], hits[EDGE_WORDS];
    for (size_t from = 0, to; from < raw->n_words; from = to) {
        to = from;
        while (to < raw->n_words && raw->words[to].page_i == raw->words[from].page_i)
            to++;
        for (size_t i = 0; i < place->flow->n_items; i++) {
            const struct flow_item *item = &place->flow->items[i];
            if (!is_furniture(item) || (item->flags & FLOW_UNSEEN) != 0)
                continue;
            struct list mine = {.items = item_tokens}, edge = {.items = edge_tokens};
            bool placed = false;
            for (uint32_t w = place->item_words[i]; w < place->item_words[i + 1]; w++) {
                const struct word *word = &place->words[w];
                for (uint32_t t = 0; t < word->n_tokens && mine.n < EDGE_WORDS; t++) {
                    placed = placed || place->align.flow.match[word->token + t] >= 0;
                    item_tokens[mine.n++] = word->token + t;
                }
            }
            list_edge(&edge, place, from, to, item->kind == DOC_PAGE_HEADER);
            if (mine.n == 0 || edge.n == 0 ||
                !find_at_edge(place, &mine, &edge, item->kind == DOC_PAGE_HEADER, hits))
                continue;
            if (placed) {
                keep_copy(place, copies, item->kind, hits, mine.n);
                continue;
            }
            for (size_t k = 0; k < mine.n; k++) {
                if (hits[k] != UINT32_MAX)
                    align_pair(&place->align, mine.items[k], hits[k]);
            }
        }
    }
}

/* ---- parts of a word -------------------------------------------------------------------------- */

/* The byte of a word's text at which `folded` bytes of it, from `off` on, have been folded. */
static uint32_t unfold(const struct word *word, uint32_t off, uint32_t folded)
{
    size_t pos = off;
    uint32_t n_bytes = 0;
    while (pos < word->len && n_bytes < folded) {
        uint32_t out[3];
        char utf8[4];
        size_t n = align_fold(out, utf8_next(word->text, word->len, &pos));
        for (size_t i = 0; i < n; i++)
            n_bytes += (uint32_t)utf8_put(utf8, out[i]);
    }
    return (uint32_t)pos;
}

static void add_part(struct place *place, size_t *n, uint32_t off, uint32_t len, uint32_t token)
{
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
        struct part *grown = mem_try_grow(place->parts, cap, sizeof(*grown), MAX_BYTES);
        if (grown == NULL)
            return;
        place->parts = grown;
        place->cap_parts = cap;
    }
    place->parts[(*n)++] = part;
}

/* The raw tokens of a span lie one after another over its flow tokens' folded bytes; those that lie
 * over this flow token are its parts. */
static void add_span_parts(struct place *place, size_t *n, const struct word *word,
                           uint32_t token, const struct align_span *span)
{
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
static size_t parts_of(struct place *place, const struct word *word)
{
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

static void put_word(struct place *place, const struct word *word, const char *separator)
{
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

/* ---- labels ----------------------------------------------------------------------------------- */

/* "1.", "a)", "IV.", "2.3.1", a bullet: what stands before a list item and is no word of it. */
static bool is_label(const struct raw_word *word)
{
    size_t pos = 0, n = 0;
    bool digit = false;
    uint32_t first = 0, last = 0;
    while (pos < word->len) {
        last = utf8_next(word->text, word->len, &pos);
        first = n == 0 ? last : first;
        digit = digit || (last >= '0' && last <= '9');
        n++;
    }
    if (n == 1 && !(last >= 'a' && last <= 'z') && !(last >= 'A' && last <= 'Z'))
        return true;
    return n <= MAX_LABEL_BYTES &&
           (last == '.' || last == ')' || last == ':' || first == '(' || digit);
}

/* The raw word that the item's text begins with, or UINT32_MAX. */
static uint32_t first_place(struct place *place, size_t item)
{
    if (place->item_words[item] == place->item_words[item + 1])
        return UINT32_MAX;
    const struct word *word = &place->words[place->item_words[item]];
    if (word->n_tokens == 0 || place->align.flow.match[word->token] < 0)
        return UINT32_MAX;
    const struct align_span *span = &place->align.spans[place->align.flow.match[word->token]];
    return span->flow == word->token ? place->align.raw.tokens[span->raw].word : UINT32_MAX;
}

/* The item's number or bullet on the page is taken; a heading shows its number. */
static void take_label(struct place *place, size_t item, const char **separator)
{
    enum { MAX_WORDS = 2 };
    uint32_t first = first_place(place, item), from;
    if (first == UINT32_MAX)
        return;
    const struct raw_word *text = &place->raw->words[first];
    for (from = first; from > 0 && first - from < MAX_WORDS; from--) {
        const struct raw_word *label = &place->raw->words[from - 1];
        float middle = (label->box.y0 + label->box.y1) / 2;
        if (place->claimed[from - 1] || label->page_i != text->page_i ||
            middle < text->box.y0 || middle > text->box.y1 || !is_label(label))
            break;
    }
    for (; from < first; from++) {
        const struct raw_word *label = &place->raw->words[from];
        place->claimed[from] = 1;
        if (place->flow->items[item].kind != DOC_HEADING)
            continue;
        doc_put(place->task->builder, *separator, label->text, label->len, label->page_i,
                &label->box);
        *separator = " ";
    }
}

/* ---- elements --------------------------------------------------------------------------------- */

/* One text's words, with the white space between them: as it stands in code, else a space or a line
 * break. */
static void put_text(struct place *place, const char *text, bool verbatim, const char *first)
{
    size_t len = strlen(text), end = 0;
    char spaces[256];
    for (size_t pos = pass_space(text, len, 0); pos < len; pos = pass_space(text, len, end)) {
        size_t gap = pos - end;
        const char *separator = end == 0 ? first : " ";
        if (verbatim && gap < sizeof(spaces)) {
            memcpy(spaces, text + end, gap);
            spaces[gap] = '\0';
            separator = spaces;
        } else if (end > 0 && memchr(text + end, '\n', gap) != NULL) {
            separator = "\n";
        }
        end = pass_word(text, len, pos);
        if (place->failed)
            doc_put(place->task->builder, separator, text + pos, end - pos, DOC_NO_PAGE, NULL);
        else
            put_word(place, &place->words[place->at++], separator);
    }
}

static void write_item(struct place *place, size_t i)
{
    const struct flow_item *item = &place->flow->items[i];
    struct doc_builder *builder = place->task->builder;
    const char *separator = "";
    place->at = place->failed ? 0 : place->item_words[i];
    doc_begin(builder, item->kind, item->level, item->flags & (unsigned)~FLOW_UNSEEN);
    if (!place->failed && (item->kind == DOC_LIST_ITEM || item->kind == DOC_HEADING))
        take_label(place, i, &separator);
    if (item->kind != DOC_TABLE)
        put_text(place, item->text, item->kind == DOC_CODE, separator);
    for (size_t k = 0; item->kind == DOC_TABLE && k < item->n_cells; k++) {
        const struct flow_cell *cell = &item->cells[k];
        doc_cell(builder, cell->row, cell->col, cell->row_span, cell->col_span, cell->header);
        put_text(place, cell->text, false, "");
    }
    doc_end(builder);
}

/* A raw word is in an element when at least half of its tokens are. */
static void claim_matched(struct place *place)
{
    for (size_t i = 0; i < place->raw->n_words; i++) {
        uint32_t from = place->raw_tokens[i], to = place->raw_tokens[i + 1], n = 0;
        for (uint32_t t = from; t < to; t++)
            n += place->align.raw.match[t] >= 0;
        if (n * 2 >= to - from && n > 0)
            place->claimed[i] = 1;
    }
}

static void write_rest(struct place *place)
{
    const struct raw_pages *raw = place->raw;
    struct raw_pages rest = *raw;
    size_t n = 0;
    for (size_t i = 0; i < raw->n_words; i++)
        n += !place->claimed[i];
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

static void match_all(struct place *place, struct copies *copies)
{
    struct list f = {.items = mem_try(place->align.flow.n + 1, sizeof(uint32_t), MAX_BYTES)};
    struct list r = {.items = mem_try(place->align.raw.n + 1, sizeof(uint32_t), MAX_BYTES)};
    bool slides = place->task->format == FORMAT_PPTX;
    if (f.items != NULL && r.items != NULL && (!slides || !match_slides(place, &f, &r))) {
        list_flow(&f, place, -1);
        list_raw(&r, place, 0, place->raw->n_words);
        align_match(&place->align, f.items, f.n, r.items, r.n, false);
    }
    claim_matched(place);
    if (!slides)
        match_furniture(place, copies);
    if (f.items != NULL && r.items != NULL)
        match_rest(place, &f, &r);
    claim_matched(place);
    mem_free(f.items);
    mem_free(r.items);
}

void flow_place(struct read_task *task, const struct flow *flow, const struct raw_pages *raw)
{
    struct place place = {.task = task, .flow = flow, .raw = raw};
    struct copies copies = {0};
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
    place.failed = !prepare(&place);
    if (place.failed)
        doc_set_meta(builder, "warning", "too large to find its words on the pages");
    else
        match_all(&place, &copies);
    for (size_t i = 0; i < flow->n_items; i++)
        write_item(&place, i);
    for (size_t i = 0; i < copies.n; i++)
        write_repeated(&place, copies.items[i]->kind, copies.items[i]->hits, copies.items[i]->n);
    if (!place.failed)
        write_rest(&place);
    mem_free(copies.items);
    mem_free(place.words);
    mem_free(place.item_words);
    mem_free(place.raw_tokens);
    mem_free(place.claimed);
    mem_free(place.parts);
    align_fini(&place.align);
}
