/* Tests of a document's vectors on their way: over a real store and index, with an owner and a job
 * that are this program's own. */
#include "corpus/owner.h"
#include "corpus/vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DIM 4
#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

static struct error err;
static struct settings settings;
static struct corpus corpus;
static struct owner owners[CORPUS_ROLES];
static char dir[64];
static struct job_row row;
static bool is_cancelled;
static char stages[256]; /* each once, as they come */
static double last_progress;

/* ---- the owner: what is put waits here until answer() ---------------------------------------- */

static struct work *waiting[256];
static int n_waiting, most_waiting, n_put;
static struct error refusal; /* kind 0: none */

bool corpus_owner_takes_part(struct owner *owner) {
    return owner->state == MODEL_READY;
}

bool corpus_owner_put(struct owner *owner, struct work *work, struct error *out) {
    (void)owner;
    if (refusal.kind) {
        *out = refusal;
        return false;
    }
    work->group->n_open++;
    waiting[n_waiting++] = work;
    n_put++;
    if (n_waiting > most_waiting)
        most_waiting = n_waiting;
    return true;
}

bool corpus_owner_wait(struct owner *owner, struct work_group *group, int64_t deadline_ms) {
    (void)owner;
    (void)deadline_ms;
    return group->n_open == 0;
}

void corpus_owner_withdraw(struct owner *owner, struct work_group *group) {
    (void)owner;
    group->withdrawn = true;
    int n = 0;
    for (int i = 0; i < n_waiting; i++) {
        if (waiting[i]->group != group)
            waiting[n++] = waiting[i];
    }
    n_waiting = n;
}

void corpus_targets_give(struct vector_targets *targets) {
    targets->n = 0;
}

bool corpus_targets_current(const struct vector_targets *targets, struct corpus *of) {
    return targets->n > 0 && targets->items[0].owner == of->owners[ROLE_VISUAL];
}

/* Answers the oldest. why NULL: with n vectors. */
static void answer(int n, const struct error *why) {
    float values[8 * DIM] = {1};
    struct embedding out = {.n = n, .dim = DIM, .values = values};
    struct work *work = waiting[0];
    struct work_group *group = work->group;
    memmove(waiting, waiting + 1, (size_t)--n_waiting * sizeof waiting[0]);
    work->done(work->ctx, work, why ? NULL : &out, why);
    group->n_open--;
}

/* ---- the job -------------------------------------------------------------------------------- */

struct queue_job {
    int unused;
};
static struct queue_job job;

const struct job_row *queue_job_row(const struct queue_job *of) {
    (void)of;
    return &row;
}

bool queue_job_cancelled(const struct queue_job *of) {
    (void)of;
    return is_cancelled;
}

void queue_job_progress(struct queue_job *of, const char *stage, double progress, int page,
                        int n_pages) {
    (void)of;
    assert_true(progress >= last_progress && page <= n_pages);
    last_progress = progress;
    if (!strstr(stages, stage))
        snprintf(stages + strlen(stages), sizeof stages - strlen(stages), "%s ", stage);
}

/* As the owners stand in the corpus; next: a third, for pages. */
static struct vector_targets targets_of(struct owner *next) {
    struct owner *visual = corpus.owners[ROLE_VISUAL], *text = corpus.owners[ROLE_TEXT];
    struct vector_targets targets = {.n = 1};
    targets.items[0] = (struct vector_target){.owner = visual, .roles = 1u << ROLE_VISUAL};
    if (text == visual)
        targets.items[0].roles |= 1u << ROLE_TEXT;
    else
        targets.items[targets.n++] = (struct vector_target){.owner = text,
                                                            .roles = 1u << ROLE_TEXT};
    if (next)
        targets.items[targets.n++] = (struct vector_target){
            .owner = next, .roles = 1u << ROLE_VISUAL, .next = true};
    return targets;
}

static struct doc_vectors *vectors_new(void) {
    struct vector_targets targets = targets_of(NULL);
    return corpus_vectors_new(&corpus, &job, &targets, true);
}

