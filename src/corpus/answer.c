/* A passage or a page seen as an answer: which page it stands on, the text around its best place,
 * the boxes of the words found. */
#include "corpus/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREVIEW_BYTES 300
#define MAX_BOXES 200
#define ELLIPSIS "…"

/* The words that a range touches: first and one past the last. Words ascend by off. */
static void words_of_range(uint32_t *first, uint32_t *last, const struct answer *answer,
                           struct text_range range) {
    uint32_t low = 0, high = answer->n_words;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct doc_word *word = &answer->words[middle];
        if (word->off + word->len <= range.start)
            low = middle + 1;
        else
            high = middle;
    }
    *first = low;
    while (low < answer->n_words && answer->words[low].off < range.end)
        low++;
    *last = low;
}

static bool page_wanted(int page, const struct search_filter *filter) {
    return (filter->page_from == 0 || page >= filter->page_from) &&
           (filter->page_to == 0 || page <= filter->page_to);
}

/* The page that the filter lets through with most of the found words; of several, the first. A
 * passage whose found words all stand on other pages has none: -1. */
static int best_page(const struct answer *answer, const struct search_filter *filter) {
    int best = answer->chunk.first_page, best_n = 0;
    if (best < filter->page_from)
        best = filter->page_from;
    int current = 0, current_n = 0;
    bool elsewhere = false;
    for (int i = 0; i < answer->n_found; i++) {
        uint32_t first, last;
        words_of_range(&first, &last, answer, answer->found[i]);
        if (first == last)
            continue;
        int page = (int)answer->words[first].page_i + 1;
        if (!page_wanted(page, filter)) {
            elsewhere = true;
            continue;
        }
        if (page != current) {
            current = page;
            current_n = 0;
        }
        if (++current_n > best_n) {
            best_n = current_n;
            best = page;
        }
    }
    return elsewhere && best_n == 0 ? -1 : best;
}

char *corpus_heading(struct arena *arena, const char *headings, uint32_t off) {
    const char *path = headings;
    for (const char *line = strchr(headings, '\n'); line; line = strchr(line + 1, '\n')) {
        char *end;
        unsigned long from = strtoul(line + 1, &end, 10);
        if (from > off || *end != '\t')
            break;
        path = end + 1;
    }
    return arena_strndup(arena, path, strcspn(path, "\n"));
}

/* The first found word of the window of three quarters of PREVIEW_BYTES that holds most of them. */
static uint32_t best_place(const struct answer *answer) {
    int best_i = 0, best_n = 0;
    for (int i = 0, j = 0; i < answer->n_found; i++) {
        if (j < i)
            j = i;
        while (j < answer->n_found &&
               answer->found[j].end <= answer->found[i].start + PREVIEW_BYTES * 3 / 4)
            j++;
        if (j - i > best_n) {
            best_n = j - i;
            best_i = i;
        }
    }
    return answer->n_found > 0 ? answer->found[best_i].start : answer->begin;
}

/* Where the preview begins: a little before the best place. */
static uint32_t preview_start(const struct answer *answer, uint32_t text_len) {
    uint32_t at = best_place(answer);
    if (answer->n_found == 0 && answer->begin > 0)
        return answer->begin;
    if (text_len <= PREVIEW_BYTES)
        return 0;
    uint32_t start = at > PREVIEW_BYTES / 5 ? at - PREVIEW_BYTES / 5 : 0;
    if (text_len - start < PREVIEW_BYTES)
        start = text_len - PREVIEW_BYTES;
    /* Forward to a word's beginning, as long as one is near. */
    const char *text = answer->chunk.text;
    if (start > 0) {
        uint32_t p = start;
        while (p < at && text[p] != ' ' && text[p] != '\n')
            p++;
        start = p < at ? p + 1 : at;
    }
    return start;
}

