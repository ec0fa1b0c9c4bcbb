/* Full-text search measured: bench_lexical JUDGED_FOLDER SCRATCH_FOLDER
 *
 * JUDGED_FOLDER holds corpus.jsonl, queries.jsonl and qrels.tsv (Cranfield). Two collections are
 * built in SCRATCH_FOLDER, once: `judged`, its documents, one chunk each, for the quality of the
 * order; and `large`, 200,000 distinct chunks of 200 words made of its sentences drawn at random
 * (fixed seed), for time. Prints one row a number: name, value, what is asked at least, ok or MISS.
 */
#include "store/store.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define N_LARGE 200000
#define CHUNK_WORDS 200
#define DOCUMENT_CHUNKS 20
#define MAX_QUERIES 1000
#define LIMIT 100

struct judged {
    struct arena *arena;
    json_t *documents, *queries;
    double ideal[MAX_QUERIES + 1]; /* by query id: best possible DCG@10 */
    int n_relevant[MAX_QUERIES + 1];
    json_t *relevant; /* "query document": true */
};

static _Noreturn void stop(const char *what, const struct error *err) {
    fprintf(stderr, "bench_lexical: %s: %s\n", what, err ? err->text : "");
    exit(1);
}

static void row(const char *name, const char *asked, bool ok, const char *format, ...)
    BASE_PRINTF(4, 5);
static void row(const char *name, const char *asked, bool ok, const char *format, ...) {
    char value[64];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    printf("%-58s %22s   %-26s %s\n", name, value, asked, ok ? "ok" : "MISS");
    fflush(stdout);
}

static double now_ms(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

/* ---- the judged collection ---- */

static json_t *load_lines(const char *dir, const char *name) {
    struct error err;
    char *path = mem_printf("%s/%s", dir, name), *data;
    size_t len;
    if (!file_read(&data, &len, path, (size_t)64 << 20, &err))
        stop(path, &err);
    json_t *list = json_array();
    for (char *line = data, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        json_t *item = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (item)
            json_array_append_new(list, item);
        end += *end == '\n';
    }
    mem_free(data);
    mem_free(path);
    return list;
}

static void load_judged(struct judged *judged, const char *dir) {
    struct error err;
    judged->arena = arena_new(0);
    judged->documents = load_lines(dir, "corpus.jsonl");
    judged->queries = load_lines(dir, "queries.jsonl");
    judged->relevant = json_object();
    char *path = mem_printf("%s/qrels.tsv", dir), *data;
    size_t len;
    if (!file_read(&data, &len, path, (size_t)64 << 20, &err))
        stop(path, &err);
    char *save = NULL;
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        int query, document;
        double grade;
        if (sscanf(line, "%d\t%d\t%lf", &query, &document, &grade) != 3 || grade <= 0 ||
            query > MAX_QUERIES)
            continue;
        char key[64];
        snprintf(key, sizeof key, "%d %d", query, document);
        json_object_set_new(judged->relevant, key, json_true());
        if (judged->n_relevant[query]++ < 10)
            judged->ideal[query] += 1 / log2(1 + judged->n_relevant[query]);
    }
    mem_free(data);
    mem_free(path);
}

/* ---- building ---- */

static void put_document(struct store *store, const char *name, char *const *texts, int n_texts) {
    struct error err;
    struct store_tx *tx;
    struct chunk_row chunks[DOCUMENT_CHUNKS] = {0};
    struct page_row page = {.width_pt = 595, .height_pt = 842};
    struct document_row row = {.filename = name,
                               .format = "txt",
                               .group = "text",
                               .added_ms = 1,
                               .n_pages = 1,
                               .n_chunks = n_texts};
    bool existed;
    sha256_hex(row.doc_id, name, strlen(name));
    for (int i = 0; i < n_texts; i++) {
        chunks[i].ordinal = i;
        chunks[i].n_words = CHUNK_WORDS;
        chunks[i].text = texts[i];
    }
    if (!store_begin(&tx, store, &err) || !store_put_document(tx, &existed, &row, &err) ||
        !store_put_reading(tx, &row, &page, chunks, n_texts, &err) || !store_commit(tx, &err))
        stop(name, &err);
}

static void build_judged(struct store *store, const struct judged *judged) {
    size_t i;
    json_t *document;
    json_array_foreach(judged->documents, i, document) {
        char *text = mem_printf("%s\n%s", json_string_value(json_object_get(document, "title")),
                                json_string_value(json_object_get(document, "text")));
        put_document(store, json_string_value(json_object_get(document, "id")), &text, 1);
        mem_free(text);
    }
}

