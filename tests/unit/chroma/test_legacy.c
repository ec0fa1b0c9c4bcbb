/* The Python worker's collections. Without arguments: tests of what is made of a row's metadata. As
 * `test_legacy URL`: answers commands, a line each, about the collections of a server there, for
 * tests/server/test_legacy_module.py:
 *
 *   facts | list | find ID | chunks ID | chunk ID ORDINAL | items ID KIND
 *   item ID KIND ITEM FILE                    its vectors into a file
 *   search KIND LIMIT quick|exact all|odd FILE N_IDS ID…   question vectors from a file; odd: items
 *                                             with odd numbers alone may be found
 *   together N search …                       the same search by N threads; what they agree on
 *
 * each with a line of JSON: {"error", "code"} or an object of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chroma/legacy_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define DIM CHROMA_LEGACY_DIM

static struct error err;

#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

/* ---- metadata of a row ----------------------------------------------------------------------- */

static size_t gzip(uint8_t *out, size_t room, const void *data, size_t len) {
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data,
                       .avail_in = (uInt)len,
                       .next_out = out,
                       .avail_out = (uInt)room};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return room - stream.avail_out;
}

static json_t *metadata_of(const char *shape, const void *packed, size_t len) {
    struct buf text = {0};
    chroma_base64_put(&text, packed, len);
    json_t *metadata = json_pack("{s:s,s:s}", "embedding_shape", shape, "full_embeddings",
                                 text.data ? text.data : "");
    buf_fini(&text);
    return metadata;
}

static bool take(float **vectors, int *n, json_t *metadata) {
    struct legacy_rows rows = {0};
    bool ok = legacy_vectors(vectors, n, &rows, metadata, &err);
    json_decref(metadata);
    return ok;
}

static void refused(json_t *metadata) {
    float *vectors;
    int n;
    assert_false(take(&vectors, &n, metadata));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_null(vectors);
    assert_int_equal(n, 0);
}

/* Unit vectors. */
static void fill(float *vectors, int n) {
    static uint32_t state = 1;
    for (int v = 0; v < n; v++) {
        double square = 0;
        for (int d = 0; d < DIM; d++) {
            state = state * 1664525 + 1013904223;
            vectors[v * DIM + d] = (float)(state >> 8) / (1 << 23) - 1;
            square += (double)vectors[v * DIM + d] * (double)vectors[v * DIM + d];
        }
        for (int d = 0; d < DIM; d++)
            vectors[v * DIM + d] /= (float)sqrt(square);
    }
}

static void shapes_are_taken_strictly(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int n, dim;
    } shapes[] = {
        {"(1031, 128)", 1031, 128},
        {"(1, 1)", 1, 1},
        {"(65536, 4096)", 65536, 4096},
        {"(3, 768)", 3, 768},
        {"", 0, 0},
        {"(", 0, 0},
        {"(1031,128)", 0, 0},
        {"[1031, 128]", 0, 0},
        {"(1031, 128) ", 0, 0},
        {" (1031, 128)", 0, 0},
        {"(0, 128)", 0, 0},
        {"(-1, 128)", 0, 0},
        {"(+1, 128)", 0, 0},
        {"(1, 0)", 0, 0},
        {"(65537, 128)", 0, 0},
        {"(1, 4097)", 0, 0},
        {"(1.0, 128)", 0, 0},
        {"(1, 128, 1)", 0, 0},
        {"(1,)", 0, 0},
        {"(1, )", 0, 0},
        {"(99999999999999999999, 128)", 0, 0},
        {"(__import__('os'), 128)", 0, 0},
    };
    for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
        json_t *metadata = json_pack("{s:s}", "embedding_shape", shapes[i].text);
        int n = 0, dim = 0;
        bool ok = legacy_shape(&n, &dim, metadata);
        if (ok != (shapes[i].n > 0) || (ok && (n != shapes[i].n || dim != shapes[i].dim)))
            fail_msg("%s: %d, %d, %d", shapes[i].text, ok, n, dim);
        json_decref(metadata);
    }
    int n, dim;
    json_t *none = json_pack("{s:i}", "embedding_shape", 7);
    assert_false(legacy_shape(&n, &dim, none));
    json_decref(none);
}

