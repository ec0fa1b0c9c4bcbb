/* BM25 at a bounded cost.
 *
 * Scoring every posting of every word of a question grows with the collection, and nearly all of it
 * is spent on words that stand everywhere. So a search has a budget of postings:
 *  1. Every term's postings are read up to a small number. Most terms end within it: their document
 *     frequency is then exact. The others' is estimated from how far that many postings reached.
 *  2. Terms are taken in ascending frequency, whole, while the budget lasts; at least one is.
 *  3. The postings taken are scored (BM25 without the length, which is not known yet), and the best
 *     few hundred chunks are read and scored exactly, with all terms of the query.
 * Everything depends on the index's state and the query alone, so answers repeat. */
#include "store/lexical.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lexical_tuning lexical_tuning = {.probe = 3000,
                                        .budget = 20000,
                                        .hard_max = 200000,
                                        .n_refine = 300,
                                        .k1 = 1.2,
                                        .b = 0.75,
                                        .common = 1};

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
    struct candidate *candidates;
    size_t n_candidates;
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
                        int64_t max, struct error *err) {
    char **stems;
    int n;
    if (!expand_prefix(&stems, &n, search, prefix, err))
        return false;
    struct postings one = {0};
    bool ok = true;
    out->n = 0;
    out->complete = true;
    for (int i = 0; i < n && ok && out->n < max; i++) {
        ok = fulltext_postings(&one, search->conn, stems[i], max - out->n, err);
        for (int64_t p = 0; ok && p < one.n; p++) {
            if (out->n == out->cap && !postings_grow(out))
                ok = error_set_code(err, ERROR_LIMIT, "out_of_memory", "too many postings");
            else
                out->items[out->n++] = one.items[p];
        }
        out->complete = out->complete && one.complete;
        if (one.n_rows > 0) {
            out->n_rows = one.n_rows;
            out->n_tokens = one.n_tokens;
        }
    }
    postings_fini(&one);
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

static bool read_postings(struct scored_term *term, struct search *search, int64_t max,
                          struct error *err) {
    bool ok = term->term->kind == TERM_PREFIX
                  ? read_prefix(&term->postings, search, term->term->tokens, max, err)
                  : fulltext_postings(&term->postings, search->conn, term->term->tokens, max, err);
    if (ok && term->postings.n_rows > 0) {
        search->n_rows = term->postings.n_rows;
        search->n_tokens = term->postings.n_tokens;
    }
    return ok;
}

static void estimate_df(struct scored_term *term, const struct search *search) {
    const struct postings *postings = &term->postings;
    term->df = (double)postings->n;
    if (postings->complete || postings->n == 0)
        return;
    double reached = (double)(postings->items[postings->n - 1].row_id - search->first_row + 1);
    double all = (double)(search->last_row - search->first_row + 1);
    term->df *= all / reached;
    if (term->df > (double)search->n_rows)
        term->df = (double)search->n_rows;
}

static int by_df(const void *a, const void *b) {
    const struct scored_term *const *x = a, *const *y = b;
    if ((*x)->df != (*y)->df)
        return (*x)->df < (*y)->df ? -1 : 1;
    return (*x)->term_i - (*y)->term_i;
}

static bool take_terms(struct search *search, struct error *err) {
    struct scored_term *order[LEXICAL_MAX_TERMS];
    int n = search->query->n_terms, n_all = n + search->query->n_excluded;
    for (int i = 0; i < n_all; i++) {
        struct scored_term *term = &search->terms[i];
        term->term = &search->query->terms[i];
        term->term_i = i;
        if (!read_postings(term, search, lexical_tuning.probe, err))
            return false;
        order[i] = term;
    }
    for (int i = 0; i < n; i++) {
        struct scored_term *term = &search->terms[i];
        estimate_df(term, search);
        double rows = (double)search->n_rows;
        term->weight = log(1 + (rows - term->df + 0.5) / (term->df + 0.5));
        if (term->term->common)
            term->weight *= lexical_tuning.common;
    }
    qsort(order, (size_t)n, sizeof order[0], by_df);
    int64_t spent = 0;
    for (int i = 0; i < n; i++) {
        struct scored_term *term = order[i];
        if (term->postings.n == 0)
            continue;
        if (spent > 0 && (double)spent + term->df > (double)lexical_tuning.budget)
            break;
        if (!term->postings.complete && !read_postings(term, search, lexical_tuning.hard_max, err))
            return false;
        spent += term->postings.n;
        term->taken = true;
    }
    return true;
}

/* ---- candidates ---- */

static double saturate(double tf, double length_factor) {
    double k1 = lexical_tuning.k1;
    return tf * (k1 + 1) / (tf + k1 * length_factor);
}

/* Adds a term's postings to the candidates; both ascend by row. */
static void merge_term(struct search *search, const struct scored_term *term) {
    const struct postings *postings = &term->postings;
    struct candidate *old = search->candidates;
    size_t n_old = search->n_candidates, n_new = (size_t)postings->n, i = 0, n = 0;
    struct candidate *merged = arena_alloc(search->arena, (n_old + n_new) * sizeof *merged);
    struct row_cursor cursor = {0};
    for (size_t p = 0; p < n_new; p++) {
        int64_t row_id = postings->items[p].row_id;
        if (search->allowed && !ranges_have(search->allowed, &cursor, row_id))
            continue;
        while (i < n_old && old[i].row_id < row_id)
            merged[n++] = old[i++];
        double score = term->weight * saturate(postings->items[p].tf, 1);
        if (i < n_old && old[i].row_id == row_id)
            score += old[i++].score;
        merged[n++] = (struct candidate){row_id, score};
    }
    while (i < n_old)
        merged[n++] = old[i++];
    search->candidates = merged;
    search->n_candidates = n;
}

static void leave_out(struct search *search, const struct postings *postings) {
    size_t n = 0;
    int64_t p = 0;
    for (size_t i = 0; i < search->n_candidates; i++) {
        while (p < postings->n && postings->items[p].row_id < search->candidates[i].row_id)
            p++;
        if (p == postings->n || postings->items[p].row_id != search->candidates[i].row_id)
            search->candidates[n++] = search->candidates[i];
    }
    search->n_candidates = n;
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

/* Scores the block's chunks by their texts, in row order; the excluded get a negative score. */
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
        double length = 1 - lexical_tuning.b + lexical_tuning.b * n_positions / average;
        double score = row ? 0 : -1;
        for (int t = 0; row && t < query->n_terms; t++) {
            if (tf[t] > 0)
                score += search->terms[t].weight * saturate(tf[t], length);
        }
        for (int t = query->n_terms; row && t < query->n_terms + query->n_excluded; t++)
            score = tf[t] > 0 ? -1 : score;
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

static bool rank(struct lexical_hit *hits, int *n, struct search *search, int limit,
                 struct error *err) {
    struct matcher *matcher = matcher_new(search->arena, search->query);
    size_t n_block = (size_t)lexical_tuning.n_refine, at = 0;
    if (n_block < (size_t)limit * 2)
        n_block = (size_t)limit * 2;
    qsort(search->candidates, search->n_candidates, sizeof *search->candidates, best_first);
    for (int round = 0; round < MAX_ROUNDS && *n < limit && at < search->n_candidates; round++) {
        size_t left = search->n_candidates - at, n_now = left < n_block ? left : n_block;
        struct candidate *block = search->candidates + at;
        if (!refine(search, matcher, block, n_now, err))
            return false;
        for (size_t i = 0; i < n_now && *n < limit && block[i].score >= 0; i++) {
            bool found = false;
            if (!describe(&hits[*n], &found, search, &block[i], err))
                return false;
            *n += found;
        }
        at += n_now;
    }
    return true;
}

static bool bounds(struct search *search, struct error *err) {
    return conn_number(&search->first_row, 0, search->conn, err,
                       "SELECT coalesce(min(row_id), 0) FROM chunks", "") &&
           conn_number(&search->last_row, 0, search->conn, err,
                       "SELECT coalesce(max(row_id), 0) FROM chunks", "");
}

bool lexical_search(struct lexical_hit **out, int *n, struct arena *arena, struct store *store,
                    const struct lexical_query *query, const struct search_filter *filter,
                    int limit, struct error *err) {
    *out = NULL;
    *n = 0;
    if (query->n_terms == 0 || limit <= 0)
        return true;
    struct search *search = mem_alloc(sizeof *search);
    struct row_ranges *allowed = NULL;
    search->arena = arena_new(0);
    search->query = query;
    *out = arena_alloc(arena, (size_t)limit * sizeof **out);
    bool ok = reader_take(&search->conn, store, err) && bounds(search, err) &&
              filter_ranges(&allowed, search->arena, search->conn, filter, err);
    search->allowed = allowed;
    ok = ok && take_terms(search, err);
    if (ok) {
        for (int i = 0; i < query->n_terms; i++) {
            if (search->terms[i].taken)
                merge_term(search, &search->terms[i]);
        }
        for (int i = query->n_terms; i < query->n_terms + query->n_excluded; i++)
            leave_out(search, &search->terms[i].postings);
        ok = rank(*out, n, search, limit, err);
    }
    reader_drop(search->conn);
    for (int i = 0; i < LEXICAL_MAX_TERMS; i++)
        postings_fini(&search->terms[i].postings);
    arena_free(search->arena);
    mem_free(search);
    return ok;
}
