/* store, inside: what full-text search is made of. */
#ifndef DOCUSEARCH_STORE_LEXICAL_H
#define DOCUSEARCH_STORE_LEXICAL_H

#include "store/internal.h"

#define LEXICAL_MAX_TERMS 64
#define LEXICAL_MAX_PHRASE 64 /* tokens of a phrase: one bit each */

/* ---- filter.c ---- */

struct row_range {
    int64_t first, last;
};
/* Ascending, apart. */
struct row_ranges {
    struct row_range *items;
    size_t n;
    int64_t n_rows; /* at most: removed ones inside count */
};
struct row_cursor {
    size_t at;
};
/* Whether row_id is within; called with ascending row ids and one cursor, starting at 0. */
bool ranges_have(const struct row_ranges *ranges, struct row_cursor *cursor, int64_t row_id);
/* *out NULL: the filter lets everything through. */
bool filter_ranges(struct row_ranges **out, struct arena *arena, struct conn *conn,
                   const struct search_filter *filter, struct error *err);

/* A space's rows that the filter (NULL: none) lets through: their ids. */
sqlite3_stmt *filter_vectors(struct arena *arena, struct conn *conn, int64_t space,
                             enum vector_kind kind, const struct search_filter *filter,
                             struct error *err);

/* ---- fulltext.c ---- */

struct posting {
    int64_t row_id;
    uint32_t tf;
};
/* A term's, ascending by row id; only those the filter lets through are kept, all are counted.
 * Zero-initialise; postings_fini. */
struct postings {
    struct posting *items;
    int64_t n, cap;
    int64_t n_seen;   /* with those not let through */
    int64_t last_row; /* the last one seen */
    bool complete;    /* false: there are more */
    int64_t n_rows;   /* chunks in the index; 0 where the term is in none */
    int64_t n_tokens; /* of all of them */
};
bool postings_grow(struct postings *postings);
void postings_fini(struct postings *postings);
/* Reads until max_kept are kept or max_seen were seen. tokens: one, or a phrase's, separated by
 * blanks; allowed NULL: all. */
bool fulltext_postings(struct postings *out, struct conn *conn, const char *tokens,
                       const struct row_ranges *allowed, int64_t max_kept, int64_t max_seen,
                       struct error *err);

/* ---- query.c ---- */

enum term_kind { TERM_WORD, TERM_PHRASE, TERM_PREFIX };
struct lexical_term {
    enum term_kind kind;
    bool excluded;
    bool common;        /* a function word of English */
    const char *tokens; /* separated by blanks; of a prefix: the folded word */
    int n_tokens;
};
struct lexical_query {
    struct lexical_term terms[LEXICAL_MAX_TERMS]; /* wanted ones first */
    int n_terms, n_excluded;                      /* wanted; after them, left out */
};

/* ---- match.c ---- */

/* Finds a query's terms in a text. */
struct matcher;
struct matcher *matcher_new(struct arena *arena, const struct lexical_query *query);
/* Each place where a term stands, bytes of the text; the order is that of the places' ends. */
typedef void (*match_visitor)(void *ctx, int term_i, uint32_t start, uint32_t end);
/* How often each term stands in the text (tf: one a term, the excluded ones' after the others) and
 * how many positions the text has. visit may be NULL. */
void matcher_run(struct matcher *matcher, uint32_t *tf, uint32_t *n_positions, const char *text,
                 size_t len, match_visitor visit, void *ctx);

/* ---- lexical.c ---- */

/* What a search may cost; tests lower it. Postings, but n_refine. */
struct lexical_tuning {
    int64_t probe;   /* read of every term */
    int64_t budget;  /* of all terms together; the rarest may pass it */
    int64_t longest; /* of one term; a filter's rejects count an eighth */
    int n_refine;    /* chunks scored by their text */
    int n_whole;     /* as many as a filter may let through to be scored by their text, all */
};
extern struct lexical_tuning lexical_tuning;

#endif
