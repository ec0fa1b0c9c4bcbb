/* Vectors in a ChromaDB server beside the embedded index, for shared.py: no worker, no models.
 *
 *   bench_shared put FOLDER FIRST N      documents from FIRST on, of N pages in all, of an index
 *                                        that bench_search built, into the server: a line each
 *   bench_shared query FOLDER FILE N N_VECTORS K [exact]
 *                                        every question (fp32) of FILE in turn, of both, twice: at
 *                                        first this process has nothing in memory, then it has;
 *                                        exact: then also all int8 codes of the index
 *
 * Answers are JSON, one object a line. The server and what else is to be set come from the
 * environment as the program's settings do (CHROMA_…, INDEX_…, SEARCH_RECALL). Pages have the
 * numbers that bench_search gave them; in the server their documents have other ids, which are
 * spread as real ones are. */
#include "chroma/chroma.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DOCUMENT_PAGES 50 /* bench_search's */
#define MAX_DOCUMENTS 20000
#define N_THREADS 2
#define SPACE "bench"

struct bench {
    struct settings settings;
    struct device *device;
    struct store *store;
    struct index *index;
    struct chroma *chroma;
    int space, dim;
    char (*ids)[SHA256_HEX + 1]; /* in the server, by document */
};

static _Noreturn void stop(const char *what, const struct error *err) {
    fprintf(stderr, "bench_shared: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
    exit(1);
}

static double now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

static long number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 0)
        stop(text, NULL);
    return value;
}

/* ---- opening ---- */

static void find_space(struct bench *bench) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct space_facts *spaces;
    int n;
    if (!index_spaces(&spaces, &n, arena, bench->index, &err))
        stop("spaces", &err);
    for (int i = 0; i < n; i++)
        if (strcmp(spaces[i].name, SPACE) == 0) {
            bench->space = spaces[i].space;
            bench->dim = spaces[i].dim;
        }
    if (bench->dim == 0)
        stop("the folder holds no index of bench_search's", NULL);
    arena_free(arena);
}

static void open_bench(struct bench *bench, const char *folder) {
    struct error err;
    int argc = 1;
    char *argv[] = {"bench_shared", NULL};
    memset(bench, 0, sizeof *bench);
    if (!settings_load(&bench->settings, &argc, argv, &err) ||
        !log_open(LOG_WARN, false, NULL, &err) ||
        !device_open(&bench->device, "cpu", N_THREADS, &err) ||
        !store_open(&bench->store, folder, &err))
        stop(folder, &err);
    const struct settings *settings = &bench->settings;
    struct index_settings how = {.pool_factor = settings->index_pool_factor,
                                 .code_bits = settings->index_code_bits,
                                 .keep_full = settings->index_full_vectors,
                                 .recall = settings->search_recall,
                                 .device = bench->device};
    struct chroma_settings server = {.host = settings->chroma_host,
                                     .port = settings->chroma_port,
                                     .ssl = settings->chroma_ssl,
                                     .tenant = settings->chroma_tenant,
                                     .database = settings->chroma_database,
                                     .token = settings->chroma_token,
                                     .visual_collection = settings->visual_collection,
                                     .text_collection = settings->text_collection};
    if (!index_open(&bench->index, bench->store, folder, &how, &err))
        stop(folder, &err);
    find_space(bench);
    struct chroma_spaces spaces = {{{SPACE, bench->dim, true}, {"", 0, false}}};
    if (!chroma_open(&bench->chroma, &server, &err) || !chroma_check(bench->chroma, &spaces, &err))
        stop("the server", &err);
    bench->ids = mem_alloc(MAX_DOCUMENTS * sizeof *bench->ids);
    for (long document = 0; document < MAX_DOCUMENTS; document++)
        sha256_hex(bench->ids[document], &document, sizeof document);
}

static void close_bench(struct bench *bench) {
    mem_free(bench->ids);
    chroma_close(bench->chroma);
    index_close(bench->index);
    store_close(bench->store);
    device_close(bench->device);
    settings_fini(&bench->settings);
}

/* ---- put ---- */

struct giving {
    struct bench *bench;
    char doc_id[SHA256_HEX + 1]; /* in the index */
};

static bool give_item(void *ctx, struct chroma_item *out, struct arena *arena, enum item_kind kind,
                      int item, struct error *err) {
    struct giving *giving = ctx;
    memset(out, 0, sizeof *out);
    if (!index_load_codes(&out->codes, arena, giving->bench->index, giving->bench->space,
                          giving->doc_id, kind, item, err))
        return false;
    out->n = out->codes.n;
    return true;
}