static void vectors_come_back(void **state) {
    (void)state;
    enum { N = 40 };
    static float vectors[N * DIM];
    static uint8_t packed[sizeof vectors * 2];
    fill(vectors, N);
    float *out;
    int n;
    must(take(
        &out, &n,
        metadata_of("(40, 128)", packed, gzip(packed, sizeof packed, vectors, sizeof vectors))));
    assert_int_equal(n, N);
    assert_memory_equal(out, vectors, sizeof vectors);
    mem_free(out);

    /* Zeros are filling; other lengths become 1. */
    memset(vectors, 0, DIM * sizeof *vectors);
    memset(vectors + 7 * DIM, 0, DIM * sizeof *vectors);
    for (int d = 0; d < DIM; d++)
        vectors[3 * DIM + d] *= 5;
    must(take(
        &out, &n,
        metadata_of("(40, 128)", packed, gzip(packed, sizeof packed, vectors, sizeof vectors))));
    assert_int_equal(n, N - 2);
    assert_memory_equal(out, vectors + DIM, 2 * DIM * sizeof *vectors);
    for (int d = 0; d < DIM; d++)
        assert_float_equal(out[2 * DIM + d], vectors[3 * DIM + d] / 5, 1e-6);
    assert_memory_equal(out + 6 * DIM, vectors + 8 * DIM, (N - 8) * DIM * sizeof *vectors);
    mem_free(out);

    /* Nothing but filling, and another dimension: there are none. */
    memset(vectors, 0, sizeof vectors);
    size_t len = gzip(packed, sizeof packed, vectors, sizeof vectors);
    must(take(&out, &n, metadata_of("(40, 128)", packed, len)));
    assert_null(out);
    assert_int_equal(n, 0);
    must(take(&out, &n, metadata_of("(40, 768)", packed, len)));
    assert_null(out);
}

static void broken_vectors_are_refused(void **state) {
    (void)state;
    enum { N = 4 };
    static float vectors[N * DIM];
    static uint8_t packed[sizeof vectors * 2 + 1];
    fill(vectors, N);
    size_t len = gzip(packed, sizeof packed, vectors, sizeof vectors);
    refused(metadata_of("(3, 128)", packed, len));
    refused(metadata_of("(5, 128)", packed, len));
    refused(metadata_of("(65536, 4096)", packed, len));
    refused(metadata_of("(4, 128]", packed, len));
    for (size_t cut = 0; cut < len; cut += 97)
        refused(metadata_of("(4, 128)", packed, cut));
    refused(metadata_of("(4, 128)", packed, len - 1));
    packed[len] = 0;
    refused(metadata_of("(4, 128)", packed, len + 1)); /* something behind it */
    packed[len - 6] ^= 1;                              /* the checksum */
    refused(metadata_of("(4, 128)", packed, len));
    packed[len - 6] ^= 1;
    packed[0] ^= 1;
    refused(metadata_of("(4, 128)", packed, len));
    refused(metadata_of("(4, 128)", vectors, sizeof vectors)); /* not packed at all */
    static const char *const texts[] = {"",   "A",   "AAA", "!!!!", "H4sI",
                                        "#0", "#-1", "#",   "====", "H4sIAAAA\\n"};
    for (size_t i = 0; i < BASE_COUNT(texts); i++)
        refused(json_pack("{s:s,s:s}", "embedding_shape", "(4, 128)", "full_embeddings", texts[i]));
    refused(json_pack("{s:s,s:i}", "embedding_shape", "(4, 128)", "full_embeddings", 3));
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        fill(vectors, N);
        vectors[3 * DIM + 100] = bad[i];
        len = gzip(packed, sizeof packed, vectors, sizeof vectors);
        refused(metadata_of("(4, 128)", packed, len));
    }
}

/* Some kilobytes of gzip, 16 MiB of zeros. */
static void what_unpacks_to_more_is_refused(void **state) {
    (void)state;
    enum { LEN = 1 << 24 };
    void *zeros = mem_alloc(LEN);
    uint8_t *packed = mem_alloc(1 << 16);
    size_t len = gzip(packed, 1 << 16, zeros, LEN);
    refused(metadata_of("(4, 128)", packed, len));
    mem_free(zeros);
    mem_free(packed);
}

static void ids_are_hashes(void **state) {
    (void)state;
    char id[SHA256_HEX + 1], wanted[SHA256_HEX + 1];
    const char *text = "python-worker:0f8fad5b-d9cb-469f-a165-70867728950e";
    chroma_legacy_id(id, "0f8fad5b-d9cb-469f-a165-70867728950e");
    sha256_hex(wanted, text, strlen(text));
    assert_string_equal(id, wanted);
}

/* ---- commands -------------------------------------------------------------------------------- */

static bool keep_document(void *ctx, const struct chroma_legacy_document *document,
                          struct error *why) {
    (void)why;
    const struct document_row *row = &document->document;
    json_t *one = json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i,s:b,s:I}", "doc_id", row->doc_id,
        "their_id", document->their_id, "filename", row->filename, "source_path", row->source_path,
        "title", row->title, "author", row->author, "created", row->created, "format", row->format,
        "n_pages", row->n_pages, "n_chunks", row->n_chunks, "page_rows", document->n_page_rows,
        "chunk_rows", document->n_chunk_rows, "dim", document->dim, "cut", document->cut,
        "added_ms", (json_int_t)row->added_ms);
    json_array_append_new(ctx, one);
    return true;
}