static uint64_t random_next(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* All sentences of the collection, apart at " . ". */
static char **split_sentences(size_t *n, const struct judged *judged) {
    size_t cap = 1 << 16, i;
    char **sentences = mem_alloc(cap * sizeof *sentences);
    json_t *document;
    *n = 0;
    json_array_foreach(judged->documents, i, document) {
        char *text = arena_strdup(judged->arena,
                                  json_string_value(json_object_get(document, "text")));
        while (text && *n < cap) {
            char *end = strstr(text, " . ");
            if (end)
                *end = '\0';
            if (strchr(text, ' '))
                sentences[(*n)++] = text;
            text = end ? end + 3 : NULL;
        }
    }
    return sentences;
}

static char *draw_chunk(char *const *sentences, size_t n, uint64_t *state) {
    struct buf text = {0};
    int n_words = 0;
    while (n_words < CHUNK_WORDS) {
        const char *word = sentences[random_next(state) % n];
        while (*word && n_words < CHUNK_WORDS) {
            size_t len = strcspn(word, " ");
            if (len > 0 && n_words++ > 0)
                buf_putc(&text, ' ');
            buf_append(&text, word, len);
            word += len + (word[len] == ' ');
        }
        if (n_words < CHUNK_WORDS)
            buf_puts(&text, " .");
    }
    return buf_take(&text);
}

static double build_large(struct store *store, const struct judged *judged) {
    size_t n;
    char **sentences = split_sentences(&n, judged);
    uint64_t state = 20260101;
    double begun_ms = now_ms();
    for (int i = 0; i < N_LARGE / DOCUMENT_CHUNKS; i++) {
        char *texts[DOCUMENT_CHUNKS], name[32];
        for (int c = 0; c < DOCUMENT_CHUNKS; c++)
            texts[c] = draw_chunk(sentences, n, &state);
        snprintf(name, sizeof name, "large-%d", i);
        put_document(store, name, texts, DOCUMENT_CHUNKS);
        for (int c = 0; c < DOCUMENT_CHUNKS; c++)
            mem_free(texts[c]);
    }
    mem_free(sentences);
    return (now_ms() - begun_ms) / 1e3;
}

/* ---- measuring ---- */

static double dcg(const struct judged *judged, int query_id, const struct lexical_hit *hits, int n,
                  struct store *store) {
    struct arena *arena = arena_new(0);
    double sum = 0;
    for (int i = 0; i < n && i < 10; i++) {
        struct document_row row;
        struct error err;
        bool found;
        if (!store_find_document(&row, &found, arena, store, hits[i].doc_id, &err))
            stop("document", &err);
        char key[64];
        snprintf(key, sizeof key, "%d %s", query_id, row.filename);
        if (json_object_get(judged->relevant, key))
            sum += 1 / log2(2 + i);
    }
    arena_free(arena);
    return sum;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void search_once(struct lexical_hit **hits, int *n, struct arena *arena, struct store *store,
                        json_t *query) {
    struct error err;
    const char *text = json_string_value(json_object_get(query, "text"));
    if (!lexical_search(hits, n, arena, store, lexical_parse(arena, text), NULL, LIMIT, &err))
        stop(text, &err);
}

static void measure_quality(struct store *store, const struct judged *judged) {
    double sum = 0;
    int n_judged = 0;
    size_t i;
    json_t *query;
    json_array_foreach(judged->queries, i, query) {
        int id = atoi(json_string_value(json_object_get(query, "id"))), n;
        struct arena *arena = arena_new(0);
        struct lexical_hit *hits;
        search_once(&hits, &n, arena, store, query);
        if (id <= MAX_QUERIES && judged->ideal[id] > 0) {
            sum += dcg(judged, id, hits, n, store) / judged->ideal[id];
            n_judged++;
        }
        arena_free(arena);
    }
    double ndcg = n_judged > 0 ? sum / n_judged : 0;
    row("lexical search: nDCG@10 on the judged collection", ">= 0.375", ndcg >= 0.375, "%.4f",
        ndcg);
}

static void measure_time(struct store *store, const struct judged *judged) {
    size_t n_queries = json_array_size(judged->queries), i;
    double *times = mem_alloc(n_queries * sizeof *times);
    json_t *query;
    for (int round = 0; round < 2; round++) { /* the first one warms the caches */
        json_array_foreach(judged->queries, i, query) {
            struct arena *arena = arena_new(0);
            struct lexical_hit *hits;
            int n;
            double begun_ms = now_ms();
            search_once(&hits, &n, arena, store, query);
            times[i] = now_ms() - begun_ms;
            arena_free(arena);
        }
    }
    qsort(times, n_queries, sizeof *times, by_value);
    double p50 = times[n_queries / 2], p99 = times[n_queries * 99 / 100];
    row("lexical search over 200,000 chunks: p50", "<= 25 ms", p50 <= 25, "%.1f ms", p50);
    row("lexical search over 200,000 chunks: p99", "<= 60 ms", p99 <= 60, "%.1f ms", p99);
    mem_free(times);
}

/* A collection of the scratch folder; *is_new when it has to be filled. A half-built one is begun
 * again. */
static struct store *open_collection(bool *is_new, const char *scratch, const char *name,
                                     int64_t n_wanted) {
    struct error err;
    struct store *store;
    struct store_counts counts;
    char *dir = mem_printf("%s/%s", scratch, name);
    if (!store_open(&store, dir, &err) || !store_counts(&counts, store, &err))
        stop(dir, &err);
    *is_new = counts.chunks != n_wanted;
    if (*is_new) {
        store_close(store);
        if (!dir_remove(dir, &err) || !store_open(&store, dir, &err))
            stop(dir, &err);
    }
    mem_free(dir);
    return store;
}

int main(int argc, char **argv) {
    struct judged judged = {0};
    struct error err;
    struct store_counts counts;
    bool is_new;
    if (argc != 3) {
        fprintf(stderr, "usage: bench_lexical JUDGED_FOLDER SCRATCH_FOLDER\n");
        return 2;
    }
    log_open(LOG_WARN, false, NULL, &err);
    load_judged(&judged, argv[1]);
    struct store *store = open_collection(&is_new, argv[2], "judged",
                                          (int64_t)json_array_size(judged.documents));
    if (is_new)
        build_judged(store, &judged);
    measure_quality(store, &judged);
    store_close(store);

    store = open_collection(&is_new, argv[2], "large", N_LARGE);
    if (is_new)
        row("full text: chunks indexed a second", "-", true, "%.0f",
            N_LARGE / build_large(store, &judged));
    if (!store_counts(&counts, store, &err))
        stop("counts", &err);
    row("full text: database bytes a chunk, with its text", "-", true, "%.0f",
        (double)counts.database_bytes / N_LARGE);
    measure_time(store, &judged);
    store_close(store);
    json_decref(judged.documents);
    json_decref(judged.queries);
    json_decref(judged.relevant);
    arena_free(judged.arena);
    return 0;
}
