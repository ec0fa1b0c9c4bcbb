/* See made.h. */
#include "made.h"
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct error err;

static void note_damage(void *ctx, const struct index_damage *damage) {
    struct made *made = ctx;
    size_t n = strlen(made->damaged);
    snprintf(made->damaged + n, sizeof made->damaged - n, "%ld:%d %s %s; ",
             strtol(damage->doc_id, NULL, 16), damage->item, damage->file ? damage->file : "-",
             damage->part);
}

void made_reopen_index(struct made *made) {
    index_close(made->index);
    made->index = NULL;
    must(index_open(&made->index, made->store, made->dir, &made->settings, &err));
    index_on_damage(made->index, note_damage, made);
}

void made_reopen(struct made *made) {
    index_close(made->index);
    store_close(made->store);
    made->index = NULL;
    made->store = NULL;
    must(store_open(&made->store, made->dir, &err));
    made_reopen_index(made);
}

int made_open(void **state) {
    struct made *made = mem_alloc(sizeof *made);
    const char *root = getenv("TMPDIR");
    made->dir = mem_printf("%s/docusearch-index-XXXXXX", root && root[0] ? root : "/tmp");
    assert_non_null(mkdtemp(made->dir));
    made->arena = arena_new(0);
    made->settings = (struct index_settings){
        .pool_factor = 2, .code_bits = 4, .keep_full = true, .recall = 1};
    index_segment_slots = 4096;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    made_reopen(made);
    *state = made;
    return 0;
}

int made_close(void **state) {
    struct made *made = *state;
    index_close(made->index);
    store_close(made->store);
    arena_free(made->arena);
    must(dir_remove(made->dir, &err));
    mem_free(made->dir);
    mem_free(made);
    return 0;
}

void id_of(char out[SHA256_HEX + 1], int n) {
    snprintf(out, SHA256_HEX + 1, "%064x", (unsigned)n);
}

int space_of(struct made *made, const char *name, bool late) {
    int space = -1;
    struct space_info info = {.name = name, .dim = DIM, .late = late};
    must(index_space(&space, made->index, &info, &err));
    assert_true(space > 0);
    return space;
}

bool begin_reading(struct store_tx **tx, struct made *made, int n, int n_chunks,
                   struct error *why) {
    bool existed;
    struct document_row row = {.filename = "f.txt",
                               .source_path = "",
                               .format = n % 2 ? "txt" : "md",
                               .group = "text",
                               .added_ms = n,
                               .n_pages = 3,
                               .n_chunks = n_chunks};
    struct page_row pages[3] = {{100, 100, 0}};
    struct chunk_row *chunks = mem_alloc(((size_t)n_chunks + 1) * sizeof *chunks);
    for (int i = 0; i < n_chunks; i++)
        chunks[i] = (struct chunk_row){.ordinal = i,
                                       .first_page = i + 1,
                                       .last_page = i + 1,
                                       .text = "word",
                                       .heading_path = ""};
    id_of(row.doc_id, n);
    bool ok = store_begin(tx, made->store, why);
    if (ok && (!store_put_document(*tx, &existed, &row, why) ||
               !store_put_reading(*tx, &row, pages, chunks, n_chunks, why))) {
        store_rollback(*tx);
        ok = false;
    }
    mem_free(chunks);
    return ok;
}

void fill(float *vectors, int n, unsigned seed) {
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int v = 0; v < n; v++) {
        double sum = 0;
        for (int d = 0; d < DIM; d++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            vectors[v * DIM + d] = (float)(state >> 40) / (float)(1 << 23) - 1;
            sum += (double)vectors[v * DIM + d] * (double)vectors[v * DIM + d];
        }
        for (int d = 0; d < DIM; d++)
            vectors[v * DIM + d] /= (float)sqrt(sum);
    }
}

bool put_items(struct made *made, int space, int n, enum item_kind kind, int n_items, int n_vectors,
               struct error *why) {
    struct index_writer *writer;
    char id[SHA256_HEX + 1];
    id_of(id, n);
    float *vectors = mem_alloc((size_t)n_vectors * DIM * sizeof *vectors);
    bool ok = index_writer_open(&writer, made->index, space, id, why);
    for (int i = 0; i < n_items && ok; i++) {
        int item = kind == ITEM_PAGE ? i + 1 : i;
        fill(vectors, n_vectors, (unsigned)(n * 1000 + item));
        ok = index_writer_add(writer, kind, item, vectors, n_vectors, why);
    }
    mem_free(vectors);
    struct store_tx *tx = NULL;
    ok = ok && index_writer_count(writer) == n_items && index_writer_sync(writer, why) &&
         begin_reading(&tx, made, n, 3, why);
    if (ok) {
        ok = index_writer_commit(writer, tx, why);
        if (ok)
            ok = store_commit(tx, why);
        else
            store_rollback(tx);
    }
    index_writer_free(writer);
    return ok;
}

