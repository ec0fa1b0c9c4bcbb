/* store: what is still to be embedded. The second part of its face. */
#ifndef DOCUSEARCH_STORE_LACKING_H
#define DOCUSEARCH_STORE_LACKING_H

#include "store/store.h"

/* The document's rows of a space go; *n counts them. */
bool store_drop_vectors(struct store_tx *tx, int64_t *n, int space, const char *doc_id,
                        struct error *err);
/* Own READY documents that have pages or chunks and, in one of the spaces needed (2 at most; 0: as
 * if it had no rows), none of their vectors; ascending by number, after < doc_no <= until. */
struct vector_need {
    enum vector_kind kind;
    int space;
};
struct lacking_row {
    int64_t doc_no;
    char doc_id[SHA256_HEX + 1];
    const char *filename;
    int n_pages;
};
bool store_list_lacking(struct lacking_row **out, int *n, struct arena *arena, struct store *store,
                        const struct vector_need *needs, int n_needs, int64_t after, int64_t until,
                        int limit, struct error *err);
struct lacking_count {
    int64_t documents, pages, last; /* last: the highest doc_no */
};
bool store_count_lacking(struct lacking_count *out, struct store *store,
                         const struct vector_need *needs, int n_needs, int64_t after, int64_t until,
                         struct error *err);
/* Of a kind: those that wait or run. */
bool store_count_live_jobs(int64_t *n, struct store *store, const char *kind, struct error *err);

#endif
