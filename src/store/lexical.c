/* BM25 at a bounded cost.
 *
 * Scoring every posting of every word of a question grows with the collection, and nearly all of it
 * is spent on words that stand everywhere. So a search has a budget of postings:
 *  1. Every term's postings are read up to a small number. Most terms end within it: their document
 *     frequency is then exact. The others' is estimated from how far that many postings reached.
 *  2. Terms are taken in ascending frequency, whole, while the budget lasts; at least one is, and
 * as many as give the next step something to choose from.
 *  3. The postings taken are scored (BM25 without the length, which is not known yet), and the best
 *     few hundred chunks are read and scored exactly, with all terms of the query.
 * Where a filter lets only few chunks through, step 3 reads them all, and step 2 is left out.
 * Everything depends on the index's state and the query alone, so answers repeat. */
#include "store/lexical.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lexical_tuning lexical_tuning = {
    .probe = 1500,
    .budget = 100000,
    .longest = 250000,
    .n_refine = 300,
    .n_whole = 1500,
};

#define K1 1.2
#define B 0.75
#define COMMON_WEIGHT 0.5 /* of an English function word */
#define MAX_EXPANSIONS 64 /* words a prefix stands for */
#define MAX_ROUNDS 8      /* blocks of candidates read when many are left out */

struct scored_term {
    const struct lexical_term *term;
    int term_i;
    struct postings postings;
    double df, weight;
    bool taken;
};

struct candidate {
    int64_t row_id;
    double score;
};

struct search {
    struct arena *arena;
    struct conn *conn;
    const struct lexical_query *query;
    const struct row_ranges *allowed; /* NULL: all */
    struct scored_term terms[LEXICAL_MAX_TERMS];
    int64_t n_rows, n_tokens, first_row, last_row;
    struct candidate *best; /* a heap, the worst at its root */
    size_t n_best, max_best;
};

/* ---- postings of the terms ---- */

static int by_row(const void *a, const void *b) {
    const struct posting *x = a, *y = b;
    return (x->row_id > y->row_id) - (x->row_id < y->row_id);
}

/* The stems of the words that begin with prefix, once each; from the vocabulary. */
static bool expand_prefix(char ***stems, int *n, struct search *search, const char *prefix,
                          struct error *err) {
    char *after = arena_printf(search->arena, "%s\U0010FFFF", prefix);
    sqlite3_stmt *stmt = conn_query(
        search->conn, err,
        "SELECT word FROM words WHERE word >= ? AND word < ? ORDER BY word LIMIT 1000", "tt",
        prefix, after);
    bool row = false, ok = stmt != NULL;
    *n = 0;
    *stems = arena_alloc(search->arena, MAX_EXPANSIONS * sizeof **stems);
    while (ok && (ok = conn_step(&row, search->conn, stmt, err)) && row && *n < MAX_EXPANSIONS) {
        const char *stem = token_of_word(search->arena, column_text(search->arena, stmt, 0));
        bool known = false;
        for (int i = 0; i < *n && !known; i++)
            known = strcmp((*stems)[i], stem) == 0;
        if (!known)
            (*stems)[(*n)++] = (char *)stem;
    }
    conn_finish(stmt);
    return ok;
}

static bool read_prefix(struct postings *out, struct search *search, const char *prefix,
                        int64_t max_kept, int64_t max_seen, struct error *err) {
    char **stems;
    int n;
    if (!expand_prefix(&stems, &n, search, prefix, err))
        return false;
    struct postings one = {0};
    bool ok = true;
    out->n = out->n_seen = out->last_row = 0;
    out->complete = true;
    for (int i = 0; i < n && ok; i++) {
        ok = fulltext_postings(&one, search->conn, stems[i], search->allowed, max_kept - out->n,
                               max_seen - out->n_seen, err);
        for (int64_t p = 0; ok && p < one.n; p++) {
            if (out->n == out->cap && !postings_grow(out))
                ok = error_set_code(err, ERROR_LIMIT, "out_of_memory", "too many postings");
            else
                out->items[out->n++] = one.items[p];
        }
        out->complete = out->complete && one.complete;
        out->n_seen += one.n_seen;
        if (one.n_rows > 0) {
            out->n_rows = one.n_rows;
            out->n_tokens = one.n_tokens;
        }
    }
    postings_fini(&one);
    /* Several words end at several rows: how far the reading came is not known. */
    out->last_row = search->last_row;
    if (out->n > 0)
        qsort(out->items, (size_t)out->n, sizeof *out->items, by_row);
    int64_t n_rows = 0;
    for (int64_t p = 0; p < out->n; p++) {
        if (n_rows > 0 && out->items[n_rows - 1].row_id == out->items[p].row_id)
            out->items[n_rows - 1].tf += out->items[p].tf;
        else
            out->items[n_rows++] = out->items[p];
    }
    out->n = n_rows;
    return ok;
}

