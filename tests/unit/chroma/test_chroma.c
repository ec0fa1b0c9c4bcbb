/* chroma against a real server. A number of an argument runs the tests of that name alone, so that
 * a server may be killed between two of them. */
#include "chroma/internal.h"
#include "made.h"

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct made_options small = {.n_pages = 3, .n_chunks = 7, .n_vectors = 50};

static int open_state(void **state) {
    *state = NULL;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    return 0;
}

static int close_state(void **state) {
    chroma_close(*state);
    return 0;
}

static struct chroma *opened(void **state) {
    if (!*state) {
        *state = made_open();
        made_check(*state);
    }
    return *state;
}

static void find_record(struct chroma_record *out, struct arena *arena, struct chroma *chroma,
                        int number) {
    char doc_id[SHA256_HEX + 1];
    bool found;
    made_id(doc_id, number);
    must(chroma_find_document(out, &found, arena, chroma, doc_id, &err));
    assert_true(found);
}

/* ---- one document ---------------------------------------------------------------------------- */

static void test_put(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    int64_t generation = 0;
    assert_int_equal(made_put(&generation, chroma, 1, &small, 0), CHROMA_PUT);
    assert_int_equal(generation, 1);
    assert_int_equal(made_put(&generation, chroma, 1, &small, 1), CHROMA_THERE);
    struct chroma_record record;
    find_record(&record, arena, chroma, 1);
    assert_false(record.removed);
    assert_int_equal(record.generation, 1);
    assert_int_equal(record.n_page_rows, 3);
    assert_int_equal(record.n_chunk_rows, 6);
    assert_string_equal(record.document.filename, "file \"1\" ü.pdf");
    assert_string_equal(record.worker, "host:/folder");
    assert_int_equal(record.document.size_bytes, 1001);
    assert_true(record.pages[2].width_pt == 597.25f && record.pages[2].flags == 6);
    bool whole;
    must(chroma_is_whole(&whole, chroma, &record, &err));
    assert_true(whole);
    struct chunk_row *chunks;
    int n;
    must(chroma_load_chunks(&chunks, &n, arena, chroma, &record, &err));
    assert_int_equal(n, 7);
    for (int i = 0; i < n; i++) {
        assert_int_equal(chunks[i].ordinal, i);
        assert_int_equal(chunks[i].n_words, 3 + i);
        assert_string_equal(chunks[i].text,
                            arena_printf(arena, "text %d of 1 \n é \"codes\":\"", i));
        assert_string_equal(chunks[i].heading_path, i % 2 ? "A > B" : "");
        assert_int_equal(chunks[i].places_len, 4);
        assert_memory_equal(chunks[i].places, "\0\1\2\xff", 4);
    }
    arena_free(arena);
}

static void test_items(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    int64_t generation;
    char doc_id[SHA256_HEX + 1];
    made_put(&generation, chroma, 1, &small, 0);
    made_id(doc_id, 1);
    struct chroma_item item;
    bool found;
    must(chroma_load_item(&item, &found, arena, chroma, doc_id, ITEM_PAGE, 2, &err));
    struct index_codes codes;
    made_codes(&codes, arena, 1, 2, &small);
    assert_true(found);
    assert_int_equal(item.codes.n, 50);
    assert_memory_equal(item.codes.data, codes.data, codes.len);
    must(chroma_load_item(&item, &found, arena, chroma, doc_id, ITEM_CHUNK, 3, &err));
    float vector[TEXT_DIM];
    made_text_vector(vector, 1, 3, 0);
    assert_true(found);
    for (int d = 0; d < TEXT_DIM; d++)
        assert_true(fabsf(vector[d] - item.vector[d]) < 1e-5f);
    must(chroma_load_item(&item, &found, arena, chroma, doc_id, ITEM_CHUNK, 4, &err));
    assert_false(found); /* it has none */
    must(chroma_load_item(&item, &found, arena, chroma, doc_id, ITEM_PAGE, 9, &err));
    assert_false(found);
    arena_free(arena);
}

static void test_revision(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    int64_t generation;
    struct made_options options = small;
    made_put(&generation, chroma, 2, &options, 0);
    options.version = 1; /* fewer pages, other vectors */
    options.n_pages = 2;
    options.n_chunks = 1;
    assert_int_equal(made_put(&generation, chroma, 2, &options, 1), CHROMA_PUT);
    struct chroma_record record;
    find_record(&record, arena, chroma, 2);
    assert_int_equal(record.document.n_pages, 2);
    assert_int_equal(record.generation, 1);
    bool whole, found;
    must(chroma_is_whole(&whole, chroma, &record, &err));
    assert_true(whole);
    struct chroma_item item;
    must(
        chroma_load_item(&item, &found, arena, chroma, record.document.doc_id, ITEM_PAGE, 3, &err));
    assert_false(found);
    options.filename = "renamed.pdf"; /* names alone: rows stay, metadata follows */
    assert_int_equal(made_put(&generation, chroma, 2, &options, 1), CHROMA_THERE);
    find_record(&record, arena, chroma, 2);
    assert_string_equal(record.document.filename, "renamed.pdf");
    must(chroma_is_whole(&whole, chroma, &record, &err));
    assert_true(whole);
    arena_free(arena);
}

