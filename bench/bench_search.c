/* The index measured by itself, for search.py: no server, no models.
 *
 *   bench_search build FOLDER N N_VECTORS DIM       pages from standard input, float16
 *   bench_search query FOLDER FILE N N_VECTORS K [exact]
 *                                                   every question (fp32) of FILE in turn, twice;
 *                                                   the second time counts
 *   bench_search change FOLDER FIRST N N_VECTORS DIM
 *                                                   pages from standard input, each added as a
 *                                                   document of its own, then each removed
 *
 * Answers are JSON, one object a line. FOLDER is a data folder of its own; its documents hold
 * DOCUMENT_PAGES pages each, so page p is page p % DOCUMENT_PAGES of document p / DOCUMENT_PAGES.
 * Settings come from the environment as the program's do (INDEX_…, SEARCH_RECALL). */
#include "index/index.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DOCUMENT_PAGES 50
#define ADDED_DOCUMENTS 1000000000 /* numbers of documents that `change` adds begin here */
#define N_THREADS 2
#define SPACE "bench"

struct bench {
    struct settings settings;
    struct device *device;
    struct store *store;
    struct index *index;
    int space;
};

static _Noreturn void stop(const char *what, const struct error *err) {
    fprintf(stderr, "bench_search: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
    exit(1);
}

static double now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[n / 2];
}

static long number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 0)
        stop(text, NULL);
    return value;
}

/* ---- opening ---- */

static void open_bench(struct bench *bench, const char *folder, int dim) {
    struct error err;
    int argc = 1;
    char *argv[] = {"bench_search", NULL};
    memset(bench, 0, sizeof *bench);
    if (mkdir(folder, 0755) && errno != EEXIST)
        stop(folder, NULL);
    if (!settings_load(&bench->settings, &argc, argv, &err) ||
        !log_open(LOG_WARN, false, NULL, &err) ||
        !device_open(&bench->device, "cpu", N_THREADS, &err) ||
        !store_open(&bench->store, folder, &err))
        stop(folder, &err);
    struct index_settings how = {.pool_factor = bench->settings.index_pool_factor,
                                 .code_bits = bench->settings.index_code_bits,
                                 .keep_full = bench->settings.index_full_vectors,
                                 .recall = bench->settings.search_recall,
                                 .device = bench->device};
    struct space_info info = {.name = SPACE, .dim = dim, .late = true};
    if (!index_open(&bench->index, bench->store, folder, &how, &err) ||
        !index_space(&bench->space, bench->index, &info, &err))
        stop(folder, &err);
}

static void close_bench(struct bench *bench) {
    index_close(bench->index);
    store_close(bench->store);
    device_close(bench->device);
    settings_fini(&bench->settings);
}

/* ---- documents ---- */

static void name_document(char doc_id[SHA256_HEX + 1], long document) {
    snprintf(doc_id, SHA256_HEX + 1, "%064lx", document + 1);
}

static float half_to_float(uint16_t half) {
    int exponent = half >> 10 & 31, bits = half & 1023;
    double size = exponent ? ldexp(1024 + bits, exponent - 25) : ldexp(bits, -24);
    return (float)(half >> 15 ? -size : size);
}

/* False at the end. */
static bool read_page(float *out, uint16_t *raw, const float *table, size_t n) {
    size_t got = fread(raw, sizeof *raw, n, stdin);
    if (got && got < n)
        stop("the last page is torn", NULL);
    for (size_t i = 0; i < got; i++)
        out[i] = table[raw[i]];
    return got == n;
}

static float *half_table(void) {
    float *table = mem_alloc(65536 * sizeof *table);
    for (int i = 0; i < 65536; i++)
        table[i] = half_to_float((uint16_t)i);
    return table;
}

