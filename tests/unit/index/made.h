/* An index in a fresh folder, documents of three pages, and what is asked of them. */
#ifndef TESTS_INDEX_MADE_H
#define TESTS_INDEX_MADE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/internal.h"

#define DIM 64

struct made {
    char *dir;
    struct store *store;
    struct index *index;
    struct arena *arena;
    struct index_settings settings;
    char damaged[4096]; /* "1:2 000001.seg full codes; ", as it was told */
};
extern struct error err; /* of the tests' own thread */

#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

int made_open(void **state);
int made_close(void **state);
/* Store and index are closed and opened again; the latter alone, by itself. */
void made_reopen(struct made *made);
void made_reopen_index(struct made *made);

void id_of(char out[SHA256_HEX + 1], int n);
int space_of(struct made *made, const char *name, bool late);
/* A reading of three pages and n_chunks passages; the caller ends tx. */
bool begin_reading(struct store_tx **tx, struct made *made, int n, int n_chunks, struct error *why);
/* n unit vectors, the same for the same seed. */
void fill(float *vectors, int n, unsigned seed);
/* Document n with n_items items of n_vectors each, filled from seeds n * 1000 + item on. */
bool put_items(struct made *made, int space, int n, enum item_kind kind, int n_items, int n_vectors,
               struct error *why);
void put(struct made *made, int space, int n, enum item_kind kind, int n_items, int n_vectors);
void remove_document(struct made *made, int n);

/* The items that answer a question filled from a seed, and their scores. */
struct answers {
    int n;
    struct answer {
        int n, item; /* document, page or passage */
        double score;
    } items[4096];
};
bool ask_for(struct answers *out, struct made *made, int space, enum item_kind kind, int limit,
             const struct search_filter *filter, unsigned seed, int n_query, struct error *why);
/* "2:1 1:0": document and item, by document and item. */
const char *found(struct made *made, int space, enum item_kind kind,
                  const struct search_filter *filter);
/* Each answer's score is what its document's own vectors give, about. */
void check_scores(const struct answers *answers, enum item_kind kind, int n_vectors, bool late,
                  unsigned seed, int n_query, double tolerance);
struct space_facts facts_of(struct made *made, int space);
char *segment_file(struct made *made, int space, int sequence);
int64_t size_of(const char *path);

#endif