void put(struct made *made, int space, int n, enum item_kind kind, int n_items, int n_vectors) {
    must(put_items(made, space, n, kind, n_items, n_vectors, &err));
}

void remove_document(struct made *made, int n) {
    struct store_tx *tx;
    bool was_there;
    int n_pages, n_chunks;
    char id[SHA256_HEX + 1];
    id_of(id, n);
    must(store_begin(&tx, made->store, &err));
    must(store_delete_document(tx, &was_there, &n_pages, &n_chunks, id, &err));
    must(store_commit(tx, &err));
}

bool ask_for(struct answers *out, struct made *made, int space, enum item_kind kind, int limit,
             const struct search_filter *filter, unsigned seed, int n_query, struct error *why) {
    struct arena *arena = arena_new(0);
    float *question = mem_alloc((size_t)n_query * DIM * sizeof *question);
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    fill(question, n_query, seed);
    struct index_query query = {.space = space,
                                .kind = kind,
                                .vectors = question,
                                .n_vectors = n_query,
                                .filter = filter,
                                .limit = limit,
                                .exact = true};
    bool ok = index_search(&hits, &n, &effort, arena, made->index, &query, why);
    out->n = 0;
    for (int i = 0; ok && i < n && i < (int)BASE_COUNT(out->items); i++) {
        if (hits[i].kind != kind || (i > 0 && hits[i].score > hits[i - 1].score))
            ok = error_set(why, ERROR_INTERNAL, "hit %d is out of order", i);
        out->items[out->n++] = (struct answer){(int)strtol(hits[i].doc_id, NULL, 16), hits[i].item,
                                               hits[i].score};
    }
    mem_free(question);
    arena_free(arena);
    return ok;
}

static int by_item(const void *a, const void *b) {
    const struct answer *one = a, *other = b;
    return one->n != other->n ? one->n - other->n : one->item - other->item;
}

const char *found(struct made *made, int space, enum item_kind kind,
                  const struct search_filter *filter) {
    struct answers *answers = mem_alloc(sizeof *answers);
    struct buf text = {0};
    must(ask_for(answers, made, space, kind, 4096, filter, 7, 1, &err));
    qsort(answers->items, (size_t)answers->n, sizeof answers->items[0], by_item);
    for (int i = 0; i < answers->n; i++)
        buf_printf(&text, "%s%d:%d", i ? " " : "", answers->items[i].n, answers->items[i].item);
    const char *copy = arena_strdup(made->arena, text.data ? text.data : "");
    buf_fini(&text);
    mem_free(answers);
    return copy;
}

void check_scores(const struct answers *answers, enum item_kind kind, int n_vectors, bool late,
                  unsigned seed, int n_query, double tolerance) {
    float *question = mem_alloc((size_t)n_query * DIM * sizeof *question);
    float *vectors = mem_alloc((size_t)n_vectors * DIM * sizeof *vectors);
    (void)kind;
    fill(question, n_query, seed);
    for (int i = 0; i < answers->n; i++) {
        const struct answer *answer = &answers->items[i];
        fill(vectors, n_vectors, (unsigned)(answer->n * 1000 + answer->item));
        double wanted = maxsim_of(question, late ? n_query : 1, vectors, n_vectors, DIM);
        if (fabs(answer->score - wanted) > tolerance * n_query)
            fail_msg("document %d, item %d: %g, not %g", answer->n, answer->item, answer->score,
                     wanted);
    }
    mem_free(question);
    mem_free(vectors);
}

struct space_facts facts_of(struct made *made, int space) {
    struct space_facts *facts;
    int n;
    must(index_spaces(&facts, &n, made->arena, made->index, &err));
    for (int i = 0; i < n; i++) {
        if (facts[i].space == space)
            return facts[i];
    }
    fail_msg("no space %d", space);
    return facts[0];
}

char *segment_file(struct made *made, int space, int sequence) {
    return arena_printf(made->arena, "%s/vectors/%d/%06d.seg", made->dir, space, sequence);
}

int64_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? info.st_size : -1;
}
