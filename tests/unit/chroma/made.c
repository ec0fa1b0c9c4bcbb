/* See made.h. */
#include "made.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TOPICS = 80, TOPICS_A_PAGE = 6 };

struct error err;

double made_random(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

static double normal(uint64_t *state) {
    double a = made_random(state), b = made_random(state);
    return sqrt(-2 * log(a + 1e-12)) * cos(6.283185307179586 * b);
}

static void unit(float *v, int dim) {
    double sum = 0;
    for (int d = 0; d < dim; d++)
        sum += (double)v[d] * v[d];
    for (int d = 0; d < dim; d++)
        v[d] = (float)(v[d] / sqrt(sum));
}

void made_id(char out[SHA256_HEX + 1], int number) {
    char text[32];
    snprintf(text, sizeof text, "document %d", number);
    sha256_hex(out, text, strlen(text));
}

static uint64_t seed_of(int number, int item, int version) {
    return (uint64_t)number * 1000003u + (uint64_t)item * 7919u + (uint64_t)version * 104729u + 1;
}

static void topic(float *out, int i) {
    uint64_t state = (uint64_t)i + 77777;
    for (int d = 0; d < DIM; d++)
        out[d] = (float)normal(&state);
    unit(out, DIM);
}

void made_codes(struct index_codes *out, struct arena *arena, int number, int page,
                const struct made_options *options) {
    int n = options->n_vectors, groups = CODE_GROUPS(n);
    uint64_t state = seed_of(number, page, options->version);
    float topics[TOPICS_A_PAGE][DIM], vector[DIM];
    for (int t = 0; t < TOPICS_A_PAGE; t++)
        topic(topics[t], (int)(made_random(&state) * N_TOPICS));
    size_t len = index_codes_bytes(n, DIM), codes = codes_bytes(n, DIM, 8);
    int8_t *bytes = arena_alloc(arena, len);
    uint16_t *scales = (uint16_t *)(void *)(bytes + codes);
    for (int v = 0; v < groups * CODE_GROUP; v++) {
        if (v < n) { /* the last group is filled up with the last one */
            const float *near = topics[(int)(made_random(&state) * TOPICS_A_PAGE)];
            for (int d = 0; d < DIM; d++)
                vector[d] = near[d] + 0.09f * (float)normal(&state);
            unit(vector, DIM);
        }
        float largest = 0;
        for (int d = 0; d < DIM; d++)
            largest = fmaxf(largest, fabsf(vector[d]));
        float scale = largest / 127;
        uint32_t bits;
        memcpy(&bits, &scale, sizeof bits);
        bits = (bits + 0xffff) & 0xffff0000u; /* bf16, upwards */
        memcpy(&scale, &bits, sizeof scale);
        scales[v] = (uint16_t)(bits >> 16);
        int8_t *group = bytes + (size_t)(v / CODE_GROUP) * CODE_GROUP * CODE_DIM(DIM);
        for (int d = 0; d < DIM; d++)
            group[d / 4 * 64 + v % CODE_GROUP * 4 + d % 4] = (int8_t)lrintf(vector[d] / scale);
    }
    must(index_codes_wrap(out, arena, bytes, len, n, DIM, &err));
}

void made_question(float *out, int n, int number, int page, const struct made_options *options,
                   float noise) {
    struct arena *arena = arena_new(0);
    struct index_codes codes;
    float *vectors;
    uint64_t state = seed_of(number, page, 99);
    made_codes(&codes, arena, number, page, options);
    must(index_codes_decode(&vectors, arena, &codes, &err));
    for (int q = 0; q < n; q++) {
        const float *from = vectors + (size_t)(made_random(&state) * codes.n) * DIM;
        for (int d = 0; d < DIM; d++)
            out[q * DIM + d] = from[d] + noise * (float)normal(&state);
        unit(out + q * DIM, DIM);
    }
    arena_free(arena);
}

void made_text_vector(float out[TEXT_DIM], int number, int chunk, int version) {
    uint64_t state = seed_of(number, chunk, version) + 5;
    for (int d = 0; d < TEXT_DIM; d++)
        out[d] = (float)normal(&state);
    unit(out, TEXT_DIM);
}

static bool give_item(void *ctx, struct chroma_item *out, struct arena *arena, enum item_kind kind,
                      int item, struct error *why) {
    struct made_source *made = ctx;
    (void)why;
    made->options.n_asked++;
    memset(out, 0, sizeof *out);
    if (kind == ITEM_PAGE) {
        made_codes(&out->codes, arena, made->number, item, &made->options);
        out->n = out->codes.n;
    } else if (item % 5 != 4) { /* some have none */
        float *vector = arena_alloc(arena, TEXT_DIM * sizeof *vector);
        made_text_vector(vector, made->number, item, made->options.version);
        out->n = 1;
        out->vector = vector;
    }
    return true;
}

static bool is_cancelled(void *ctx) {
    struct made_source *made = ctx;
    return made->options.cancel_after > 0 && made->options.n_asked >= made->options.cancel_after;
}

void made_source(struct made_source *out, int number, const struct made_options *options) {
    memset(out, 0, sizeof *out);
    out->options = *options;
    out->number = number;
    out->arena = arena_new(0);
    struct chroma_record *record = &out->source.record;
    struct document_row *row = &record->document;
    made_id(row->doc_id, number);
    row->filename = options->filename ? options->filename
                                      : arena_printf(out->arena, "file \"%d\" ü.pdf", number);
    row->source_path = arena_printf(out->arena, "/in/%s", row->filename);
    row->format = "pdf";
    row->group = "pdf";
    row->title = "Title";
    row->author = row->created = row->warning = row->error_code = row->error_text = "";
    row->size_bytes = 1000 + number;
    row->n_pages = options->n_pages;
    row->n_chunks = options->n_chunks;
    row->added_ms = 1700000000000 + number;
    struct page_row *pages = arena_alloc(out->arena, (size_t)row->n_pages * sizeof *pages + 1);
    for (int i = 0; i < row->n_pages; i++)
        pages[i] = (struct page_row){595.25f + (float)i, 842, (uint32_t)i * 3};
    record->pages = pages;
    record->revision = arena_printf(out->arena, "%064d", number * 10 + options->version);
    char first[SHA256_HEX + 1];
    sha256_hex(first, record->revision, SHA256_HEX);
    record->revision = arena_strdup(out->arena, first);
    record->worker = "host:/folder";
    record->visual_space = SPACE;
    record->text_space = options->no_text ? "" : TEXT_SPACE;
    struct chunk_row *chunks = arena_alloc(out->arena, (size_t)row->n_chunks * sizeof *chunks + 1);
    for (int i = 0; i < row->n_chunks; i++)
        chunks[i] = (struct chunk_row){
            .ordinal = i,
            .n_words = 3 + i,
            .first_page = 1,
            .last_page = 2,
            .text = arena_printf(out->arena, "text %d of %d \n é \"codes\":\"", i, number),
            .heading_path = i % 2 ? "A > B" : "",
            .places = "\0\1\2\xff",
            .places_len = 4};
    out->source.chunks = chunks;
    out->source.ctx = out;
    out->source.item = give_item;
    out->source.cancelled = is_cancelled;
}

void made_done(struct made_source *made) {
    arena_free(made->arena);
}

struct chroma *made_open(void) {
    const char *at = getenv("DOCUSEARCH_CHROMA");
    const char *colon = at ? strrchr(at, ':') : NULL;
    if (!colon) {
        print_message("skipped: DOCUSEARCH_CHROMA names no server\n");
        skip();
    }
    const char *name = getenv("DOCUSEARCH_CHROMA_NAME");
    char host[64], text[128];
    snprintf(host, sizeof host, "%.*s", (int)(colon - at), at);
    snprintf(text, sizeof text, "%s_text", name ? name : "made");
    struct chroma_settings settings = {.host = host,
                                       .port = (int)strtol(colon + 1, NULL, 10),
                                       .tenant = "default_tenant",
                                       .database = "default_database",
                                       .token = getenv("DOCUSEARCH_CHROMA_TOKEN"),
                                       .visual_collection = name ? name : "made",
                                       .text_collection = text};
    struct chroma *chroma;
    must(chroma_open(&chroma, &settings, &err));
    return chroma;
}

void made_check(struct chroma *chroma) {
    struct chroma_spaces spaces = {{{SPACE, DIM, true}, {TEXT_SPACE, TEXT_DIM, false}}};
    must(chroma_check(chroma, &spaces, &err));
}

enum chroma_put made_put(int64_t *generation, struct chroma *chroma, int number,
                         const struct made_options *options, int64_t known) {
    struct made_source made;
    enum chroma_put out = CHROMA_REMOVED;
    made_source(&made, number, options);
    made.source.record.generation = known;
    must(chroma_put_document(&out, generation, chroma, &made.source, &err));
    made_done(&made);
    return out;
}