/* A document of n_pages pages with their vectors, durable when this returns. */
static void put_document(struct bench *bench, long document, const float *vectors, int n_pages,
                         int n_vectors, int dim) {
    struct error err;
    struct index_writer *writer;
    struct store_tx *tx;
    struct page_row pages[DOCUMENT_PAGES];
    struct document_row row = {.filename = "bench",
                               .source_path = "",
                               .format = "txt",
                               .group = "text",
                               .added_ms = 1,
                               .n_pages = n_pages};
    bool existed;
    name_document(row.doc_id, document);
    for (int i = 0; i < n_pages; i++)
        pages[i] = (struct page_row){.width_pt = 595, .height_pt = 842};
    if (!index_writer_open(&writer, bench->index, bench->space, row.doc_id, &err))
        stop("open a writer", &err);
    for (int i = 0; i < n_pages; i++)
        if (!index_writer_add(writer, ITEM_PAGE, i + 1, vectors + (size_t)i * n_vectors * dim,
                              n_vectors, &err))
            stop("add a page", &err);
    if (!index_writer_sync(writer, &err) || !store_begin(&tx, bench->store, &err) ||
        !store_put_document(tx, &existed, &row, &err) ||
        !store_put_reading(tx, &row, pages, NULL, 0, &err) ||
        !index_writer_commit(writer, tx, &err) || !store_commit(tx, &err))
        stop("add a document", &err);
    index_writer_free(writer);
}

static void remove_document(struct bench *bench, long document) {
    struct error err;
    struct store_tx *tx;
    char doc_id[SHA256_HEX + 1];
    bool found;
    int n_pages, n_chunks;
    name_document(doc_id, document);
    if (!store_begin(&tx, bench->store, &err) ||
        !store_delete_document(tx, &found, &n_pages, &n_chunks, doc_id, &err) ||
        !store_commit(tx, &err))
        stop("remove a document", &err);
}

/* ---- build ---- */

struct building {
    struct bench *bench;
    pthread_mutex_t reading;
    const float *table;
    long n_pages, n_read;
    int n_vectors, dim;
};

static void *build_some(void *ctx) {
    struct building *building = ctx;
    size_t page = (size_t)building->n_vectors * (size_t)building->dim;
    float *vectors = mem_alloc(DOCUMENT_PAGES * page * sizeof *vectors);
    uint16_t *raw = mem_alloc(page * sizeof *raw);
    for (;;) {
        int n = 0;
        pthread_mutex_lock(&building->reading);
        long document = building->n_read / DOCUMENT_PAGES;
        while (n < DOCUMENT_PAGES && building->n_read < building->n_pages &&
               read_page(vectors + (size_t)n * page, raw, building->table, page)) {
            building->n_read++;
            n++;
        }
        pthread_mutex_unlock(&building->reading);
        if (n)
            put_document(building->bench, document, vectors, n, building->n_vectors, building->dim);
        if (n < DOCUMENT_PAGES)
            break;
    }
    mem_free(raw);
    mem_free(vectors);
    return NULL;
}

static void print_sizes(struct bench *bench) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct space_facts *spaces;
    int n;
    if (!index_spaces(&spaces, &n, arena, bench->index, &err))
        stop("spaces", &err);
    for (int i = 0; i < n; i++)
        if (spaces[i].n_items) {
            double n_items = (double)spaces[i].n_items;
            printf("\"bytes_code\": %.1f, \"bytes_all\": %.1f, \"bytes_file\": %.1f, ",
                   (double)(spaces[i].scan_bytes + spaces[i].pooled_bytes) / n_items,
                   (double)(spaces[i].scan_bytes + spaces[i].pooled_bytes + spaces[i].full_bytes) /
                       n_items,
                   (double)spaces[i].file_bytes / n_items);
        }
    arena_free(arena);
}

static int build(const char *folder, long n_pages, int n_vectors, int dim) {
    struct bench bench;
    struct building building = {
        &bench, PTHREAD_MUTEX_INITIALIZER, half_table(), n_pages, 0, n_vectors, dim};
    pthread_t threads[N_THREADS];
    double begun = now_ms();
    open_bench(&bench, folder, dim);
    for (int i = 0; i < N_THREADS; i++)
        if (pthread_create(&threads[i], NULL, build_some, &building))
            stop("thread", NULL);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    if (building.n_read != n_pages)
        stop("fewer pages came than were promised", NULL);
    printf("{");
    print_sizes(&bench);
    printf("\"pages\": %ld, \"seconds\": %.1f}\n", n_pages, (now_ms() - begun) / 1e3);
    close_bench(&bench);
    return 0;
}

/* ---- query ---- */

static long status_kb(const char *name) {
    char line[256];
    long kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtol(line + strlen(name), NULL, 10);
    if (file)
        fclose(file);
    return kb;
}