static void put_document(struct bench *bench, long document, int n_pages) {
    struct error err;
    struct giving giving = {.bench = bench};
    struct page_row pages[DOCUMENT_PAGES];
    struct chroma_source source = {.ctx = &giving, .item = give_item};
    enum chroma_put outcome;
    int64_t generation;
    snprintf(giving.doc_id, sizeof giving.doc_id, "%064lx", document + 1);
    for (int i = 0; i < n_pages; i++)
        pages[i] = (struct page_row){.width_pt = 595, .height_pt = 842};
    source.record = (struct chroma_record){.pages = pages,
                                           .revision = bench->ids[document],
                                           .worker = "bench:shared",
                                           .visual_space = SPACE,
                                           .text_space = ""};
    source.record.document = (struct document_row){.filename = "bench.txt",
                                                   .source_path = "",
                                                   .format = "txt",
                                                   .group = "text",
                                                   .title = "",
                                                   .author = "",
                                                   .created = "",
                                                   .warning = "",
                                                   .error_code = "",
                                                   .error_text = "",
                                                   .added_ms = 1,
                                                   .n_pages = n_pages};
    memcpy(source.record.document.doc_id, bench->ids[document], SHA256_HEX + 1);
    double begun = now_ms();
    if (!chroma_put_document(&outcome, &generation, bench->chroma, &source, &err))
        stop("put a document", &err);
    printf("{\"pages\": %d, \"ms\": %.1f}\n", n_pages, now_ms() - begun);
}

static int put(const char *folder, long first, long n_pages) {
    struct bench bench;
    open_bench(&bench, folder);
    if (first + (n_pages + DOCUMENT_PAGES - 1) / DOCUMENT_PAGES > MAX_DOCUMENTS)
        stop("too many pages", NULL);
    for (long document = first; n_pages > 0; document++, n_pages -= DOCUMENT_PAGES)
        put_document(&bench, document, (int)(n_pages < DOCUMENT_PAGES ? n_pages : DOCUMENT_PAGES));
    close_bench(&bench);
    return 0;
}

/* ---- query ---- */

struct asking {
    struct bench *bench;
    const float *query;
    int n_query, k;
};

static long document_of(const struct bench *bench, const char *doc_id) {
    for (long document = 0; document < MAX_DOCUMENTS; document++)
        if (strcmp(bench->ids[document], doc_id) == 0)
            return document;
    stop("a page that was not put by this program", NULL);
}

static void print_answer(const char *name, double ms, const struct index_effort *effort,
                         const struct index_hit *hits, int n, const struct bench *spread) {
    printf("\"%s\": {\"ms\": %.4f, \"scan_ms\": %.3f, \"pooled_ms\": %.3f, \"full_ms\": %.3f, ",
           name, ms, effort->scan_ms, effort->pooled_ms, effort->full_ms);
    printf("\"scanned\": %" PRId64 ", \"pooled\": %" PRId64 ", \"full\": %" PRId64 ", \"top\": [",
           effort->n_scanned, effort->n_pooled, effort->n_full);
    for (int i = 0; i < n; i++) {
        long document = spread ? document_of(spread, hits[i].doc_id)
                               : strtol(hits[i].doc_id, NULL, 16) - 1;
        printf("%s%ld", i ? ", " : "", document * DOCUMENT_PAGES + hits[i].item - 1);
    }
    printf("]}");
}

static void ask_index(const struct asking *asking, const char *name, bool exact) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    struct index_query asked = {.space = asking->bench->space,
                                .kind = ITEM_PAGE,
                                .vectors = asking->query,
                                .n_vectors = asking->n_query,
                                .limit = asking->k,
                                .exact = exact};
    double begun = now_ms();
    if (!index_search(&hits, &n, &effort, arena, asking->bench->index, &asked, &err))
        stop("search the index", &err);
    print_answer(name, now_ms() - begun, &effort, hits, n, NULL);
    arena_free(arena);
}

static void ask_server(const struct asking *asking) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    struct chroma_query asked = {.kind = ITEM_PAGE,
                                 .vectors = asking->query,
                                 .n_vectors = asking->n_query,
                                 .limit = asking->k};
    double begun = now_ms();
    if (!chroma_search(&hits, &n, &effort, arena, asking->bench->chroma, &asked, &err))
        stop("search the server", &err);
    print_answer("chroma", now_ms() - begun, &effort, hits, n, asking->bench);
    arena_free(arena);
}

static int query(const char *folder, const char *path, int n, int n_query, int k, bool exact) {
    struct bench bench;
    struct error err;
    char *data;
    size_t len;
    open_bench(&bench, folder);
    size_t one = (size_t)n_query * (size_t)bench.dim;
    if (!file_read(&data, &len, path, (size_t)64 << 20, &err))
        stop(path, &err);
    if (len != (size_t)n * one * sizeof(float))
        stop("the questions' file has another size", NULL);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < n; i++) {
            struct asking asking = {&bench, (const float *)data + (size_t)i * one, n_query, k};
            printf("{\"round\": %d, \"question\": %d, ", round, i);
            ask_index(&asking, "index", false);
            printf(", ");
            ask_server(&asking);
            if (round == 1 && exact) {
                printf(", ");
                ask_index(&asking, "exact", true);
            }
            printf("}\n");
        }
    mem_free(data);
    close_bench(&bench);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "put") == 0)
        return put(argv[2], number(argv[3]), number(argv[4]));
    if (argc >= 7 && strcmp(argv[1], "query") == 0)
        return query(argv[2], argv[3], (int)number(argv[4]), (int)number(argv[5]),
                     (int)number(argv[6]), argc == 8 && strcmp(argv[7], "exact") == 0);
    fprintf(stderr, "usage: bench_shared put|query FOLDER ...\n");
    return 2;
}