static void test_removal(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    int64_t generation;
    char doc_id[SHA256_HEX + 1];
    made_id(doc_id, 3);
    assert_int_equal(made_put(&generation, chroma, 3, &small, 0), CHROMA_PUT);
    int64_t first = generation;
    bool superseded, whole, found;
    must(chroma_remove_document(&superseded, chroma, doc_id, first, "w", 5, &err));
    assert_false(superseded);
    must(chroma_remove_document(&superseded, chroma, doc_id, first, "w", 5, &err));
    assert_false(superseded);
    struct chroma_record record;
    find_record(&record, arena, chroma, 3);
    assert_true(record.removed);
    assert_int_equal(record.generation, first);
    must(chroma_is_whole(&whole, chroma, &record, &err));
    assert_false(whole);
    struct chroma_item item;
    must(chroma_load_item(&item, &found, arena, chroma, doc_id, ITEM_PAGE, 1, &err));
    assert_false(found);
    /* who has it still from before is told; who takes it in again begins the next generation */
    assert_int_equal(made_put(&generation, chroma, 3, &small, first), CHROMA_REMOVED);
    assert_int_equal(generation, first);
    assert_int_equal(made_put(&generation, chroma, 3, &small, 0), CHROMA_PUT);
    assert_int_equal(generation, first + 1);
    must(chroma_remove_document(&superseded, chroma, doc_id, first, "w", 5, &err));
    assert_true(superseded);
    find_record(&record, arena, chroma, 3);
    assert_false(record.removed);
    must(chroma_is_whole(&whole, chroma, &record, &err));
    assert_true(whole);
    must(chroma_remove_document(&superseded, chroma, doc_id, first + 1, "w", 5, &err));
    arena_free(arena);
}

static void test_cut_off(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    struct made_options options = small;
    options.cancel_after = 9;
    options.n_vectors = 2000; /* so that bodies fill */
    options.n_pages = 40;
    struct made_source made;
    int64_t generation;
    enum chroma_put out;
    made_source(&made, 4, &options);
    assert_false(chroma_put_document(&out, &generation, chroma, &made.source, &err));
    assert_string_equal(err.code, "cancelled");
    made_done(&made);
    bool found;
    struct chroma_record record;
    char doc_id[SHA256_HEX + 1];
    made_id(doc_id, 4);
    options.cancel_after = 45;
    made_source(&made, 4, &options);
    assert_false(chroma_put_document(&out, &generation, chroma, &made.source, &err));
    made_done(&made);
    must(chroma_find_document(&record, &found, arena, chroma, doc_id, &err));
    assert_false(found);
    options.cancel_after = 0;
    assert_int_equal(made_put(&generation, chroma, 4, &options, 0), CHROMA_PUT);
    bool superseded;
    must(chroma_remove_document(&superseded, chroma, doc_id, generation, "w", 5, &err));
    arena_free(arena);
}

static void test_no_text(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    struct made_options options = small;
    options.no_text = true;
    options.n_pages = 1;
    int64_t generation;
    made_put(&generation, chroma, 5, &options, 0);
    struct chroma_record record;
    find_record(&record, arena, chroma, 5);
    assert_int_equal(record.n_chunk_rows, 0);
    struct chunk_row *chunks;
    int n;
    must(chroma_load_chunks(&chunks, &n, arena, chroma, &record, &err));
    assert_int_equal(n, 7);
    assert_int_equal(chunks[6].n_words, 9);
    arena_free(arena);
}

struct tally {
    int n, n_removed;
    bool seen[200];
};

static bool tally_up(void *ctx, const struct chroma_record *record, struct error *why) {
    struct tally *tally = ctx;
    (void)why;
    tally->n++;
    tally->n_removed += record->removed;
    char doc_id[SHA256_HEX + 1];
    for (int i = 0; i < 200; i++) {
        made_id(doc_id, i);
        if (strcmp(doc_id, record->document.doc_id) == 0) {
            assert_false(tally->seen[i]);
            tally->seen[i] = true;
        }
    }
    return true;
}

static void test_list(void **state) {
    struct chroma *chroma = opened(state);
    int64_t generation;
    struct tally before = {0}, tally = {0};
    must(chroma_list_documents(chroma, 0, tally_up, &before, &err));
    int64_t now = time_wall_ms();
    struct made_options options = small;
    char name[32];
    snprintf(name, sizeof name, "at %lld", (long long)now);
    options.filename = name;
    made_put(&generation, chroma, 6, &options, 0);
    must(chroma_list_documents(chroma, now, tally_up, &tally, &err));
    assert_int_equal(tally.n, 1);
    assert_true(tally.seen[6]);
    memset(&tally, 0, sizeof tally);
    must(chroma_list_documents(chroma, 0, tally_up, &tally, &err));
    assert_int_equal(tally.n, before.n + !before.seen[6]);
    assert_int_equal(tally.n_removed, before.n_removed);
}

