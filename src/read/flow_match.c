/* Which words of a flow are which words of its pages.
 *
 * Headers and footers that stand whole at a page's edge are taken first, so that the body cannot
 * take their words. Then the two sequences are aligned, along the whole or a slide at a time; then
 * what both sides have left, in rounds: that finds what the pages show elsewhere than the file has
 * it (footnotes, text boxes, the columns of a wide sheet). Short texts without a place come last.
 */
#include <string.h>

#include "read/flow_place.h"

#define MAX_ROUNDS 12
#define EDGE 0.25f /* of the page: where headers and footers may stand */
#define MAX_EDGE_STEPS 200000000
#define MAX_SHORT 64 /* same short texts looked at for one place */

static bool is_furniture(const struct flow_item *item) {
    return item->kind == DOC_PAGE_HEADER || item->kind == DOC_PAGE_FOOTER;
}

/* ---- words --------------------------------------------------------------------------------- */

size_t place_pass_space(const char *text, size_t len, size_t pos) {
    while (pos < len) {
        size_t next = pos;
        if (!text_is_space(utf8_next(text, len, &next)))
            break;
        pos = next;
    }
    return pos;
}

size_t place_pass_word(const char *text, size_t len, size_t pos) {
    while (pos < len) {
        size_t next = pos;
        if (text_is_space(utf8_next(text, len, &next)))
            break;
        pos = next;
    }
    return pos;
}

static void add_words(struct place *place, uint32_t item, const char *text) {
    size_t len = strlen(text);
    place->n_texts++;
    for (size_t pos = place_pass_space(text, len, 0); pos < len && !place->failed;) {
        size_t end = place_pass_word(text, len, pos);
        if (place->n_words == place->cap_words) {
            size_t cap = place->cap_words == 0 ? 256 : place->cap_words * 2;
            struct word *grown = mem_try_grow(place->words, cap, sizeof(*grown),
                                              PLACE_MAX_BYTES * 2);
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
                              .text_id = place->n_texts,
                              .token = (uint32_t)place->align.flow.n};
        align_add_word(&place->align, &place->align.flow, (uint32_t)place->n_words, word->text,
                       word->len);
        word->n_tokens = (uint32_t)place->align.flow.n - word->token;
        place->n_words++;
        pos = place_pass_space(text, len, end);
    }
}

