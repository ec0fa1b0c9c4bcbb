/* Tests of an owner at work, over a model, a decoder and a corpus that are this program's own: what
 * goes into a batch, what a question may interrupt, what becomes of a batch that does not go. */
#include "corpus/owner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N 64

static struct settings settings = {.batch_visual = 4, .batch_text = 8};
static struct corpus corpus = {.settings = &settings};
static struct owner owner;
static struct thread *owner_thread, *helper_thread;

/* What the model was given: "8t" a batch of eight passages, "4p" pages, "1q" a question. */
static char batches[1024];
static int most_inputs;        /* more are too many for memory; 0: never */
static int n_layers;           /* between is asked so often */
static struct work *interrupt; /* put while the first layer runs */
static int undone_layers;      /* layers of batches that were broken off */
static atomic_int n_pictures;  /* decoded, not yet embedded */
static atomic_int most_pictures;
static atomic_bool begun; /* a batch runs */

/* ---- what embed.c calls --------------------------------------------------------------------- */

static void record(const struct model_input *inputs, int n) {
    static const char kinds[] = {[INPUT_QUERY] = 'q', [INPUT_PASSAGE] = 't', [INPUT_IMAGE] = 'p'};
    size_t len = strlen(batches);
    snprintf(batches + len, sizeof batches - len, "%s%d%c", len ? " " : "", n,
             kinds[inputs[0].kind]);
    for (int i = 1; i < n; i++)
        assert_int_equal(inputs[i].kind, inputs[0].kind);
}

bool model_embed(struct embedding *out, struct arena *arena, struct model *model,
                 const struct model_input *inputs, int n, const struct model_between *between,
                 struct error *err) {
    (void)model;
    record(inputs, n);
    atomic_store(&begun, true);
    for (int layer = 0; layer < n_layers && between; layer++) {
        struct error unused;
        if (layer == 0 && interrupt)
            assert_true(corpus_owner_put(&owner, interrupt, &unused));
        interrupt = NULL;
        if (!between->call(between->ctx)) {
            undone_layers += n_layers - layer;
            return error_set_code(err, ERROR_CONFLICT, "cancelled", "cancelled between two layers");
        }
        time_sleep_ms(1);
    }
    if (most_inputs > 0 && n > most_inputs)
        return error_set_code(err, ERROR_LIMIT, "out_of_memory", "%d inputs", n);
    for (int i = 0; i < n; i++) {
        if (inputs[i].text && strcmp(inputs[i].text, "poison") == 0)
            return error_set_code(err, ERROR_INTERNAL, "not_finite", "a vector is not finite");
        out[i] = (struct embedding){.n = 1, .dim = 1, .values = arena_alloc(arena, sizeof(float))};
        out[i].values[0] = (float)inputs[i].len;
        if (inputs[i].kind == INPUT_IMAGE) {
            assert_int_equal(inputs[i].picture.rgb[0], 42);
            atomic_fetch_sub(&n_pictures, 1);
        }
    }
    return true;
}

bool read_pixels(uint8_t **rgb, int *width, int *height, struct read_pool *pool, int fd,
                 const char *filename, struct error *err) {
    (void)pool;
    (void)fd;
    (void)filename;
    static int n_calls;
    if (++n_calls % 5 == 0)
        return error_set_code(err, ERROR_INPUT, "corrupt", "every fifth");
    *rgb = mem_alloc(12);
    (*rgb)[0] = 42;
    *width = *height = 2;
    int now = atomic_fetch_add(&n_pictures, 1) + 1;
    if (now > atomic_load(&most_pictures))
        atomic_store(&most_pictures, now);
    return true;
}

bool corpus_owner_refuse(struct owner *refusing, enum model_state state, struct error *err) {
    (void)refusing;
    return error_set_code(err, ERROR_BUSY, state == MODEL_READY ? "stopping" : "not_there",
                          "state %d", (int)state);
}

bool corpus_owner_start(struct owner *started, struct error *err) {
    (void)started;
    (void)err;
    return true;
}

/* ---- the fixture ---------------------------------------------------------------------------- */

struct answers {
    atomic_int n_done, n_failed;
    char last_code[32];
};

static struct work works[N];
static struct work_group group;
static struct answers answers;

static void on_done(void *ctx, struct work *work, const struct embedding *out,
                    const struct error *err) {
    struct answers *to = ctx;
    if (!out) {
        snprintf(to->last_code, sizeof to->last_code, "%s", err->code);
        atomic_fetch_add(&to->n_failed, 1);
    } else {
        assert_true(out->values[0] == (float)work->input.len);
    }
    atomic_fetch_add(&to->n_done, 1);
}

static void run_owner(void *arg) {
    corpus_owner_work(arg);
}

static void start(void) {
    struct error err;
    assert_true(thread_start(&owner_thread, "owner", run_owner, &owner, &err));
    assert_true(thread_start(&helper_thread, "helper", corpus_owner_decode, &owner, &err));
}