/* ---- two at once ----------------------------------------------------------------------------- */

struct writer {
    struct chroma *chroma;
    int number;
    bool ok;
    struct error why;
    enum chroma_put out;
    int64_t generation;
};

static void write_one(void *arg) {
    struct writer *writer = arg;
    struct made_source made;
    made_source(&made, writer->number, &small);
    writer->ok = chroma_put_document(&writer->out, &writer->generation, writer->chroma,
                                     &made.source, &writer->why);
    made_done(&made);
}

static void test_two_writers(void **state) {
    struct chroma *chroma = opened(state), *other = made_open();
    struct arena *arena = arena_new(0);
    made_check(other);
    for (int number = 10; number < 16; number++) {
        struct writer writers[2] = {{.chroma = chroma, .number = number},
                                    {.chroma = other, .number = number}};
        struct thread *threads[2];
        for (int i = 0; i < 2; i++)
            must(thread_start(&threads[i], "writer", write_one, &writers[i], &err));
        for (int i = 0; i < 2; i++)
            thread_join(threads[i]);
        for (int i = 0; i < 2; i++) {
            if (!writers[i].ok)
                fail_msg("%s", writers[i].why.text);
            assert_int_not_equal(writers[i].out, CHROMA_REMOVED);
            assert_int_equal(writers[i].generation, 1);
        }
        struct chroma_record record;
        bool whole;
        find_record(&record, arena, chroma, number);
        must(chroma_is_whole(&whole, chroma, &record, &err));
        assert_true(whole);
    }
    chroma_close(other);
    arena_free(arena);
}

static void test_put_and_remove(void **state) {
    struct chroma *chroma = opened(state), *other = made_open();
    struct arena *arena = arena_new(0);
    made_check(other);
    for (int round = 0; round < 6; round++) {
        int number = 20 + round;
        char doc_id[SHA256_HEX + 1];
        made_id(doc_id, number);
        struct writer writer = {.chroma = chroma, .number = number};
        struct thread *thread;
        must(thread_start(&thread, "writer", write_one, &writer, &err));
        time_sleep_ms(8 * round);
        bool superseded, whole, found;
        must(chroma_remove_document(&superseded, other, doc_id, 1, "w", 1, &err));
        thread_join(thread);
        if (!writer.ok)
            fail_msg("%s", writer.why.text);
        /* either it was removed, or it came after as the next generation: never half of both */
        struct chroma_record record;
        find_record(&record, arena, chroma, number);
        if (record.removed) {
            struct chroma_item item;
            must(chroma_load_item(&item, &found, arena, chroma, doc_id, ITEM_PAGE, 1, &err));
            assert_false(found);
        } else {
            assert_int_equal(record.generation, 2);
            must(chroma_is_whole(&whole, chroma, &record, &err));
            assert_true(whole);
        }
    }
    chroma_close(other);
    arena_free(arena);
}

static void put_as(void *arg) {
    struct writer *writer = arg;
    struct made_source made;
    made_source(&made, writer->number, &small);
    made.source.record.generation = writer->generation;
    writer->ok = chroma_put_document(&writer->out, &writer->generation, writer->chroma,
                                     &made.source, &writer->why);
    made_done(&made);
}

/* A removal and what comes after it at once: the later stands, and lost nothing that it is not said
 * to have lost. */
static void test_later_stands(void **state) {
    struct chroma *chroma = opened(state), *other = made_open();
    struct arena *arena = arena_new(0);
    made_check(other);
    int n_lost = 0;
    for (int round = 0; round < 30; round++) {
        char doc_id[SHA256_HEX + 1];
        int64_t generation;
        made_id(doc_id, 40 + round);
        made_put(&generation, other, 40 + round, &small, 0);
        assert_int_equal(generation, 1);
        struct writer writer = {.chroma = chroma, .number = 40 + round, .generation = 2};
        struct thread *thread;
        must(thread_start(&thread, "writer", put_as, &writer, &err));
        time_sleep_ms(round);
        bool superseded, whole;
        must(chroma_remove_document(&superseded, other, doc_id, 1, "w", 1, &err));
        thread_join(thread);
        if (!writer.ok)
            fail_msg("%s", writer.why.text);
        assert_int_equal(writer.generation, 2);
        struct chroma_record record;
        find_record(&record, arena, chroma, 40 + round);
        assert_false(record.removed);
        assert_int_equal(record.generation, 2);
        must(chroma_is_whole(&whole, chroma, &record, &err));
        assert_true(whole || record.lost_rows);
        n_lost += !whole;
        made_put(&generation, chroma, 40 + round, &small, 2);
        must(chroma_is_whole(&whole, chroma, &record, &err));
        assert_true(whole);
    }
    print_message("%d lost rows\n", n_lost);
    chroma_close(other);
    arena_free(arena);
}