static void fill_preview(struct search_result *out, struct arena *arena,
                         const struct answer *answer) {
    const char *text = answer->chunk.text;
    uint32_t len = (uint32_t)strlen(text);
    uint32_t start = preview_start(answer, len);
    uint32_t n = (uint32_t)utf8_cut(text + start, len - start, PREVIEW_BYTES);
    if (start + n < len) {
        uint32_t back = n;
        while (back > PREVIEW_BYTES / 2 && text[start + back] != ' ' && text[start + back] != '\n')
            back--;
        if (back > PREVIEW_BYTES / 2)
            n = back;
    }
    struct buf preview = {0};
    if (start > 0)
        buf_puts(&preview, ELLIPSIS " ");
    uint32_t shift = (uint32_t)preview.len;
    buf_append(&preview, text + start, n);
    if (start + n < len)
        buf_puts(&preview, " " ELLIPSIS);
    out->preview = arena_strndup(arena, preview.data, preview.len);
    buf_fini(&preview);
    out->highlights = arena_alloc(arena, ((size_t)answer->n_found + 1) * sizeof *out->highlights);
    for (int i = 0; i < answer->n_found; i++) {
        struct text_range range = answer->found[i];
        if (range.start < start || range.end > start + n)
            continue;
        struct text_range *mark = &out->highlights[out->n_highlights++];
        mark->start = range.start - start + shift;
        mark->end = range.end - start + shift;
    }
}

static void add_box(struct search_result *out, const struct doc_box *box) {
    for (int i = 0; i < out->n_boxes; i++) {
        if (memcmp(&out->boxes[i], box, sizeof *box) == 0)
            return; /* overlapping passages share words */
    }
    if (out->n_boxes < MAX_BOXES)
        out->boxes[out->n_boxes++] = *box;
}

static void add_boxes(struct search_result *out, const struct answer *answer) {
    for (int i = 0; i < answer->n_found; i++) {
        uint32_t first, last;
        words_of_range(&first, &last, answer, answer->found[i]);
        for (uint32_t w = first; w < last; w++) {
            if ((int)answer->words[w].page_i + 1 == out->page)
                add_box(out, &answer->words[w].box);
        }
    }
}

/* Finds the query's words in the answer's chunk, and the places of its words. */
static bool mark_answer(struct answer *answer, struct arena *arena,
                        const struct lexical_query *query, struct error *err) {
    const struct chunk_row *chunk = &answer->chunk;
    lexical_highlight(&answer->found, &answer->n_found, arena, query, chunk->text,
                      strlen(chunk->text));
    return chunk->places_len == 0 || doc_places_decode(&answer->words, &answer->n_words, arena,
                                                       chunk->places, chunk->places_len, err);
}

/* All found words of the page, whichever passages they are in; the result's own come first. */
static bool fill_boxes(struct search_result *out, struct arena *arena, struct corpus *corpus,
                       const struct lexical_query *query, const struct answer *best,
                       struct error *err) {
    struct chunk_row *chunks;
    int n_chunks;
    out->boxes = arena_alloc(arena, MAX_BOXES * sizeof *out->boxes);
    add_boxes(out, best);
    if (out->page == 0)
        return true;
    if (!store_list_page_chunks(&chunks, &n_chunks, arena, corpus->store, out->document.doc_id,
                                out->page, err))
        return false;
    for (int i = 0; i < n_chunks; i++) {
        struct answer other = {.chunk = chunks[i]};
        if (chunks[i].ordinal == best->chunk.ordinal)
            continue;
        if (!mark_answer(&other, arena, query, err))
            return false;
        add_boxes(out, &other);
    }
    return true;
}

static bool load_chunk(struct answer *out, struct arena *arena, const struct lexical_query *query,
                       const struct search_filter *filter, struct error *err) {
    if (!mark_answer(out, arena, query, err))
        return false;
    out->has_chunk = true;
    out->page = best_page(out, filter);
    return true;
}

/* A passage of several pages, seen from one of them: what was found elsewhere is of no account. */
static void keep_page(struct answer *answer, int page) {
    int n_kept = 0;
    for (int i = 0; i < answer->n_found; i++) {
        uint32_t first, last;
        words_of_range(&first, &last, answer, answer->found[i]);
        if (first == last || (int)answer->words[first].page_i + 1 == page)
            answer->found[n_kept++] = answer->found[i];
    }
    answer->n_found = n_kept;
    for (uint32_t w = 0; w < answer->n_words; w++) {
        if ((int)answer->words[w].page_i + 1 == page) {
            answer->begin = answer->words[w].off;
            break;
        }
    }
}

/* Of the passages that stand on the page, the one with most of the words; else the first that
 * begins there. */
