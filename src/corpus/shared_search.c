/* Searches by the vectors of the shared store: a few documents that a filter lets through are named
 * to it; of a wide filter, and of documents that are not to be shown yet, its candidates are judged
 * here. */
#include "corpus/older.h"

#include <string.h>

#define NARROW 100 /* documents that are named in a question, at most */

struct judging {
    struct corpus *corpus;
    const struct search_filter *filter;
};

static bool on_page(const struct search_filter *filter, const struct index_hit *hit) {
    if (!filter || hit->kind != ITEM_PAGE)
        return true; /* a passage's pages are looked at when it is loaded */
    return (filter->page_from == 0 || hit->item >= filter->page_from) &&
           (filter->page_to == 0 || hit->item <= filter->page_to);
}

/* All of whose rows were counted back. */
static bool is_shared(bool *out, struct corpus *corpus, const char *doc_id, struct error *err) {
    struct arena *arena = arena_new(0);
    struct shared_row shared;
    bool found;
    bool ok = store_find_shared(&shared, &found, arena, corpus->store, doc_id, err);
    *out = ok && found && shared.generation > 0;
    arena_free(arena);
    return ok;
}

/* Candidates of one document often stand together: each is looked up once a run. */
static bool allow(void *ctx, bool *allowed, const struct index_hit *hits, int n,
                  struct error *err) {
    const struct judging *judging = ctx;
    struct arena *arena = arena_new(0);
    const char **ids = arena_alloc(arena, ((size_t)n + 1) * sizeof *ids);
    for (int i = 0; i < n; i++)
        ids[i] = hits[i].doc_id;
    bool ok = store_filter_documents(allowed, judging->corpus->store, ids, n, judging->filter, err);
    for (int i = 0; i < n && ok; i++) {
        allowed[i] = allowed[i] && on_page(judging->filter, &hits[i]);
        if (allowed[i] && i > 0 && allowed[i - 1] && strcmp(ids[i], ids[i - 1]) == 0)
            continue;
        if (allowed[i])
            ok = is_shared(&allowed[i], judging->corpus, ids[i], err);
    }
    arena_free(arena);
    return ok;
}

/* The documents that a narrow filter lets through; *n -1: it is wide. */
static bool name_documents(const char ***out, int *n, struct arena *arena, struct corpus *corpus,
                           const struct search_filter *filter, struct error *err) {
    char(*ids)[SHA256_HEX + 1];
    *n = -1;
    if (store_filter_is_open(filter))
        return true;
    if (!store_list_filtered(&ids, n, arena, corpus->store, filter, NARROW, err))
        return false;
    *out = arena_alloc(arena, ((size_t)NARROW + 1) * sizeof **out);
    for (int i = 0; i < *n; i++)
        (*out)[i] = ids[i];
    return true;
}

static bool is_among(const struct index_hit *hits, int n, const struct index_hit *hit) {
    for (int i = 0; i < n; i++) {
        if (hits[i].item == hit->item && strcmp(hits[i].doc_id, hit->doc_id) == 0)
            return true;
    }
    return false;
}

/* Two lists, best first, as one; what stands in both counts once. */
static void merge(struct index_hit **out, int *n, struct arena *arena, const struct index_hit *more,
                  int n_more, int limit) {
    const struct index_hit *first = *out;
    int n_first = *n, i = 0, k = 0, n_all = 0;
    if (n_more == 0)
        return;
    struct index_hit *all = arena_alloc(arena, (size_t)(n_first + n_more) * sizeof *all);
    while (n_all < limit && (i < n_first || k < n_more)) {
        bool from_more = i == n_first || (k < n_more && more[k].score > first[i].score);
        const struct index_hit *next = from_more ? &more[k++] : &first[i++];
        if (!is_among(all, n_all, next))
            all[n_all++] = *next;
    }
    *out = all;
    *n = n_all;
}

bool corpus_shared_search(struct index_hit **out, int *n, struct shared_gaps *gaps,
                          struct index_effort *effort, struct arena *arena, struct corpus *corpus,
                          const struct index_query *query, struct error *err) {
    struct judging judging = {corpus, query->filter};
    const char **ids = NULL;
    int n_ids;
    int64_t epoch;
    struct shared_counts counts;
    *n = 0;
    *gaps = (struct shared_gaps){0};
    *effort = (struct index_effort){0};
    if (!corpus_shared_epoch(&epoch, corpus, err) ||
        !store_count_shared(&counts, corpus->store, epoch, err) ||
        !name_documents(&ids, &n_ids, arena, corpus, query->filter, err))
        return false;
    gaps->n_unshared = counts.unshared + counts.unseen;
    if (n_ids == 0)
        return true;
    struct chroma_query asked = {.kind = query->kind,
                                 .vectors = query->vectors,
                                 .n_vectors = query->n_vectors,
                                 .doc_ids = n_ids > 0 ? ids : NULL,
                                 .n_doc_ids = n_ids > 0 ? n_ids : 0,
                                 .allow = allow,
                                 .ctx = &judging,
                                 .limit = query->limit,
                                 .exact = query->exact};
    struct index_hit *older = NULL;
    int n_older;
    if (!chroma_search(out, n, effort, arena, corpus->shared->chroma, &asked, err) ||
        !corpus_older_search(&older, &n_older, &gaps->n_older, arena, corpus, &asked, err) ||
        !corpus_shared_check_epoch(corpus, epoch, err))
        return false;
    merge(out, n, arena, older, n_older, query->limit);
    return true;
}

bool corpus_shared_fit(struct index_fit *out, struct arena *arena, struct corpus *corpus,
                       const char *doc_id, enum item_kind kind, int item, const float *query,
                       int n_query, struct error *err) {
    struct chroma_item there;
    bool found;
    if (!chroma_load_item(&there, &found, arena, corpus->shared->chroma, doc_id, kind, item, err))
        return false;
    if (found && there.codes.n > 0)
        return index_codes_fit(out, arena, &there.codes, query, n_query, err);
    if (!corpus_older_fit(out, &found, arena, corpus, doc_id, kind, item, query, n_query, err))
        return false;
    if (!found)
        return error_set(err, ERROR_MISSING, "the store has no vectors of this item");
    return true;
}