/* A removal that met rows of what came later. */
static void test_lost_rows(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    struct chroma_set set;
    struct chroma_record record;
    int64_t generation;
    char doc_id[SHA256_HEX + 1];
    bool superseded, whole;
    made_id(doc_id, 75);
    made_put(&generation, chroma, 75, &small, 2);
    assert_int_equal(generation, 2);
    must(chroma_remove_document(&superseded, chroma, doc_id, 1, "w", 1, &err));
    assert_true(superseded);
    find_record(&record, arena, chroma, 75);
    assert_false(record.lost_rows);
    must(chroma_current(&set, chroma, &err));
    must(chroma_delete_rows(chroma, &set, CHROMA_ALL_ROWS, doc_id, "", &err));
    must(chroma_remove_document(&superseded, chroma, doc_id, 1, "w", 1, &err));
    assert_true(superseded);
    find_record(&record, arena, chroma, 75);
    assert_true(record.lost_rows);
    assert_int_equal(made_put(&generation, chroma, 75, &small, 2), CHROMA_PUT);
    find_record(&record, arena, chroma, 75);
    assert_false(record.lost_rows);
    must(chroma_is_whole(&whole, chroma, &record, &err));
    assert_true(whole);
    must(chroma_delete_record(chroma, &set, doc_id, 1, &err)); /* a later one stands */
    find_record(&record, arena, chroma, 75);
    arena_free(arena);
}

static void spoil(struct chroma *chroma, const char *doc_id, int64_t generation) {
    struct chroma_set set;
    json_t *reply;
    must(chroma_current(&set, chroma, &err));
    must(chroma_ask(&reply, chroma, set.of[CHROMA_DOCUMENTS].uuid, "update",
                    json_pack("{s:[s],s:[{s:I}]}", "ids", doc_id, "metadatas", "generation",
                              (json_int_t)generation),
                    &err));
    json_decref(reply);
}

/* What cannot be a generation is none, and stands in nobody's way. */
static void test_generations(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    struct chroma_record record;
    bool superseded, found;
    char doc_id[SHA256_HEX + 1];
    made_id(doc_id, 76);
    const int64_t bad[] = {-5, 0, (int64_t)CHROMA_MAX_GENERATION + 1, INT64_C(140000000000000)};
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        int64_t generation;
        made_put(&generation, chroma, 76, &small, 0);
        spoil(chroma, doc_id, bad[i]);
        must(chroma_find_document(&record, &found, arena, chroma, doc_id, &err));
        assert_false(found);
        assert_int_equal(made_put(&generation, chroma, 76, &small, 1), CHROMA_PUT);
        assert_int_equal(generation, 1);
        spoil(chroma, doc_id, bad[i]);
        must(chroma_remove_document(&superseded, chroma, doc_id, 1, "w", 1, &err));
        assert_false(superseded);
        find_record(&record, arena, chroma, 76);
        assert_true(record.removed && record.generation == 1);
        spoil(chroma, doc_id, bad[i]); /* a tombstone */
        assert_int_equal(made_put(&generation, chroma, 76, &small, 0), CHROMA_PUT);
        assert_int_equal(generation, 1);
    }
    arena_free(arena);
}

/* A put that is broken off tells of which generation it wrote. */
static void test_broken_off(void **state) {
    struct chroma *chroma = opened(state);
    struct made_options options = small;
    struct made_source made;
    enum chroma_put out;
    char doc_id[SHA256_HEX + 1];
    bool superseded;
    made_id(doc_id, 77);
    must(chroma_remove_document(&superseded, chroma, doc_id, 6, "w", 1, &err));
    options.cancel_after = 2;
    made_source(&made, 77, &options);
    int64_t generation = 3;
    assert_false(chroma_put_document(&out, &generation, chroma, &made.source, &err));
    assert_string_equal(err.code, "cancelled");
    assert_int_equal(generation, 7);
    made_done(&made);
}

/* ---- searching ------------------------------------------------------------------------------- */

enum { FIRST = 100, N_DOCUMENTS = 20, N_QUESTION = 16 };
static const struct made_options paged = {.n_pages = 12, .n_chunks = 4, .n_vectors = 120};

static void fill(struct chroma *chroma) {
    int64_t generation;
    for (int i = 0; i < N_DOCUMENTS; i++)
        assert_int_not_equal(made_put(&generation, chroma, FIRST + i, &paged, 0), CHROMA_REMOVED);
}