static bool read_postings(struct scored_term *term, struct search *search, int64_t max_kept,
                          int64_t max_seen, struct error *err) {
    const char *tokens = term->term->tokens;
    bool ok = term->term->kind == TERM_PREFIX
                  ? read_prefix(&term->postings, search, tokens, max_kept, max_seen, err)
                  : fulltext_postings(&term->postings, search->conn, tokens, search->allowed,
                                      max_kept, max_seen, err);
    if (ok && term->postings.n_rows > 0) {
        search->n_rows = term->postings.n_rows;
        search->n_tokens = term->postings.n_tokens;
    }
    return ok;
}

/* Document frequency and weight (IDF) of a term whose postings were read, wholly or in part. */
static void weigh(struct scored_term *term, const struct search *search) {
    const struct postings *postings = &term->postings;
    double n_rows = (double)search->n_rows;
    term->df = (double)postings->n_seen;
    if (!postings->complete && postings->last_row > 0) {
        double reached = (double)(postings->last_row - search->first_row + 1);
        term->df *= (double)(search->last_row - search->first_row + 1) / reached;
    }
    if (term->df > n_rows)
        term->df = n_rows;
    term->weight = log(1 + (n_rows - term->df + 0.5) / (term->df + 0.5));
    if (term->term->common)
        term->weight *= COMMON_WEIGHT;
}

static int by_df(const void *a, const void *b) {
    const struct scored_term *const *x = a, *const *y = b;
    if ((*x)->df != (*y)->df)
        return (*x)->df < (*y)->df ? -1 : 1;
    return (*x)->term_i - (*y)->term_i;
}

/* Reads the terms' beginnings and gives them their weights. */
static bool read_terms(struct search *search, struct error *err) {
    int n = search->query->n_terms, n_all = n + search->query->n_excluded;
    for (int i = 0; i < n_all; i++) {
        struct scored_term *term = &search->terms[i];
        term->term = &search->query->terms[i];
        term->term_i = i;
        if (!read_postings(term, search, lexical_tuning.probe, lexical_tuning.probe, err))
            return false;
    }
    for (int i = 0; i < n; i++)
        weigh(&search->terms[i], search);
    return true;
}

static bool take_terms(struct search *search, size_t n_wanted, struct error *err) {
    struct scored_term *order[LEXICAL_MAX_TERMS];
    int n = search->query->n_terms;
    for (int i = 0; i < n; i++)
        order[i] = &search->terms[i];
    qsort(order, (size_t)n, sizeof order[0], by_df);
    int64_t spent = 0, kept = 0;
    for (int i = 0; i < n; i++) {
        struct scored_term *term = order[i];
        struct postings *postings = &term->postings;
        if (kept >= (int64_t)n_wanted && (double)spent + term->df > (double)lexical_tuning.budget)
            break;
        if (!postings->complete) {
            int64_t longest = lexical_tuning.longest;
            if (!read_postings(term, search, longest, search->allowed ? longest * 8 : longest, err))
                return false;
            weigh(term, search);
        }
        spent += postings->n_seen;
        kept += postings->n;
        term->taken = true;
    }
    return true;
}

/* ---- candidates ---- */

static double saturate(double tf, double length_factor) {
    return tf * (K1 + 1) / (tf + K1 * length_factor);
}

static bool is_better(const struct candidate *a, const struct candidate *b) {
    return a->score != b->score ? a->score > b->score : a->row_id < b->row_id;
}