/* ---- the fixture ---------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/docusearch-vectors-XXXXXX");
    assert_non_null(mkdtemp(dir));
    log_open(LOG_ERROR, false, "/dev/null", &err);
    memset(&corpus, 0, sizeof corpus);
    corpus.settings = &settings;
    must(store_open(&corpus.store, dir, &err));
    const struct index_settings how = {
        .pool_factor = 2, .code_bits = 8, .keep_full = true, .recall = 1};
    must(index_open(&corpus.index, corpus.store, dir, &how, &err));
    struct space_info info[] = {{"visual", DIM, true}, {"text", DIM, true}};
    for (int role = 0; role < CORPUS_ROLES; role++) {
        owners[role] = (struct owner){.state = MODEL_READY};
        corpus.owners[role] = &owners[role];
        must(index_space(&owners[role].space, corpus.index, &info[role], &err));
    }
    memset(row.doc_id, 'a', SHA256_HEX);
    n_waiting = most_waiting = n_put = 0;
    refusal.kind = 0;
    is_cancelled = false;
    stages[0] = '\0';
    last_progress = 0;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    index_close(corpus.index);
    store_close(corpus.store);
    must(dir_remove(dir, &err));
    return 0;
}

static struct doc_chunks *make_chunks(struct arena *arena, int n) {
    struct doc_chunks *chunks = arena_alloc(arena, sizeof *chunks);
    chunks->items = arena_alloc(arena, (size_t)n * sizeof *chunks->items);
    chunks->n = (uint32_t)n;
    for (int i = 0; i < n; i++)
        chunks->items[i] = (struct doc_chunk){
            .ordinal = (uint32_t)i, .text = "word", .text_len = 4};
    return chunks;
}

static void commit(struct doc_vectors *vectors) {
    struct store_tx *tx;
    struct document_row document = {.filename = "f", .format = "txt", .group = "text"};
    bool existed;
    memcpy(document.doc_id, row.doc_id, sizeof row.doc_id);
    must(corpus_vectors_sync(vectors, &err));
    must(store_begin(&tx, corpus.store, &err));
    must(store_put_document(tx, &existed, &document, &err));
    must(store_put_reading(tx, &document, NULL, NULL, 0, &err));
    must(corpus_vectors_commit(vectors, tx, &err));
    must(store_commit(tx, &err));
}

/* "visual 3/24 text 2/2": items and vectors of each space. */
static const char *spaces(struct arena *arena) {
    struct space_facts *facts;
    int n;
    must(index_spaces(&facts, &n, arena, corpus.index, &err));
    char *text = arena_strdup(arena, "");
    for (int i = 0; i < n; i++)
        text = arena_printf(arena, "%s%s%s %d/%d", text, i ? " " : "", facts[i].name,
                            (int)facts[i].n_items, (int)facts[i].n_vectors);
    return text;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void everything_goes_into_its_space(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct doc_vectors *vectors = vectors_new();
    for (int page = 1; page <= 40; page++) {
        corpus_vectors_page(vectors, page);
        if (page % 3 == 0)
            answer(8, NULL); /* while the reading goes on */
    }
    corpus_vectors_chunks(vectors, make_chunks(arena, 100));
    assert_true(most_waiting <= 16 + 64); /* a window of each */
    while (n_waiting > 0)
        answer(waiting[0]->input.kind == INPUT_IMAGE ? 8 : 1, NULL);
    assert_int_equal(n_put, 140);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 40, 0.3, 0.6, &err));
    must(corpus_vectors_wait(vectors, ROLE_TEXT, 40, 0.6, 0.9, &err));
    assert_string_equal(stages, "embedding_visual embedding_text ");
    assert_true(last_progress > 0.899);
    assert_string_equal(corpus_vectors_warning(arena, vectors), "");
    commit(vectors);
    corpus_vectors_free(vectors);
    assert_string_equal(spaces(arena), "visual 40/320 text 100/100");
    arena_free(arena);
}

static void what_cannot_be_embedded_is_said(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct doc_vectors *vectors = vectors_new();
    struct error nan;
    error_set_code(&nan, ERROR_INTERNAL, "not_finite", "a vector is not finite");
    for (int page = 1; page <= 3; page++)
        corpus_vectors_page(vectors, page);
    answer(2, NULL);
    answer(0, &nan);
    answer(2, NULL);
    corpus_vectors_chunks(vectors, make_chunks(arena, 2));
    answer(1, &nan);
    answer(0, NULL); /* a passage without a token has no vector, and needs none */
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 3, 0.3, 0.6, &err));
    must(corpus_vectors_wait(vectors, ROLE_TEXT, 3, 0.6, 0.9, &err));
    assert_string_equal(corpus_vectors_warning(arena, vectors),
                        "page 2 could not be embedded: a vector is not finite; "
                        "passage 1 could not be embedded: a vector is not finite");
    commit(vectors);
    corpus_vectors_free(vectors);
    assert_string_equal(spaces(arena), "visual 2/4 text 0/0");
    arena_free(arena);
}