static double recall(struct chroma *chroma, int n_questions, float noise, double *ms) {
    int n_same = 0, n_all = 0;
    *ms = 0;
    for (int q = 0; q < n_questions; q++) {
        struct arena *arena = arena_new(0);
        float question[N_QUESTION * DIM];
        made_question(question, N_QUESTION, FIRST + q, 1 + q % 12, &paged, noise);
        struct chroma_query query = {
            .kind = ITEM_PAGE, .vectors = question, .n_vectors = N_QUESTION, .limit = 10};
        struct index_hit *fast, *exact;
        int n_fast, n_exact;
        struct index_effort effort;
        int64_t began_ms = time_mono_ms();
        must(chroma_search(&fast, &n_fast, &effort, arena, chroma, &query, &err));
        *ms += (double)(time_mono_ms() - began_ms) / n_questions;
        query.exact = true;
        must(chroma_search(&exact, &n_exact, &effort, arena, chroma, &query, &err));
        assert_int_equal(n_fast, 10);
        assert_int_equal(n_exact, 10);
        for (int i = 0; i < n_exact; i++)
            for (int k = 0; k < n_fast; k++)
                if (fast[k].item == exact[i].item && !strcmp(fast[k].doc_id, exact[i].doc_id)) {
                    n_same++;
                    assert_true(fabs(fast[k].score - exact[i].score) < 1e-6);
                }
        n_all += n_exact;
        arena_free(arena);
    }
    return (double)n_same / n_all;
}

static void test_recall(void **state) {
    struct chroma *chroma = opened(state);
    fill(chroma);
    static const float noises[] = {0.05f, 0.15f, 0.3f};
    for (size_t i = 0; i < BASE_COUNT(noises); i++) {
        double ms, found = recall(chroma, N_DOCUMENTS, noises[i], &ms);
        print_message("noise %.2f: recall@10 %.4f, %.1f ms a search\n", (double)noises[i], found,
                      ms);
        assert_true(found >= 0.95);
    }
}

/* Scores against MaxSim in doubles over the decoded vectors. */
static void test_scores(void **state) {
    struct chroma *chroma = opened(state);
    fill(chroma);
    struct arena *arena = arena_new(0);
    float question[N_QUESTION * DIM];
    made_question(question, N_QUESTION, FIRST + 3, 5, &paged, 0.05f);
    struct chroma_query query = {
        .kind = ITEM_PAGE, .vectors = question, .n_vectors = N_QUESTION, .limit = 5};
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    must(chroma_search(&hits, &n, &effort, arena, chroma, &query, &err));
    char doc_id[SHA256_HEX + 1];
    made_id(doc_id, FIRST + 3);
    assert_string_equal(hits[0].doc_id, doc_id);
    assert_int_equal(hits[0].item, 5);
    assert_true(effort.n_full >= 100 && effort.n_scanned > 0 && effort.n_pooled >= 100);
    struct index_codes codes;
    float *vectors;
    made_codes(&codes, arena, FIRST + 3, 5, &paged);
    must(index_codes_decode(&vectors, arena, &codes, &err));
    double sum = 0;
    for (int q = 0; q < N_QUESTION; q++) {
        double best = -2;
        for (int v = 0; v < codes.n; v++) {
            double dot = 0;
            for (int d = 0; d < DIM; d++)
                dot += (double)question[q * DIM + d] * vectors[v * DIM + d];
            best = dot > best ? dot : best;
        }
        sum += best;
    }
    assert_true(fabs(sum - hits[0].score) < 0.01 * N_QUESTION);
    arena_free(arena);
}

static bool allow_odd(void *ctx, bool *allowed, const struct index_hit *hits, int n,
                      struct error *why) {
    (void)why;
    for (int i = 0; i < n; i++)
        allowed[i] = strcmp(hits[i].doc_id, ctx) == 0;
    return true;
}

static void test_filters(void **state) {
    struct chroma *chroma = opened(state);
    fill(chroma);
    struct arena *arena = arena_new(0);
    float question[N_QUESTION * DIM];
    char asked[SHA256_HEX + 1], other[SHA256_HEX + 1];
    made_question(question, N_QUESTION, FIRST + 3, 5, &paged, 0.05f);
    made_id(asked, FIRST + 3);
    made_id(other, FIRST + 17);
    const char *ids[] = {other};
    struct chroma_query query = {.kind = ITEM_PAGE,
                                 .vectors = question,
                                 .n_vectors = N_QUESTION,
                                 .limit = 20,
                                 .allow = allow_odd,
                                 .ctx = other};
    struct index_hit *hits;
    int n;
    must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 12); /* however far they are, all of that document */
    for (int i = 0; i < n; i++)
        assert_string_equal(hits[i].doc_id, other);
    query.allow = NULL;
    query.doc_ids = ids;
    query.n_doc_ids = 1;
    struct index_hit *narrow;
    must(chroma_search(&narrow, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 12);
    for (int i = 0; i < n; i++) {
        assert_string_equal(narrow[i].doc_id, other);
        assert_int_equal(narrow[i].item, hits[i].item);
        assert_true(narrow[i].score == hits[i].score);
    }
    query.n_doc_ids = 0;
    must(chroma_search(&narrow, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 0);
    const char *all[N_DOCUMENTS];
    for (int i = 0; i < N_DOCUMENTS; i++) {
        char *id = arena_alloc(arena, SHA256_HEX + 1);
        made_id(id, FIRST + i);
        all[i] = id;
    }
    query.doc_ids = all;
    query.n_doc_ids = N_DOCUMENTS; /* too many items to score them all: where goes along */
    must(chroma_search(&narrow, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 20);
    assert_string_equal(narrow[0].doc_id, asked);
    arena_free(arena);
}

static void test_passages(void **state) {
    struct chroma *chroma = opened(state);
    fill(chroma);
    struct arena *arena = arena_new(0);
    float vector[TEXT_DIM];
    char doc_id[SHA256_HEX + 1], other[SHA256_HEX + 1];
    made_text_vector(vector, FIRST + 9, 2, 0);
    made_id(doc_id, FIRST + 9);
    made_id(other, FIRST + 10);
    struct chroma_query query = {.kind = ITEM_CHUNK, .vectors = vector, .n_vectors = 1, .limit = 8};
    struct index_hit *hits, *exact;
    int n;
    must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 8);
    assert_string_equal(hits[0].doc_id, doc_id);
    assert_int_equal(hits[0].item, 2);
    assert_true(fabs(hits[0].score - 1) < 1e-4);
    query.exact = true;
    must(chroma_search(&exact, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 8);
    for (int i = 0; i < n; i++) {
        assert_string_equal(hits[i].doc_id, exact[i].doc_id);
        assert_int_equal(hits[i].item, exact[i].item);
        assert_true(fabs(hits[i].score - exact[i].score) < 1e-4);
    }
    query.exact = false;
    query.allow = allow_odd;
    query.ctx = other;
    must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 4);
    const char *ids[] = {other};
    query.allow = NULL;
    query.doc_ids = ids;
    query.n_doc_ids = 1;
    must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 4);
    assert_string_equal(hits[0].doc_id, other);
    arena_free(arena);
}