bool place_prepare(struct place *place) {
    const struct flow *flow = place->flow;
    const struct raw_pages *raw = place->raw;
    place->item_words = mem_try(flow->n_items + 1, sizeof(uint32_t), PLACE_MAX_BYTES);
    place->raw_tokens = mem_try(raw->n_words + 1, sizeof(uint32_t), PLACE_MAX_BYTES);
    place->claimed = mem_try(raw->n_words + 1, 1, PLACE_MAX_BYTES);
    if (place->item_words == NULL || place->raw_tokens == NULL || place->claimed == NULL)
        return false;
    for (size_t i = 0; i < flow->n_items; i++) {
        place->item_words[i] = (uint32_t)place->n_words;
        const struct flow_item *item = &flow->items[i];
        if (is_furniture(item) && (item->flags & FLOW_UNSEEN) == 0 &&
            place->n_furniture < PLACE_MAX_FURNITURE)
            place->furniture[place->n_furniture++] = (uint32_t)i;
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

/* ---- matching ------------------------------------------------------------------------------ */

struct list {
    uint32_t *items;
    size_t n;
};

/* Unmatched tokens of the items that pages show: all, or one slide's. */
static void list_flow(struct list *out, const struct place *place, int slide) {
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

static void list_raw(struct list *out, const struct place *place, size_t from, size_t to) {
    out->n = 0;
    const struct align_side *side = &place->align.raw;
    for (size_t i = place->raw_tokens[from]; i < place->raw_tokens[to]; i++) {
        if (side->match[i] < 0 && !place->claimed[side->tokens[i].word])
            out->items[out->n++] = (uint32_t)i;
    }
}

/* Rounds over what is left, while they find more than a little. */
static void match_rest(struct place *place, struct list *f, struct list *r) {
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

static bool is_number(const struct align_side *side, uint32_t token) {
    const struct align_token *t = &side->tokens[token];
    for (uint32_t i = 0; i < t->fold_len; i++) {
        char c = side->folded.data[t->fold_off + i];
        if (c < '0' || c > '9')
            return false;
    }
    return true;
}

/* ---- short texts --------------------------------------------------------------------------- */

/* Unmatched raw tokens by what they say: chains in order, first and next by token number. */
struct same {
    uint32_t *first, *next;
    size_t mask;
};

static bool same_token(const struct align *align, uint32_t f, uint32_t r) {
    const struct align_token *a = &align->flow.tokens[f], *b = &align->raw.tokens[r];
    return a->hash == b->hash && a->fold_len == b->fold_len;
}

static uint32_t page_of(const struct place *place, uint32_t flow_token) {
    int32_t span = place->align.flow.match[flow_token];
    if (span < 0)
        return DOC_NO_PAGE;
    uint32_t raw = place->align.spans[span].raw;
    return place->raw->words[place->align.raw.tokens[raw].word].page_i;
}

/* A place for tokens [from, to) of one item or cell: the same tokens in a row, on a page where the
 * flow's neighbours are. A whole text that is no mere number may be on any page. */
static void place_short(struct place *place, struct same *same, uint32_t from, uint32_t to,
                        bool whole) {
    struct align *align = &place->align;
    uint32_t before = from > 0 ? page_of(place, from - 1) : DOC_NO_PAGE;
    uint32_t after = to < align->flow.n ? page_of(place, to) : DOC_NO_PAGE;
    bool numbers = true;
    for (uint32_t t = from; t < to; t++)
        numbers = numbers && (is_number(&align->flow, t) || align->flow.tokens[t].fold_len < 2);
    uint32_t *link = &same->first[align->flow.tokens[from].hash & same->mask];
    uint32_t best = UINT32_MAX;
    int best_rank = whole && !numbers ? 3 : 2;
    for (int looked = 0; *link != UINT32_MAX && looked < MAX_SHORT && best_rank > 0; looked++) {
        uint32_t r = *link;
        if (align->raw.match[r] >= 0) {
            *link = same->next[r]; /* taken meanwhile */
            continue;
        }
        uint32_t n = 0;
        while (n < to - from && r + n < align->raw.n && align->raw.match[r + n] < 0 &&
               !place->claimed[align->raw.tokens[r + n].word] && same_token(align, from + n, r + n))
            n++;
        uint32_t page = place->raw->words[align->raw.tokens[r].word].page_i;
        int rank = page == before ? 0 : page == after ? 1 : 2;
        if (n == to - from && rank < best_rank) {
            best = r;
            best_rank = rank;
        }
        link = &same->next[r];
    }
    for (uint32_t t = from; best != UINT32_MAX && t < to; t++)
        align_pair(align, t, best + (t - from));
}

/* Runs of words without a place, within an item or cell. */
static void match_short(struct place *place) {
    enum { MAX_TOKENS = 12 };
    struct align *align = &place->align;
    size_t size = 1024;
    while (size < align->raw.n)
        size *= 2;
    struct same same = {.mask = size - 1};
    same.first = mem_try(size, sizeof(uint32_t), PLACE_MAX_BYTES);
    same.next = mem_try(align->raw.n + 1, sizeof(uint32_t), PLACE_MAX_BYTES);
    if (same.first != NULL && same.next != NULL) {
        memset(same.first, 0xFF, size * sizeof(uint32_t));
        for (size_t i = align->raw.n; i-- > 0;) {
            if (align->raw.match[i] >= 0)
                continue;
            uint32_t *first = &same.first[align->raw.tokens[i].hash & same.mask];
            same.next[i] = *first;
            *first = (uint32_t)i;
        }
        for (size_t w = 0, end; w < place->n_words; w = end) {
            const struct word *word = &place->words[w];
            const struct flow_item *item = &place->flow->items[word->item];
            uint32_t from = word->token, last = from;
            for (end = w; end < place->n_words && place->words[end].text_id == word->text_id; end++)
                last = place->words[end].token + place->words[end].n_tokens;
            if ((item->flags & FLOW_UNSEEN) != 0 || is_furniture(item))
                continue;
            for (uint32_t t = from, stop; t < last; t = stop + 1) {
                for (stop = t; stop < last && align->flow.match[stop] < 0; stop++)
                    ;
                bool whole = t == from && stop == last;
                if (stop - t >= (whole ? 1 : 2) && stop - t <= MAX_TOKENS)
                    place_short(place, &same, t, stop, whole);
            }
        }
    }
    mem_free(same.first);
    mem_free(same.next);
}

/* ---- slides -------------------------------------------------------------------------------- */

/* Slide by slide where the pages are the slides shown. False where they are not. */
static bool match_slides(struct place *place, struct list *f, struct list *r) {
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

/* ---- headers and footers ------------------------------------------------------------------- */

static bool is_alike(const struct align *align, uint32_t f, uint32_t r) {
    const struct align_token *a = &align->flow.tokens[f], *b = &align->raw.tokens[r];
    if (is_number(&align->flow, f) && is_number(&align->raw, r))
        return true; /* the page's own number */
    return a->hash == b->hash && a->fold_len == b->fold_len;
}

/* A header's or footer's words at a page's edge: all of them side by side where whole, else at
 * least two in three of them, in order. Fills hits with their raw tokens (UINT32_MAX: none); false
 * where it is not there. */
static bool find_at_edge(struct place *place, const struct list *item, const struct list *edge,
                         bool header, bool whole, uint32_t *hits) {
    size_t best = 0, reach = whole ? 1 : 4;
    uint32_t trial[PLACE_EDGE_WORDS];
    size_t n_item = item->n > PLACE_EDGE_WORDS ? PLACE_EDGE_WORDS : item->n;
    for (size_t turn = 0; turn < edge->n; turn++) {
        size_t start = header ? turn : edge->n - 1 - turn; /* the outermost first */
        size_t at = start, n = 0;
        for (size_t i = 0; i < n_item; i++) {
            size_t k = at;
            while (k < edge->n && k < at + reach &&
                   !is_alike(&place->align, item->items[i], edge->items[k]))
                k++;
            bool hit = k < edge->n && k < at + reach;
            place->budget -= (int64_t)(k - at) + 1;
            if (whole && !hit)
                break;
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
    return whole ? best == n_item : best > 0 && best * 3 >= n_item * 2;
}

static void claim_token(struct place *place, uint32_t token) {
    place->claimed[place->align.raw.tokens[token].word] = 1;
}

/* Unmatched tokens near the top or bottom of the page whose words are [from, to), the outermost in
 * the order found: a page's header is its first words, its footer the last. */
static void list_edge(struct list *out, const struct place *place, size_t from, size_t to,
                      bool header) {
    size_t n = 0;
    for (size_t k = 0; k < to - from && n < PLACE_EDGE_WORDS; k++) {
        size_t i = header ? from + k : to - 1 - k;
        const struct doc_box *box = &place->raw->words[i].box;
        if (place->claimed[i] || (header ? box->y1 > EDGE : box->y0 < 1 - EDGE))
            continue;
        uint32_t first = place->raw_tokens[i], n_tokens = place->raw_tokens[i + 1] - first;
        for (uint32_t t = 0; t < n_tokens && n < PLACE_EDGE_WORDS; t++) {
            uint32_t token = header ? first + t : first + n_tokens - 1 - t;
            if (place->align.raw.match[token] < 0)
                out->items[n++] = token;
        }
    }
    for (size_t i = 0; !header && i < n / 2; i++) {
        uint32_t swapped = out->items[i];
        out->items[i] = out->items[n - 1 - i];
        out->items[n - 1 - i] = swapped;
    }
    out->n = n;
}

static void keep_copy(struct place *place, enum doc_element_kind kind, const uint32_t *hits,
                      size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (hits[i] != UINT32_MAX)
            claim_token(place, hits[i]);
    }
    if (place->copies.n == place->copies.cap) {
        size_t cap = place->copies.cap == 0 ? 64 : place->copies.cap * 2;
        struct copy **grown = mem_try_grow(place->copies.items, cap, sizeof(*grown),
                                           PLACE_MAX_BYTES);
        if (grown == NULL)
            return;
        place->copies.items = grown;
        place->copies.cap = cap;
    }
    struct copy *copy = arena_try(place->task->arena, 1, sizeof(*copy));
    if (copy == NULL)
        return;
    copy->kind = kind;
    copy->n = (uint32_t)n;
    memcpy(copy->hits, hits, n * sizeof(*hits));
    place->copies.items[place->copies.n++] = copy;
}

/* One item on one page: its first copy gives the item its place, later ones repeat it. */
static void match_edge(struct place *place, size_t i, size_t from, size_t to, bool whole) {
    uint32_t item_tokens[PLACE_EDGE_WORDS], edge_tokens[PLACE_EDGE_WORDS], hits[PLACE_EDGE_WORDS];
    const struct flow_item *item = &place->flow->items[i];
    struct list mine = {.items = item_tokens}, edge = {.items = edge_tokens};
    bool placed = false, numbers = true;
    for (uint32_t w = place->item_words[i]; w < place->item_words[i + 1]; w++) {
        const struct word *word = &place->words[w];
        for (uint32_t t = 0; t < word->n_tokens && mine.n < PLACE_EDGE_WORDS; t++) {
            placed = placed || place->align.flow.match[word->token + t] >= 0;
            numbers = numbers && is_number(&place->align.flow, word->token + t);
            item_tokens[mine.n++] = word->token + t;
        }
    }
    bool header = item->kind == DOC_PAGE_HEADER;
    if (mine.n == 0 || (whole && numbers))
        return; /* a bare page number may be anything before the body has its words */
    list_edge(&edge, place, from, to, header);
    if (edge.n == 0 || !find_at_edge(place, &mine, &edge, header, whole, hits))
        return;
    if (placed) {
        keep_copy(place, item->kind, hits, mine.n);
        return;
    }
    for (size_t k = 0; k < mine.n; k++) {
        if (hits[k] != UINT32_MAX)
            align_pair(&place->align, mine.items[k], hits[k]);
    }
}

static void match_furniture(struct place *place, bool whole) {
    const struct raw_pages *raw = place->raw;
    place->budget = MAX_EDGE_STEPS;
    for (size_t from = 0, to; from < raw->n_words; from = to) {
        to = from;
        while (to < raw->n_words && raw->words[to].page_i == raw->words[from].page_i)
            to++;
        for (size_t i = 0; i < place->n_furniture && place->budget > 0; i++)
            match_edge(place, place->furniture[i], from, to, whole);
    }
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* A raw word is in an element when at least half of its tokens are. */
static void claim_matched(struct place *place) {
    for (size_t i = 0; i < place->raw->n_words; i++) {
        uint32_t from = place->raw_tokens[i], to = place->raw_tokens[i + 1], n = 0;
        for (uint32_t t = from; t < to; t++)
            n += place->align.raw.match[t] >= 0;
        if (n * 2 >= to - from && n > 0)
            place->claimed[i] = 1;
    }
}

void place_match(struct place *place) {
    struct list f = {.items = mem_try(place->align.flow.n + 1, sizeof(uint32_t), PLACE_MAX_BYTES)};
    struct list r = {.items = mem_try(place->align.raw.n + 1, sizeof(uint32_t), PLACE_MAX_BYTES)};
    bool slides = place->task->format == FORMAT_PPTX;
    if (!slides)
        match_furniture(place, true);
    if (f.items != NULL && r.items != NULL && slides)
        slides = match_slides(place, &f, &r);
    if (f.items != NULL && r.items != NULL && !slides) {
        list_flow(&f, place, -1);
        list_raw(&r, place, 0, place->raw->n_words);
        align_match(&place->align, f.items, f.n, r.items, r.n, false);
    }
    claim_matched(place);
    if (!slides)
        match_furniture(place, false);
    if (f.items != NULL && r.items != NULL && !slides) {
        match_rest(place, &f, &r);
        match_short(place);
    }
    claim_matched(place);
    mem_free(f.items);
    mem_free(r.items);
}