static void many_that_cannot_are_counted(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct doc_vectors *vectors = vectors_new();
    struct error full;
    error_set_code(&full, ERROR_LIMIT, "out_of_memory", "no memory");
    for (int page = 1; page <= 14; page++)
        corpus_vectors_page(vectors, page);
    while (n_waiting > 0)
        answer(0, &full);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 14, 0.3, 0.6, &err));
    assert_string_equal(
        corpus_vectors_warning(arena, vectors),
        "pages 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 4 more could not be embedded: no memory");
    corpus_vectors_free(vectors);
    arena_free(arena);
}

/* What another attempt may do ends this one; the last leaves the page out. */
static void passing_failures_are_tried_again(void **state) {
    (void)state;
    static const struct {
        enum error_kind kind;
        const char *code;
    } passing[] = {
        {ERROR_LIMIT, "out_of_memory"}, {ERROR_LIMIT, "timeout"}, {ERROR_INTERNAL, "parser_crash"}};
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < BASE_COUNT(passing); i++) {
        struct error why;
        error_set_code(&why, passing[i].kind, passing[i].code, "no luck");
        for (row.attempts = 1, row.max_attempts = 2; row.attempts <= 2; row.attempts++) {
            struct doc_vectors *vectors = vectors_new();
            last_progress = 0;
            corpus_vectors_page(vectors, 1);
            corpus_vectors_page(vectors, 2);
            answer(0, &why);
            answer(1, NULL);
            bool ok = corpus_vectors_wait(vectors, ROLE_VISUAL, 2, 0.3, 0.6, &err);
            assert_int_equal(ok, row.attempts == 2);
            if (ok)
                assert_string_equal(corpus_vectors_warning(arena, vectors),
                                    "page 1 could not be embedded: no luck");
            else
                assert_int_equal(err.kind, ERROR_BUSY);
            corpus_vectors_free(vectors);
        }
    }
    row.attempts = row.max_attempts = 0;
    arena_free(arena);
}

static void a_refused_model_leaves_its_part_out(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct doc_vectors *vectors = vectors_new();
    struct error refused;
    error_set_code(&refused, ERROR_DEVICE, "model_failed", "no");
    for (int page = 1; page <= 30; page++)
        corpus_vectors_page(vectors, page);
    while (n_waiting > 0)
        answer(0, &refused); /* loading ended so */
    assert_true(n_put <= 17);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 30, 0.3, 0.6, &err));
    assert_false(corpus_vectors_has(vectors, ROLE_VISUAL));
    corpus_vectors_chunks(vectors, make_chunks(arena, 1));
    answer(1, NULL);
    must(corpus_vectors_wait(vectors, ROLE_TEXT, 30, 0.6, 0.9, &err));
    assert_string_equal(corpus_vectors_warning(arena, vectors), "");
    commit(vectors);
    corpus_vectors_free(vectors);
    assert_string_equal(spaces(arena), "visual 0/0 text 1/1");
    /* Known beforehand, nothing is given to it. */
    owners[ROLE_VISUAL].state = MODEL_NOT_INSTALLED;
    n_put = 0;
    last_progress = 0;
    vectors = vectors_new();
    corpus_vectors_page(vectors, 1);
    assert_int_equal(n_put, 0);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 1, 0.3, 0.6, &err));
    corpus_vectors_free(vectors);
    /* Between looking and giving it was refused. */
    owners[ROLE_VISUAL].state = MODEL_READY;
    last_progress = 0;
    vectors = vectors_new();
    refusal = refused;
    corpus_vectors_page(vectors, 1);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 1, 0.3, 0.6, &err));
    assert_false(corpus_vectors_has(vectors, ROLE_VISUAL));
    corpus_vectors_free(vectors);
    arena_free(arena);
}

static void a_lost_device_or_a_stop_ends_the_attempt(void **state) {
    (void)state;
    static const struct error whys[] = {{ERROR_DEVICE, "device_error", "lost"},
                                        {ERROR_BUSY, "stopping", "the program is stopping"},
                                        {ERROR_IO, "storage_error", "disk"}};
    for (size_t i = 0; i < BASE_COUNT(whys); i++) {
        struct doc_vectors *vectors = vectors_new();
        corpus_vectors_page(vectors, 1);
        corpus_vectors_page(vectors, 2);
        answer(0, &whys[i]);
        assert_false(corpus_vectors_wait(vectors, ROLE_VISUAL, 2, 0.3, 0.6, &err));
        assert_string_equal(err.code, whys[i].code);
        corpus_vectors_free(vectors);
        assert_int_equal(n_waiting, 0);
        last_progress = 0;
    }
}