/* ---- collections ----------------------------------------------------------------------------- */

static void test_other_space(void **state) {
    struct chroma *chroma = opened(state), *other = made_open();
    struct arena *arena = arena_new(0);
    struct chroma_facts before, after;
    chroma_facts(&before, arena, chroma);
    assert_true(before.reachable && before.max_batch > 100 && before.n_collections == 5);
    struct chroma_spaces spaces = {{{"made/other@2:32", 32, true}, {TEXT_SPACE, TEXT_DIM, false}}};
    assert_false(chroma_check(other, &spaces, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_string_equal(err.code, "other_space");
    assert_non_null(strstr(err.text, SPACE));
    float vector[32] = {1};
    struct chroma_query query = {.kind = ITEM_PAGE, .vectors = vector, .n_vectors = 1, .limit = 3};
    struct index_hit *hits;
    int n;
    assert_false(chroma_search(&hits, &n, NULL, arena, other, &query, &err));
    assert_string_equal(err.code, "other_space");
    query.kind = ITEM_CHUNK; /* what is of the other role goes on */
    float text[TEXT_DIM] = {1};
    query.vectors = text;
    must(chroma_search(&hits, &n, NULL, arena, other, &query, &err));
    must(chroma_renew(other, ITEM_PAGE, &err));
    must(chroma_check(other, &spaces, &err));
    struct chroma_spaces mine = {{{SPACE, DIM, true}, {TEXT_SPACE, TEXT_DIM, false}}};
    assert_false(chroma_check(chroma, &mine, &err)); /* now the first one has the other model */
    assert_string_equal(err.code, "other_space");
    must(chroma_renew(chroma, ITEM_PAGE, &err));
    made_check(chroma);
    must(chroma_drop_aside(chroma, &err));
    chroma_facts(&after, arena, chroma);
    assert_string_not_equal(before.epoch, after.epoch);
    assert_int_equal(after.n_collections, 5);
    int64_t generation;
    assert_int_equal(made_put(&generation, chroma, 1, &small, 1), CHROMA_PUT);
    chroma_close(other);
    arena_free(arena);
}

/* The collections go while they are known by their UUIDs. */
static void test_lost(void **state) {
    struct chroma *chroma = opened(state), *other = made_open();
    struct arena *arena = arena_new(0);
    int64_t generation;
    made_check(other);
    made_put(&generation, chroma, 7, &small, 0);
    must(chroma_renew(other, ITEM_PAGE, &err));
    must(chroma_renew(other, ITEM_CHUNK, &err));
    must(chroma_drop_aside(other, &err));
    struct made_source made;
    enum chroma_put out;
    made_source(&made, 7, &small);
    for (int i = 0; i < 3; i++) /* unknown UUIDs are looked for by the next call */
        if (chroma_put_document(&out, &generation, chroma, &made.source, &err))
            break;
        else
            assert_string_equal(err.code, "backend_unavailable");
    made_done(&made);
    struct chroma_record record;
    bool whole;
    find_record(&record, arena, other, 7);
    must(chroma_is_whole(&whole, other, &record, &err));
    assert_true(whole);
    chroma_close(other);
    arena_free(arena);
}

static void test_settings(void **state) {
    (void)state;
    struct chroma *chroma;
    struct chroma_settings settings = {.host = "localhost",
                                       .port = 1,
                                       .tenant = "t",
                                       .database = "d",
                                       .visual_collection = "visual",
                                       .text_collection = "visual"};
    assert_false(chroma_open(&chroma, &settings, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    settings.text_collection = "a b";
    assert_false(chroma_open(&chroma, &settings, &err));
    settings.text_collection = "text";
    must(chroma_open(&chroma, &settings, &err));
    struct chroma_spaces spaces = {{{SPACE, DIM, true}, {"", 0, false}}};
    assert_false(chroma_check(chroma, &spaces, &err));
    assert_int_equal(err.kind, ERROR_BUSY);
    assert_string_equal(err.code, "backend_unavailable");
    int64_t began_ms = time_mono_ms();
    bool found;
    struct arena *arena = arena_new(0);
    struct chroma_record record;
    assert_false(chroma_find_document(&record, &found, arena, chroma, "x", &err));
    assert_string_equal(err.code, "backend_unavailable");
    assert_true(time_mono_ms() - began_ms < 1000);
    struct chroma_facts facts;
    chroma_facts(&facts, arena, chroma);
    assert_false(facts.reachable);
    assert_true(facts.why[0] && !facts.epoch[0]);
    arena_free(arena);
    chroma_close(chroma);
}

/* ---- around a server that ends ----------------------------------------------------------------
 */

static void test_fill(void **state) {
    fill(opened(state));
}

static void test_still_there(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    for (int i = 0; i < N_DOCUMENTS; i++) {
        struct chroma_record record;
        bool whole;
        find_record(&record, arena, chroma, FIRST + i);
        must(chroma_is_whole(&whole, chroma, &record, &err));
        assert_true(whole);
        int64_t generation;
        assert_int_equal(made_put(&generation, chroma, FIRST + i, &paged, 1), CHROMA_THERE);
    }
    arena_free(arena);
}

enum { GOING = 1000, N_GOING = 40 };

struct remover {
    struct chroma *chroma;
    int64_t generations[N_GOING];
    int n_removed;
    atomic_bool done;
};

static void remove_all(void *arg) {
    struct remover *remover = arg;
    for (int i = 0; i < N_GOING; i++) {
        char doc_id[SHA256_HEX + 1];
        bool superseded;
        made_id(doc_id, GOING + i);
        remover->n_removed += chroma_remove_document(&superseded, remover->chroma, doc_id,
                                                     remover->generations[i], "w", time_wall_ms(),
                                                     NULL);
        time_sleep_ms(100);
    }
    atomic_store(&remover->done, true);
}

/* The server cannot find an id now and then while rows go: nobody hears of it, and nothing is taken
 * for damaged, not by checks that touch it either. */
static void test_removals(void **state) {
    struct chroma *chroma = opened(state);
    fill(chroma);
    struct remover remover = {.chroma = chroma};
    for (int i = 0; i < N_GOING; i++)
        made_put(&remover.generations[i], chroma, GOING + i, &small, 0);
    struct thread *thread;
    must(thread_start(&thread, "remover", remove_all, &remover, &err));
    float question[N_QUESTION * DIM];
    made_question(question, N_QUESTION, FIRST + 3, 5, &paged, 0.05f);
    struct chroma_query query = {
        .kind = ITEM_PAGE, .vectors = question, .n_vectors = N_QUESTION, .limit = 5};
    int n_searches = 0, n_checks = 0;
    while (!atomic_load(&remover.done)) {
        struct arena *arena = arena_new(0);
        struct index_hit *hits;
        int n;
        must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
        assert_int_equal(n, 5);
        arena_free(arena);
        time_sleep_ms(20);
        if (++n_searches % 20 == 0) { /* a new one touches every collection */
            struct chroma *other = made_open();
            made_check(other);
            struct chroma_facts facts;
            arena = arena_new(0);
            chroma_facts(&facts, arena, other);
            assert_int_equal(facts.n_recovered, 0);
            arena_free(arena);
            chroma_close(other);
            n_checks++;
        }
    }
    thread_join(thread);
    print_message("%d searches, %d checks, %d removals\n", n_searches, n_checks, remover.n_removed);
    assert_true(n_checks > 0 && remover.n_removed == N_GOING);
}

/* A damaged collection is found by checks that go on until they succeed, and filled again. */
static void test_recovers(void **state) {
    struct chroma *chroma = *state = made_open();
    struct arena *arena = arena_new(0);
    struct chroma_spaces spaces = {{{SPACE, DIM, true}, {TEXT_SPACE, TEXT_DIM, false}}};
    bool ok = false;
    for (int i = 0; i < 40 && !ok; i++) {
        ok = chroma_check(chroma, &spaces, &err);
        if (!ok) {
            assert_string_equal(err.code, "backend_unavailable");
            time_sleep_ms(250);
        }
    }
    must(ok);
    struct chroma_facts facts;
    chroma_facts(&facts, arena, chroma);
    print_message("recovered %d: %s\n", facts.n_recovered, facts.note);
    assert_int_equal(facts.n_recovered, 1);
    assert_true(facts.note[0] != '\0');
    fill(chroma);
    double ms;
    assert_true(recall(chroma, 4, 0.1f, &ms) >= 0.95);
    must(chroma_drop_aside(chroma, &err));
    arena_free(arena);
}

/* The first searches of a server that was started anew, before any check: whole, or none. */
static void test_first_search(void **state) {
    struct chroma *chroma = opened(state);
    struct arena *arena = arena_new(0);
    fill(chroma);
    made_check(chroma);
    float question[N_QUESTION * DIM];
    made_question(question, N_QUESTION, FIRST, 1, &paged, 0.1f);
    struct chroma_query query = {
        .kind = ITEM_PAGE, .vectors = question, .n_vectors = N_QUESTION, .limit = 10};
    struct index_hit *hits;
    int n = 0, n_failed = 0;
    must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 10);
    print_message("filled\n");
    fflush(stdout);
    raise(SIGSTOP);
    for (int i = 0; i < 5; i++) {
        if (chroma_search(&hits, &n, NULL, arena, chroma, &query, &err)) {
            assert_int_equal(n, 10);
        } else {
            assert_string_equal(err.code, "backend_unavailable");
            n_failed++;
        }
    }
    print_message("%d failed: %s\n", n_failed, n_failed ? err.text : "");
    assert_int_equal(n_failed, getenv("DOCUSEARCH_DAMAGED") ? 5 : 0);
    made_check(chroma);
    fill(chroma);
    must(chroma_search(&hits, &n, NULL, arena, chroma, &query, &err));
    assert_int_equal(n, 10);
    arena_free(arena);
}

/* A server that takes connections and never answers. */
static void test_silent(void **state) {
    struct chroma *chroma = *state = made_open();
    struct chroma_spaces spaces = {{{SPACE, DIM, true}, {TEXT_SPACE, TEXT_DIM, false}}};
    int64_t began_ms = time_mono_ms();
    assert_false(chroma_check(chroma, &spaces, &err));
    assert_string_equal(err.code, "backend_unavailable");
    assert_true(time_mono_ms() - began_ms < 9000);
    began_ms = time_mono_ms();
    struct tally tally = {0};
    assert_false(chroma_list_documents(chroma, 0, tally_up, &tally, &err));
    assert_string_equal(err.code, "backend_unavailable");
    assert_true(time_mono_ms() - began_ms < 100); /* known to be down */
}

/* Searches go on until the server is gone, fail at once while it is, and succeed once it is back;
 * nobody calls chroma_check meanwhile. */
static void test_comes_back(void **state) {
    struct chroma *chroma = opened(state);
    fill(chroma);
    chroma_silence_ms[CHROMA_READS] = 3000;
    print_message("filled\n");
    fflush(stdout);
    float question[N_QUESTION * DIM];
    made_question(question, N_QUESTION, FIRST + 3, 5, &paged, 0.05f);
    struct chroma_query query = {
        .kind = ITEM_PAGE, .vectors = question, .n_vectors = N_QUESTION, .limit = 5};
    int64_t end_ms = time_mono_ms() + 90000, longest_ms = 0;
    int n_failed = 0, n_back = 0;
    while (time_mono_ms() < end_ms && n_back < 20) {
        struct arena *arena = arena_new(0);
        struct index_hit *hits;
        int n;
        int64_t began_ms = time_mono_ms();
        bool ok = chroma_search(&hits, &n, NULL, arena, chroma, &query, &err);
        int64_t took_ms = time_mono_ms() - began_ms;
        if (ok) {
            assert_int_equal(n, 5);
            n_back += n_failed > 0;
        } else {
            assert_string_equal(err.code, "backend_unavailable");
            if (n_failed++ > 0 && took_ms > longest_ms)
                longest_ms = took_ms;
        }
        arena_free(arena);
        time_sleep_ms(20);
    }
    print_message("%d failed, the longest but the first in %d ms\n", n_failed, (int)longest_ms);
    assert_true(n_failed > 10 && n_back == 20);
    assert_true(longest_ms < 6500); /* the one that asks whether it is back */
}

int main(int argc, char **argv) {
#define OWN(name) cmocka_unit_test_setup_teardown(test_##name, open_state, close_state)
    const struct CMUnitTest tests[] = {
        OWN(settings), OWN(put),          OWN(items),     OWN(revision),    OWN(removal),
        OWN(cut_off),  OWN(no_text),      OWN(list),      OWN(two_writers), OWN(put_and_remove),
        OWN(recall),   OWN(scores),       OWN(filters),   OWN(passages),    OWN(other_space),
        OWN(lost),     OWN(later_stands), OWN(lost_rows), OWN(generations), OWN(broken_off),
    };
    const struct CMUnitTest around[] = {OWN(fill),        OWN(still_there), OWN(recovers),
                                        OWN(silent),      OWN(removals),    OWN(comes_back),
                                        OWN(first_search)};
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
        int failed = cmocka_run_group_tests_name("chroma", tests, NULL, NULL);
        return failed + cmocka_run_group_tests_name("around", around, NULL, NULL);
    }
    return cmocka_run_group_tests_name("chroma", tests, NULL, NULL);
}