static void ask(struct bench *bench, const float *query, int n_query, int k, bool exact,
                bool print) {
    struct error err;
    struct arena *arena = arena_new(0);
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    struct index_query asked = {.space = bench->space,
                                .kind = ITEM_PAGE,
                                .vectors = query,
                                .n_vectors = n_query,
                                .limit = k,
                                .exact = exact};
    double begun = now_ms();
    if (!index_search(&hits, &n, &effort, arena, bench->index, &asked, &err))
        stop("search", &err);
    double ms = now_ms() - begun;
    if (print) {
        printf("{\"ms\": %.4f, \"scan_ms\": %.3f, \"pooled_ms\": %.3f, \"full_ms\": %.3f, ", ms,
               effort.scan_ms, effort.pooled_ms, effort.full_ms);
        printf("\"pooled\": %" PRId64 ", \"full\": %" PRId64 ", \"top\": [", effort.n_pooled,
               effort.n_full);
        for (int i = 0; i < n; i++)
            printf("%s%ld", i ? ", " : "",
                   (strtol(hits[i].doc_id, NULL, 16) - 1) * DOCUMENT_PAGES + hits[i].item - 1);
        printf("]}\n");
    }
    arena_free(arena);
}

static int query(const char *folder, const char *path, int n, int n_query, int k, bool exact) {
    struct bench bench;
    struct error err;
    char *data;
    size_t len;
    if (!file_read(&data, &len, path, (size_t)64 << 20, &err))
        stop(path, &err);
    int dim = (int)(len / sizeof(float) / (size_t)n / (size_t)n_query);
    size_t one = (size_t)n_query * (size_t)dim;
    if (len != (size_t)n * one * sizeof(float))
        stop("the questions' file has another size", NULL);
    open_bench(&bench, folder, dim);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < n; i++)
            ask(&bench, (const float *)data + (size_t)i * one, n_query, k, exact, round == 1);
    printf("{\"anonymous_kb\": %ld, \"resident_kb\": %ld}\n", status_kb("RssAnon:"),
           status_kb("VmRSS:"));
    close_bench(&bench);
    mem_free(data);
    return 0;
}

/* ---- change ---- */

static int change(const char *folder, long first, int n, int n_vectors, int dim) {
    struct bench bench;
    size_t page = (size_t)n_vectors * (size_t)dim;
    float *vectors = mem_alloc(page * sizeof *vectors), *table = half_table();
    uint16_t *raw = mem_alloc(page * sizeof *raw);
    double *added = mem_alloc((size_t)n * sizeof *added),
           *removed = mem_alloc((size_t)n * sizeof *removed);
    open_bench(&bench, folder, dim);
    for (int i = 0; i < n; i++) {
        if (!read_page(vectors, raw, table, page))
            stop("fewer pages came than were promised", NULL);
        double begun = now_ms();
        put_document(&bench, ADDED_DOCUMENTS + first + i, vectors, 1, n_vectors, dim);
        added[i] = now_ms() - begun;
    }
    for (int i = 0; i < n; i++) {
        double begun = now_ms();
        remove_document(&bench, ADDED_DOCUMENTS + first + i);
        removed[i] = now_ms() - begun;
    }
    printf("{\"add_ms\": %.3f, \"remove_ms\": %.3f}\n", median(added, n), median(removed, n));
    close_bench(&bench);
    mem_free(removed);
    mem_free(added);
    mem_free(raw);
    mem_free(table);
    mem_free(vectors);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "build") == 0)
        return build(argv[2], number(argv[3]), (int)number(argv[4]), (int)number(argv[5]));
    if (argc >= 7 && strcmp(argv[1], "query") == 0)
        return query(argv[2], argv[3], (int)number(argv[4]), (int)number(argv[5]),
                     (int)number(argv[6]), argc == 8 && strcmp(argv[7], "exact") == 0);
    if (argc == 7 && strcmp(argv[1], "change") == 0)
        return change(argv[2], number(argv[3]), (int)number(argv[4]), (int)number(argv[5]),
                      (int)number(argv[6]));
    fprintf(stderr, "usage: bench_search build|query|change FOLDER ...\n");
    return 2;
}