static bool load_page(struct answer *out, struct arena *arena, struct corpus *corpus,
                      const struct lexical_query *query, struct error *err) {
    struct chunk_row *chunks;
    int n_chunks, best_rank = -1;
    int page = out->page;
    if (!store_list_page_chunks(&chunks, &n_chunks, arena, corpus->store, out->doc_id, page, err))
        return false;
    for (int i = 0; i < n_chunks; i++) {
        struct answer one = *out;
        one.chunk = chunks[i];
        if (!mark_answer(&one, arena, query, err))
            return false;
        keep_page(&one, page);
        int rank = 2 * one.n_found + (chunks[i].first_page == page);
        if (rank <= best_rank)
            continue;
        best_rank = rank;
        *out = one;
        out->has_chunk = true;
    }
    out->page = page;
    return true;
}

bool corpus_answer_left_out(bool *out, struct arena *arena, struct corpus *corpus,
                            const struct lexical_query *excluded, const struct answer *answer,
                            struct error *err) {
    struct text_range *ranges;
    struct chunk_row *chunks;
    int n, n_chunks;
    *out = false;
    if (!answer->hit) {
        lexical_highlight(&ranges, &n, arena, excluded, answer->chunk.text,
                          strlen(answer->chunk.text));
        *out = n > 0;
        return true;
    }
    if (!store_list_page_chunks(&chunks, &n_chunks, arena, corpus->store, answer->doc_id,
                                answer->page, err))
        return false;
    for (int i = 0; i < n_chunks && !*out; i++) {
        struct answer one = {.chunk = chunks[i]};
        if (!mark_answer(&one, arena, excluded, err))
            return false;
        keep_page(&one, answer->page);
        *out = one.n_found > 0;
    }
    return true;
}

void corpus_answer_of_page(struct answer *out, const struct hit *hit) {
    memset(out, 0, sizeof *out);
    memcpy(out->doc_id, hit->doc_id, sizeof out->doc_id);
    out->score = hit->score;
    out->page = hit->page;
    out->hit = hit;
}

bool corpus_answer_load(struct answer *out, bool *found, struct arena *arena, struct corpus *corpus,
                        const struct lexical_query *query, const struct hit *hit,
                        const struct search_filter *filter, struct error *err) {
    memset(out, 0, sizeof *out);
    memcpy(out->doc_id, hit->doc_id, sizeof out->doc_id);
    out->score = hit->score;
    out->page = hit->page;
    out->chunk.text = out->chunk.heading_path = "";
    out->chunk.ordinal = -1;
    *found = true;
    if (hit->kind == HIT_PAGE)
        return load_page(out, arena, corpus, query, err);
    if (hit->kind == HIT_WORDS
            ? !store_find_chunk(&out->chunk, found, arena, corpus->store, hit->chunk_row_id, err)
            : !store_find_chunk_at(&out->chunk, found, arena, corpus->store, hit->doc_id,
                                   hit->ordinal, err))
        return false;
    if (!*found)
        return true; /* removed since */
    if (!load_chunk(out, arena, query, filter, err))
        return false;
    /* What it means may stand on another page than the words it shares with the question. */
    if (out->page < 0 && hit->kind == HIT_PASSAGE)
        out->page = out->chunk.first_page < filter->page_from ? filter->page_from
                                                              : out->chunk.first_page;
    *found = out->page >= 0;
    return true;
}

bool corpus_answer_fill(struct search_result *out, bool *found, struct arena *arena,
                        struct corpus *corpus, const struct lexical_query *query,
                        const struct answer *answer, struct error *err) {
    memset(out, 0, sizeof *out);
    if (!store_find_document(&out->document, found, arena, corpus->store, answer->doc_id, err))
        return false;
    if (!*found)
        return true;
    struct page_row *pages;
    int n_pages;
    if (!store_list_pages(&pages, &n_pages, arena, corpus->store, answer->doc_id, err))
        return false;
    out->score = answer->score;
    memcpy(out->parts, answer->parts, sizeof out->parts);
    out->n_parts = answer->n_parts;
    out->page = answer->page;
    out->chunk = answer->chunk.ordinal;
    out->heading_path = corpus_heading(arena, answer->chunk.heading_path, best_place(answer));
    if (out->page >= 1 && out->page <= n_pages) {
        out->page_width_pt = pages[out->page - 1].width_pt;
        out->page_height_pt = pages[out->page - 1].height_pt;
    }
    fill_preview(out, arena, answer);
    return fill_boxes(out, arena, corpus, query, answer, err);
}