static json_t *chunk_json(const struct chunk_row *chunk) {
    return json_pack("{s:s,s:i,s:i,s:i,s:i,s:s,s:s}", "doc_id", chunk->doc_id, "ordinal",
                     chunk->ordinal, "words", chunk->n_words, "first_page", chunk->first_page,
                     "last_page", chunk->last_page, "text", chunk->text, "heading_path",
                     chunk->heading_path);
}

static bool odd_alone(void *ctx, bool *allowed, const struct index_hit *hits, int n,
                      struct error *why) {
    (void)ctx, (void)why;
    for (int i = 0; i < n; i++)
        allowed[i] = hits[i].item % 2 == 1;
    return true;
}

static const char *next(char **rest) {
    char *word = strtok_r(NULL, " \n", rest);
    return word ? word : "";
}

static enum item_kind next_kind(char **rest) {
    return strcmp(next(rest), "page") == 0 ? ITEM_PAGE : ITEM_CHUNK;
}

static bool search(json_t **out, struct chroma_legacy *legacy, struct arena *arena, char **rest,
                   struct error *why) {
    enum { MOST_IDS = 64 };
    struct chroma_query query = {.kind = next_kind(rest), .limit = atoi(next(rest))};
    query.exact = strcmp(next(rest), "exact") == 0;
    query.allow = strcmp(next(rest), "odd") == 0 ? odd_alone : NULL;
    char *data;
    size_t len;
    if (!file_read(&data, &len, next(rest), 1 << 24, why))
        return false;
    query.vectors = (const float *)(void *)data;
    query.n_vectors = (int)(len / sizeof(float) / DIM);
    const char *ids[MOST_IDS];
    query.n_doc_ids = atoi(next(rest));
    for (int i = 0; i < query.n_doc_ids; i++)
        ids[i] = next(rest);
    query.doc_ids = query.n_doc_ids > 0 ? ids : NULL;
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    bool ok = chroma_legacy_search(&hits, &n, &effort, arena, legacy, &query, why);
    mem_free(data);
    if (!ok)
        return false;
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("[s,i,f]", hits[i].doc_id, hits[i].item, hits[i].score));
    *out = json_pack("{s:o,s:I,s:I,s:f}", "hits", list, "scanned", (json_int_t)effort.n_scanned,
                     "scored", (json_int_t)effort.n_full, "ms", effort.full_ms);
    return true;
}

/* ---- several at once ---- */

struct asker {
    struct chroma_legacy *legacy;
    const char *words;
    json_t *said;
    struct thread *thread;
};

static void ask_some(void *arg) {
    struct asker *asker = arg;
    for (int i = 0; i < 3; i++) {
        struct arena *arena = arena_new(0);
        char *words = arena_strdup(arena, asker->words), *rest = NULL;
        strtok_r(words, " \n", &rest);
        json_t *said = NULL;
        struct error why;
        if (!search(&said, asker->legacy, arena, &rest, &why))
            said = json_pack("{s:s}", "error", why.text);
        json_decref(asker->said);
        asker->said = said;
        arena_free(arena);
    }
}

static bool together(json_t **out, struct chroma_legacy *legacy, char **rest) {
    enum { MOST = 32 };
    struct asker askers[MOST] = {0};
    int n = atoi(next(rest)), n_alike = 0;
    n = n < MOST ? n : MOST;
    for (int i = 0; i < n; i++) {
        askers[i] = (struct asker){.legacy = legacy, .words = *rest};
        if (!thread_start(&askers[i].thread, "asker", ask_some, &askers[i], &err))
            return false;
    }
    for (int i = 0; i < n; i++)
        thread_join(askers[i].thread);
    for (int i = 0; i < n; i++) {
        if (json_object_get(askers[i].said, "error"))
            fprintf(stderr, "%s\n", json_string_value(json_object_get(askers[i].said, "error")));
        n_alike += json_equal(json_object_get(askers[i].said, "hits"),
                              json_object_get(askers[0].said, "hits"));
        if (i > 0)
            json_decref(askers[i].said);
    }
    json_object_set_new(askers[0].said, "alike", json_integer(n_alike));
    *out = askers[0].said;
    return true;
}

static bool item(json_t **out, struct chroma_legacy *legacy, struct arena *arena, char **rest) {
    const char *id = next(rest);
    enum item_kind kind = next_kind(rest);
    int number = atoi(next(rest)), n;
    const char *path = next(rest);
    float *vectors;
    bool found;
    if (!chroma_legacy_load_item(&vectors, &n, &found, arena, legacy, id, kind, number, &err) ||
        (found && !file_write_durable(path, vectors, (size_t)n * DIM * sizeof *vectors, &err)))
        return false;
    *out = json_pack("{s:b,s:i}", "found", found, "n", n);
    return true;
}