static int set_up(void **state) {
    (void)state;
    struct error err;
    log_open(LOG_ERROR, false, "/dev/null", &err);
    memset(&owner, 0, sizeof owner);
    memset(works, 0, sizeof works);
    memset(&answers, 0, sizeof answers);
    group = (struct work_group){0};
    batches[0] = '\0';
    most_inputs = n_layers = undone_layers = 0;
    interrupt = NULL;
    atomic_store(&n_pictures, 0);
    atomic_store(&most_pictures, 0);
    atomic_store(&begun, false);
    owner.corpus = &corpus;
    owner.what = "test";
    owner.state = MODEL_READY;
    owner.questions.last = &owner.questions.first;
    owner.others.last = &owner.others.first;
    atomic_store(&corpus.started, true);
    lock_init(&owner.lock, LOCK_STORE);
    cond_init(&owner.changed);
    return 0;
}

static void stop(void) {
    lock_take(&owner.lock);
    owner.stopping = true;
    cond_wake_all(&owner.changed);
    lock_drop(&owner.lock);
    thread_join(helper_thread);
    thread_join(owner_thread);
    owner_thread = helper_thread = NULL;
}

static int tear_down(void **state) {
    (void)state;
    stop();
    cond_fini(&owner.changed);
    lock_fini(&owner.lock);
    return 0;
}

static struct work *make(int i, enum input_kind kind, const char *text) {
    struct work *work = &works[i];
    *work = (struct work){.done = on_done, .ctx = &answers, .group = &group};
    work->input.kind = kind;
    work->input.text = text;
    work->input.len = text ? strlen(text) : 0;
    if (kind == INPUT_IMAGE)
        work->picture_path = "/dev/null";
    return work;
}

static void put(struct work *work) {
    struct error err;
    if (!corpus_owner_put(&owner, work, &err))
        fail_msg("%s", err.text);
}

static void wait_all(void) {
    assert_true(corpus_owner_wait(&owner, &group, time_mono_ms() + 20000));
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void batches_are_of_one_kind_and_full(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++)
        put(make(i, INPUT_PASSAGE, "word"));
    put(make(20, INPUT_QUERY, "what"));
    put(make(21, INPUT_QUERY, "where"));
    start();
    wait_all();
    assert_string_equal(batches, "2q 8t 8t 4t");
    assert_int_equal(atomic_load(&answers.n_done), 22);
    assert_int_equal(atomic_load(&answers.n_failed), 0);
    assert_int_equal(owner.done[0].n_embedded + owner.done[1].n_embedded, 20);
    assert_int_equal(owner.n_running, 0);
}

static void want_of_memory_halves_the_batch(void **state) {
    (void)state;
    most_inputs = 3;
    for (int i = 0; i < 8; i++)
        put(make(i, INPUT_PASSAGE, "word"));
    start();
    wait_all();
    assert_string_equal(batches, "8t 4t 2t 2t 4t 2t 2t");
    assert_int_equal(atomic_load(&answers.n_failed), 0);
    assert_int_equal(atomic_load(&answers.n_done), 8);
}

static void one_bad_input_fails_alone(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++)
        put(make(i, INPUT_PASSAGE, i == 5 ? "poison" : "word"));
    start();
    wait_all();
    assert_int_equal(atomic_load(&answers.n_done), 8);
    assert_int_equal(atomic_load(&answers.n_failed), 1);
    assert_string_equal(answers.last_code, "not_finite");
}

/* Asked while a batch of passages is in its first layer, answered before that batch's end. */
static void a_question_does_not_wait_for_a_batch(void **state) {
    (void)state;
    n_layers = 5;
    interrupt = make(9, INPUT_QUERY, "what");
    for (int i = 0; i < 3; i++)
        put(make(i, INPUT_PASSAGE, "word"));
    start();
    wait_all();
    assert_string_equal(batches, "3t 1q");
    assert_int_equal(atomic_load(&answers.n_done), 4);
    assert_int_equal(undone_layers, 0);
}

/* Puts n works and waits until the first batch of them is under way: it takes for ever. */
static void begin_long_batch(int n, enum input_kind kind, const char *text) {
    n_layers = 5000;
    for (int i = 0; i < n; i++)
        put(make(i, kind, text));
    start();
    while (!atomic_load(&begun))
        time_sleep_ms(1);
}

static void what_is_withdrawn_ends_at_once(void **state) {
    (void)state;
    begin_long_batch(30, INPUT_PASSAGE, "word");
    int64_t begun_ms = time_mono_ms();
    corpus_owner_withdraw(&owner, &group);
    assert_true(time_mono_ms() - begun_ms < 2000);
    assert_int_equal(atomic_load(&answers.n_done), 0);
    assert_true(undone_layers > 4000);
    assert_string_equal(batches, "8t");
    /* Others go on. */
    n_layers = 0;
    struct work_group other = {0};
    struct work *work = make(40, INPUT_PASSAGE, "word");
    work->group = &other;
    put(work);
    assert_true(corpus_owner_wait(&owner, &other, time_mono_ms() + 20000));
    assert_int_equal(atomic_load(&answers.n_done), 1);
}