static void a_cancel_is_seen_while_waiting(void **state) {
    (void)state;
    struct doc_vectors *vectors = vectors_new();
    corpus_vectors_page(vectors, 1);
    is_cancelled = true;
    int64_t begun_ms = time_mono_ms();
    assert_false(corpus_vectors_wait(vectors, ROLE_VISUAL, 1, 0.3, 0.6, &err));
    assert_string_equal(err.code, "cancelled");
    assert_true(time_mono_ms() - begun_ms < 5000);
    corpus_vectors_free(vectors);
    assert_int_equal(n_waiting, 0);
}

/* TEXT_MODEL=visual: both parts go into one space, and neither takes the other's place. */
static void one_model_for_both(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    corpus.owners[ROLE_TEXT] = corpus.owners[ROLE_VISUAL];
    struct doc_vectors *vectors = vectors_new();
    corpus_vectors_page(vectors, 1);
    corpus_vectors_chunks(vectors, make_chunks(arena, 3));
    while (n_waiting > 0)
        answer(4, NULL);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 1, 0.3, 0.6, &err));
    must(corpus_vectors_wait(vectors, ROLE_TEXT, 1, 0.6, 0.9, &err));
    commit(vectors);
    corpus_vectors_free(vectors);
    assert_string_equal(spaces(arena), "visual 4/16 text 0/0");
    arena_free(arena);
}

/* A third owner for pages, that is to be in use. */
static struct doc_vectors *vectors_beside(struct owner *next, bool optional) {
    struct space_info info = {"next", DIM, true};
    *next = (struct owner){.state = MODEL_READY};
    must(index_space(&next->space, corpus.index, &info, &err));
    struct vector_targets targets = targets_of(next);
    struct doc_vectors *vectors = corpus_vectors_new(&corpus, &job, &targets, optional);
    assert_int_equal(targets.n, 0);
    return vectors;
}

static void a_model_to_be_has_a_space_beside(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct owner next;
    struct doc_vectors *vectors = vectors_beside(&next, true);
    for (int page = 1; page <= 3; page++)
        corpus_vectors_page(vectors, page);
    corpus_vectors_chunks(vectors, make_chunks(arena, 2));
    assert_int_equal(n_put, 8);
    while (n_waiting > 0)
        answer(2, NULL);
    must(corpus_vectors_wait(vectors, ROLE_VISUAL, 3, 0.3, 0.6, &err));
    must(corpus_vectors_wait(vectors, ROLE_TEXT, 3, 0.6, 0.9, &err));
    assert_true(corpus_vectors_current(vectors));
    commit(vectors);
    corpus_vectors_free(vectors);
    assert_string_equal(spaces(arena), "visual 3/6 text 2/4 next 3/6");
    arena_free(arena);
}

/* What befalls it leaves its part out, whole, and nobody else's; where it is what the job is about,
 * the attempt ends. */
static void a_model_to_be_fails_alone(void **state) {
    (void)state;
    struct error lost;
    error_set_code(&lost, ERROR_DEVICE, "device_lost", "the device is gone");
    for (int optional = 1; optional >= 0; optional--) {
        struct arena *arena = arena_new(0);
        struct owner next;
        struct doc_vectors *vectors = vectors_beside(&next, optional);
        corpus_vectors_page(vectors, 1);
        corpus_vectors_page(vectors, 2);
        corpus_vectors_chunks(vectors, make_chunks(arena, 1));
        answer(2, NULL);  /* page 1 */
        answer(2, NULL);  /* page 1, beside */
        answer(2, NULL);  /* page 2 */
        answer(2, &lost); /* page 2, beside */
        answer(2, NULL);
        bool ok = corpus_vectors_wait(vectors, ROLE_VISUAL, 2, 0.3, 0.6, &err);
        assert_int_equal(ok, optional);
        if (ok) {
            must(corpus_vectors_wait(vectors, ROLE_TEXT, 2, 0.6, 0.9, &err));
            assert_string_equal(corpus_vectors_warning(arena, vectors), "");
            commit(vectors);
            assert_string_equal(spaces(arena), "visual 2/4 text 1/2 next 0/0");
        } else {
            assert_string_equal(err.code, "device_lost");
        }
        corpus_vectors_free(vectors);
        last_progress = 0;
        arena_free(arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(everything_goes_into_its_space),      TEST(what_cannot_be_embedded_is_said),
        TEST(many_that_cannot_are_counted),        TEST(passing_failures_are_tried_again),
        TEST(a_refused_model_leaves_its_part_out), TEST(a_lost_device_or_a_stop_ends_the_attempt),
        TEST(a_cancel_is_seen_while_waiting),      TEST(one_model_for_both),
        TEST(a_model_to_be_has_a_space_beside),    TEST(a_model_to_be_fails_alone),
    };
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