static bool documents(json_t **out, struct chroma_legacy *legacy, struct arena *arena,
                      const char *verb, char **rest) {
    json_t *list = json_array();
    *out = json_pack("{s:o}", "documents", list);
    if (strcmp(verb, "list") == 0)
        return chroma_legacy_list(legacy, keep_document, list, &err);
    struct chroma_legacy_document document;
    bool found;
    return chroma_legacy_find(&document, &found, arena, legacy, next(rest), &err) &&
           (!found || keep_document(list, &document, &err));
}

static bool chunks(json_t **out, struct chroma_legacy *legacy, struct arena *arena,
                   const char *verb, char **rest) {
    json_t *list = json_array();
    *out = json_pack("{s:o}", "chunks", list);
    const char *id = next(rest);
    struct chunk_row *rows, one;
    int n;
    bool found, ok;
    if (strcmp(verb, "chunk") == 0) {
        ok = chroma_legacy_find_chunk(&one, &found, arena, legacy, id, atoi(next(rest)), &err);
        n = ok && found;
        rows = &one;
    } else {
        ok = chroma_legacy_load_chunks(&rows, &n, arena, legacy, id, &err);
    }
    for (int i = 0; ok && i < n; i++)
        json_array_append_new(list, chunk_json(&rows[i]));
    return ok;
}

static bool answer(json_t **out, struct chroma_legacy *legacy, struct arena *arena, char *line) {
    char *rest;
    const char *verb = strtok_r(line, " \n", &rest);
    if (!verb)
        return error_set(&err, ERROR_INPUT, "no command");
    if (strcmp(verb, "facts") == 0) {
        struct chroma_legacy_facts facts;
        if (!chroma_legacy_facts(&facts, legacy, &err))
            return false;
        *out = json_pack("{s:i,s:i,s:i}", "documents", facts.n_documents, "pages", facts.n_pages,
                         "chunks", facts.n_chunks);
        return true;
    }
    if (strcmp(verb, "list") == 0 || strcmp(verb, "find") == 0)
        return documents(out, legacy, arena, verb, &rest);
    if (strcmp(verb, "chunks") == 0 || strcmp(verb, "chunk") == 0)
        return chunks(out, legacy, arena, verb, &rest);
    if (strcmp(verb, "item") == 0)
        return item(out, legacy, arena, &rest);
    if (strcmp(verb, "search") == 0)
        return search(out, legacy, arena, &rest, &err);
    if (strcmp(verb, "together") == 0)
        return together(out, legacy, &rest);
    if (strcmp(verb, "items") == 0) {
        const char *id = next(&rest);
        int *numbers, n;
        if (!chroma_legacy_items(&numbers, &n, arena, legacy, id, next_kind(&rest), &err))
            return false;
        json_t *list = json_array();
        for (int i = 0; i < n; i++)
            json_array_append_new(list, json_integer(numbers[i]));
        *out = json_pack("{s:o}", "items", list);
        return true;
    }
    return error_set(&err, ERROR_INPUT, "%s is no command", verb);
}

static int serve(const char *url) {
    char host[64], line[1 << 16];
    int port;
    if (sscanf(url, "http://%63[^:]:%d", host, &port) != 2)
        return 2;
    struct chroma_settings settings = {.host = host,
                                       .port = port,
                                       .tenant = "default_tenant",
                                       .database = "default_database",
                                       .visual_collection = "visual_collection",
                                       .text_collection = "text_collection"};
    struct chroma *chroma;
    struct chroma_legacy *legacy;
    if (!chroma_open(&chroma, &settings, &err) ||
        !chroma_legacy_open(&legacy, chroma, NULL, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    while (fgets(line, sizeof line, stdin)) {
        struct arena *arena = arena_new(0);
        json_t *out = NULL;
        bool ok = answer(&out, legacy, arena, line);
        if (!ok) {
            json_decref(out);
            out = json_pack("{s:s,s:s}", "error", err.text, "code", err.code);
        }
        json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
        putchar('\n');
        fflush(stdout);
        json_decref(out);
        arena_free(arena);
    }
    chroma_legacy_close(legacy);
    chroma_close(chroma);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_taken_strictly),
        cmocka_unit_test(vectors_come_back),
        cmocka_unit_test(broken_vectors_are_refused),
        cmocka_unit_test(what_unpacks_to_more_is_refused),
        cmocka_unit_test(ids_are_hashes),
    };
    if (argc > 1)
        return serve(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