static void pictures_are_decoded_ahead_but_not_far(void **state) {
    (void)state;
    n_layers = 3;
    for (int i = 0; i < 40; i++)
        put(make(i, INPUT_IMAGE, NULL));
    start();
    wait_all();
    assert_int_equal(atomic_load(&answers.n_done), 40);
    assert_int_equal(atomic_load(&answers.n_failed), 8); /* every fifth cannot be decoded */
    assert_string_equal(answers.last_code, "corrupt");
    assert_true(atomic_load(&most_pictures) <= 2 * settings.batch_visual + 1);
    assert_int_equal(owner.n_decoded, 0);
    assert_int_equal(owner.decoded_bytes, 0);
}

static void put_again(void *ctx, struct work *work, const struct embedding *out,
                      const struct error *err) {
    struct answers *to = ctx;
    on_done(ctx, work, out, err);
    if (atomic_load(&to->n_done) > 30)
        return;
    make((int)(work - works), INPUT_IMAGE, NULL)->done = put_again;
    put(work);
}

static void a_work_may_be_put_again_when_it_is_done(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        make(i, INPUT_IMAGE, NULL)->done = put_again;
        put(&works[i]);
    }
    start();
    wait_all();
    assert_int_equal(atomic_load(&answers.n_done), 33);
    assert_int_equal(owner.n_decoded, 0);
    assert_int_equal(owner.decoded_bytes, 0);
}

static void withdrawn_pictures_are_freed(void **state) {
    (void)state;
    begin_long_batch(40, INPUT_IMAGE, NULL);
    corpus_owner_withdraw(&owner, &group);
    assert_int_equal(owner.n_decoded, 0);
    assert_int_equal(owner.decoded_bytes, 0);
    assert_int_equal(owner.others.n, 0);
}

static void an_owner_that_stops_ends_what_waits(void **state) {
    (void)state;
    begin_long_batch(30, INPUT_PASSAGE, "word");
    stop();
    wait_all();
    assert_int_equal(atomic_load(&answers.n_done), 30);
    assert_int_equal(atomic_load(&answers.n_failed), 30);
    struct error err;
    assert_false(corpus_owner_put(&owner, make(40, INPUT_QUERY, "what"), &err));
    assert_string_equal(err.code, "stopping");
}

static void without_a_model_nothing_is_taken(void **state) {
    (void)state;
    struct error err;
    static const enum model_state states[] = {MODEL_NOT_INSTALLED, MODEL_FAILED, MODEL_OFF};
    for (size_t i = 0; i < BASE_COUNT(states); i++) {
        owner.state = states[i];
        assert_false(corpus_owner_put(&owner, make(0, INPUT_QUERY, "what"), &err));
        assert_string_equal(err.code, "not_there");
    }
    owner.state = MODEL_LOADING; /* waits */
    put(make(0, INPUT_PASSAGE, "word"));
    struct error why = {.code = "model_failed"};
    corpus_owner_end_all(&owner, &why);
    wait_all();
    assert_string_equal(answers.last_code, "model_failed");
    owner.state = MODEL_READY;
    start();
}

static void many_questions_are_put_off(void **state) {
    (void)state;
    static struct work many[520];
    struct error err;
    int n = 0;
    for (; n < 520; n++) {
        many[n] = (struct work){.done = on_done, .ctx = &answers, .group = &group};
        many[n].input = (struct model_input){.kind = INPUT_QUERY, .text = "", .len = 0};
        if (!corpus_owner_put(&owner, &many[n], &err))
            break;
    }
    assert_int_equal(n, 512);
    assert_string_equal(err.code, "model_busy");
    start();
    wait_all();
    assert_int_equal(atomic_load(&answers.n_done), 512);
}

static void others_get_their_vectors(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct model_input inputs[20];
    struct embedding out[20];
    struct error err;
    for (int i = 0; i < 20; i++)
        inputs[i] = (struct model_input){.kind = INPUT_PASSAGE, .text = "abcdefghijklmnopqrstuvw"};
    for (int i = 0; i < 20; i++)
        inputs[i].len = (size_t)i;
    start();
    assert_true(corpus_owner_embed(out, arena, &owner, inputs, 20, &err));
    for (int i = 0; i < 20; i++)
        assert_true(out[i].n == 1 && out[i].values[0] == (float)i);
    inputs[7].text = "poison";
    assert_false(corpus_owner_embed(out, arena, &owner, inputs, 20, &err));
    assert_string_equal(err.code, "not_finite");
    arena_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(batches_are_of_one_kind_and_full),
        TEST(want_of_memory_halves_the_batch),
        TEST(one_bad_input_fails_alone),
        TEST(a_question_does_not_wait_for_a_batch),
        TEST(what_is_withdrawn_ends_at_once),
        TEST(pictures_are_decoded_ahead_but_not_far),
        TEST(a_work_may_be_put_again_when_it_is_done),
        TEST(withdrawn_pictures_are_freed),
        TEST(an_owner_that_stops_ends_what_waits),
        TEST(without_a_model_nothing_is_taken),
        TEST(many_questions_are_put_off),
        TEST(others_get_their_vectors),
    };
    return cmocka_run_group_tests_name("embed", tests, NULL, NULL);
}