/* Moves the candidate at i down to where no child is worse. */
static void sift_down(struct candidate *heap, size_t n, size_t i) {
    struct candidate moved = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_better(&heap[child], &heap[child + 1]))
            child++;
        if (!is_better(&moved, &heap[child]))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

static void offer(struct search *search, struct candidate candidate) {
    struct candidate *heap = search->best;
    if (search->n_best == search->max_best) {
        if (is_better(&candidate, &heap[0])) {
            heap[0] = candidate;
            sift_down(heap, search->n_best, 0);
        }
        return;
    }
    size_t i = search->n_best++;
    while (i > 0 && is_better(&heap[(i - 1) / 2], &candidate)) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = candidate;
}

#define WINDOW 32768 /* rows whose sums are in the cache at one time */

/* Sums the taken terms' scores, a window of rows after the other, and keeps the best. A sum
 * of 0 is a row without postings, a negative one a row with an excluded term. */
static void find_best(struct search *search) {
    int n_terms = search->query->n_terms, n_all = n_terms + search->query->n_excluded;
    int64_t at[LEXICAL_MAX_TERMS] = {0};
    float *sums = arena_alloc(search->arena, WINDOW * sizeof *sums);
    for (int64_t first = search->first_row; first <= search->last_row; first += WINDOW) {
        bool any = false;
        for (int t = 0; t < n_all; t++) {
            const struct scored_term *term = &search->terms[t];
            const struct postings *postings = &term->postings;
            if (t < n_terms && !term->taken)
                continue;
            for (; at[t] < postings->n && postings->items[at[t]].row_id < first + WINDOW; at[t]++) {
                float *sum = &sums[postings->items[at[t]].row_id - first];
                if (t < n_terms)
                    *sum += (float)(term->weight * saturate(postings->items[at[t]].tf, 1));
                else
                    *sum = -1;
                any = true;
            }
        }
        for (int i = 0; any && i < WINDOW; i++) {
            if (sums[i] > 0)
                offer(search, (struct candidate){first + i, sums[i]});
            sums[i] = 0;
        }
    }
}

static int best_first(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->row_id > y->row_id) - (x->row_id < y->row_id);
}

static int candidate_by_row(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return (x->row_id > y->row_id) - (x->row_id < y->row_id);
}

/* ---- exact scores ---- */

/* All that the filter lets through. */
static void take_whole(struct search *search) {
    const struct row_ranges *allowed = search->allowed;
    for (size_t i = 0; i < allowed->n; i++) {
        for (int64_t row = allowed->items[i].first; row <= allowed->items[i].last; row++)
            search->best[search->n_best++] = (struct candidate){row, 0};
    }
}

/* Scores the block's chunks by their texts, in row order; 0: without a term, or with an excluded
 * one. */
static bool refine(struct search *search, struct matcher *matcher, struct candidate *block,
                   size_t n, struct error *err) {
    qsort(block, n, sizeof *block, candidate_by_row);
    double average = search->n_rows > 0 ? (double)search->n_tokens / (double)search->n_rows : 1;
    const struct lexical_query *query = search->query;
    for (size_t i = 0; i < n; i++) {
        sqlite3_stmt *stmt = conn_query(
            search->conn, err, "SELECT text FROM chunks WHERE row_id = ?", "i", block[i].row_id);
        bool row = false;
        if (!stmt || !conn_step(&row, search->conn, stmt, err)) {
            conn_finish(stmt);
            return false;
        }
        uint32_t tf[LEXICAL_MAX_TERMS], n_positions = 0;
        if (row)
            matcher_run(matcher, tf, &n_positions, (const char *)sqlite3_column_text(stmt, 0),
                        (size_t)sqlite3_column_bytes(stmt, 0), NULL, NULL);
        conn_finish(stmt);
        double length = 1 - B + B * n_positions / average;
        double score = 0;
        for (int t = 0; row && t < query->n_terms; t++) {
            if (tf[t] > 0)
                score += search->terms[t].weight * saturate(tf[t], length);
        }
        for (int t = query->n_terms; row && t < query->n_terms + query->n_excluded; t++)
            score = tf[t] > 0 ? 0 : score;
        block[i].score = score;
    }
    qsort(block, n, sizeof *block, best_first);
    return true;
}

