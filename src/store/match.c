/* Finds a query's terms in a text: the exact frequencies that scoring refines with, and the ranges
 * that highlights show.
 *
 * Phrases are matched as bits (shift-and: Baeza-Yates and Gonnet, "A new approach to text
 * searching", 1992): bit i of a phrase's state says that its tokens 0..i end at this position. */
#include "store/lexical.h"

#include <string.h>

#define N_BUCKETS 64

/* A token of the index that some term is made of. */
struct needle {
    const char *text;
    size_t len;
    int term_i, token_i, next; /* next in its bucket, -1 at the end */
};

struct phrase_state {
    uint64_t ends, here; /* ends: at the position before; here: tokens that stand at this one */
};

struct matcher {
    const struct lexical_query *query;
    int n_terms;
    struct needle *needles;
    int buckets[N_BUCKETS];
    struct token_sieve sieve;
    int prefixes[LEXICAL_MAX_TERMS], n_prefixes;
    int phrases[LEXICAL_MAX_TERMS], n_phrases;
    struct phrase_state states[LEXICAL_MAX_TERMS];
    int64_t position;                    /* the last one with a token of interest, or -1 */
    uint32_t starts[LEXICAL_MAX_PHRASE]; /* of the last positions */
    uint32_t end;                        /* of this one */

    uint32_t *tf;
    match_visitor visit;
    void *ctx;
};

static unsigned bucket_of(const char *text, size_t len) {
    if (len == 0) /* a word of combining marks alone folds to nothing */
        return 0;
    unsigned first = (unsigned char)text[0], last = (unsigned char)text[len - 1];
    return (first * 7 + last * 3 + (unsigned)len) % N_BUCKETS;
}

struct matcher *matcher_new(struct arena *arena, const struct lexical_query *query) {
    struct matcher *matcher = arena_alloc(arena, sizeof *matcher);
    matcher->query = query;
    matcher->n_terms = query->n_terms + query->n_excluded;
    int n_needles = 0, at = 0;
    for (int i = 0; i < matcher->n_terms; i++)
        n_needles += query->terms[i].n_tokens;
    matcher->needles = arena_alloc(arena, (size_t)n_needles * sizeof *matcher->needles);
    for (int i = 0; i < N_BUCKETS; i++)
        matcher->buckets[i] = -1;
    for (int i = 0; i < matcher->n_terms; i++) {
        const struct lexical_term *term = &query->terms[i];
        const char *token = term->tokens;
        if (term->kind == TERM_PREFIX)
            matcher->prefixes[matcher->n_prefixes++] = i;
        if (term->kind == TERM_PHRASE)
            matcher->phrases[matcher->n_phrases++] = i;
        for (int t = 0; t < term->n_tokens; t++) {
            size_t len = strcspn(token, " ");
            token_sieve_add(&matcher->sieve, token, len);
            if (term->kind != TERM_PREFIX) {
                int *bucket = &matcher->buckets[bucket_of(token, len)];
                matcher->needles[at] = (struct needle){token, len, i, t, *bucket};
                *bucket = at++;
            }
            token += len + (token[len] == ' ');
        }
    }
    return matcher;
}

static void found(struct matcher *matcher, int term_i, uint32_t start, uint32_t end) {
    matcher->tf[term_i]++;
    if (matcher->visit)
        matcher->visit(matcher->ctx, term_i, start, end);
}

/* The position is complete: all its tokens of interest were seen. */
static void end_position(struct matcher *matcher) {
    if (matcher->position < 0)
        return;
    for (int i = 0; i < matcher->n_phrases; i++) {
        int term_i = matcher->phrases[i];
        struct phrase_state *state = &matcher->states[i];
        int n = matcher->query->terms[term_i].n_tokens;
        state->ends = (state->ends << 1 | 1) & state->here;
        state->here = 0;
        if (state->ends >> (n - 1) & 1) {
            uint64_t first = (uint64_t)(matcher->position - n + 1);
            found(matcher, term_i, matcher->starts[first % LEXICAL_MAX_PHRASE], matcher->end);
        }
    }
}

static void begin_position(struct matcher *matcher, const struct token *token) {
    end_position(matcher);
    if (token->position != matcher->position + 1) {
        for (int i = 0; i < matcher->n_phrases; i++)
            matcher->states[i].ends = 0;
    }
    matcher->position = token->position;
    matcher->starts[token->position % LEXICAL_MAX_PHRASE] = token->start;
    matcher->end = token->end;
}

static void match_prefixes(struct matcher *matcher, const struct token *token) {
    for (int i = 0; i < matcher->n_prefixes; i++) {
        const char *prefix = matcher->query->terms[matcher->prefixes[i]].tokens;
        size_t len = strlen(prefix);
        if (token->word_len >= len && memcmp(token->word, prefix, len) == 0)
            found(matcher, matcher->prefixes[i], token->start, token->end);
    }
}

static bool match_token(void *ctx, const struct token *token) {
    struct matcher *matcher = ctx;
    if (token->position != matcher->position)
        begin_position(matcher, token);
    if (matcher->n_prefixes > 0 && token->word)
        match_prefixes(matcher, token);
    for (int at = matcher->buckets[bucket_of(token->text, token->len)]; at >= 0;
         at = matcher->needles[at].next) {
        const struct needle *needle = &matcher->needles[at];
        if (needle->len != token->len || memcmp(needle->text, token->text, token->len) != 0)
            continue;
        if (matcher->query->terms[needle->term_i].kind == TERM_WORD) {
            found(matcher, needle->term_i, token->start, token->end);
            continue;
        }
        for (int i = 0; i < matcher->n_phrases; i++) {
            if (matcher->phrases[i] == needle->term_i)
                matcher->states[i].here |= (uint64_t)1 << needle->token_i;
        }
    }
    return true;
}

void matcher_run(struct matcher *matcher, uint32_t *tf, uint32_t *n_positions, const char *text,
                 size_t len, match_visitor visit, void *ctx) {
    memset(tf, 0, (size_t)matcher->n_terms * sizeof *tf);
    memset(matcher->states, 0, sizeof matcher->states);
    matcher->tf = tf;
    matcher->position = -1;
    matcher->visit = visit;
    matcher->ctx = ctx;
    *n_positions = tokens_visit_some(text, len, &matcher->sieve, match_token, matcher);
    end_position(matcher);
}