static bool describe(struct lexical_hit *hit, bool *found, struct search *search,
                     const struct candidate *candidate, struct error *err) {
    sqlite3_stmt *stmt = conn_query(search->conn, err,
                                    "SELECT d.doc_id, c.ordinal, c.first_page, c.last_page"
                                    " FROM chunks c JOIN documents d USING (doc_no)"
                                    " WHERE c.row_id = ?",
                                    "i", candidate->row_id);
    bool ok = stmt && conn_step(found, search->conn, stmt, err);
    if (ok && *found) {
        hit->chunk_row_id = candidate->row_id;
        hit->score = candidate->score;
        column_id(hit->doc_id, stmt, 0);
        hit->ordinal = sqlite3_column_int(stmt, 1);
        hit->first_page = sqlite3_column_int(stmt, 2);
        hit->last_page = sqlite3_column_int(stmt, 3);
    }
    conn_finish(stmt);
    return ok;
}

/* Refines the best, a block at a time, until enough are left. */
static bool rank(struct lexical_hit *hits, int *n, struct search *search, size_t n_block, int limit,
                 struct error *err) {
    struct matcher *matcher = matcher_new(search->arena, search->query);
    qsort(search->best, search->n_best, sizeof *search->best, best_first);
    for (size_t at = 0; *n < limit && at < search->n_best; at += n_block) {
        size_t left = search->n_best - at, n_now = left < n_block ? left : n_block;
        struct candidate *block = search->best + at;
        if (!refine(search, matcher, block, n_now, err))
            return false;
        for (size_t i = 0; i < n_now && *n < limit && block[i].score > 0; i++) {
            bool found = false;
            if (!describe(&hits[*n], &found, search, &block[i], err))
                return false;
            *n += found;
        }
    }
    return true;
}

static bool bounds(struct search *search, struct error *err) {
    return conn_number(&search->first_row, 0, search->conn, err,
                       "SELECT coalesce(min(row_id), 0) FROM chunks", "") &&
           conn_number(&search->last_row, 0, search->conn, err,
                       "SELECT coalesce(max(row_id), 0) FROM chunks", "");
}

static bool search_in(struct lexical_hit *hits, int *n, struct search *search,
                      const struct search_filter *filter, int limit, struct error *err) {
    struct row_ranges *allowed = NULL;
    if (!bounds(search, err) || !filter_ranges(&allowed, search->arena, search->conn, filter, err))
        return false;
    search->allowed = allowed;
    if (!read_terms(search, err))
        return false;
    size_t n_block = (size_t)lexical_tuning.n_refine;
    if (n_block < (size_t)limit * 2)
        n_block = (size_t)limit * 2;
    bool whole = allowed && allowed->n_rows <= lexical_tuning.n_whole;
    if (whole)
        search->max_best = n_block = (size_t)allowed->n_rows + 1;
    else
        search->max_best = search->query->n_excluded > 0 ? n_block * MAX_ROUNDS : n_block;
    search->best = arena_alloc(search->arena, search->max_best * sizeof *search->best);
    if (whole) {
        take_whole(search);
    } else {
        if (!take_terms(search, n_block, err))
            return false;
        find_best(search);
    }
    return rank(hits, n, search, n_block, limit, err);
}

bool lexical_search(struct lexical_hit **out, int *n, struct arena *arena, struct store *store,
                    const struct lexical_query *query, const struct search_filter *filter,
                    int limit, struct error *err) {
    *out = NULL;
    *n = 0;
    if (query->n_terms == 0 || limit <= 0)
        return true;
    struct search *search = mem_alloc(sizeof *search);
    search->arena = arena_new(0);
    search->query = query;
    *out = arena_alloc(arena, (size_t)limit * sizeof **out);
    bool ok = reader_take(&search->conn, store, err) &&
              search_in(*out, n, search, filter, limit, err);
    reader_drop(search->conn);
    for (int i = 0; i < LEXICAL_MAX_TERMS; i++)
        postings_fini(&search->terms[i].postings);
    arena_free(search->arena);
    mem_free(search);
    return ok;
}
