/* Why a page: places out of a map of patches, and words' maps out of an item's vectors, over a
 * store, an index and a model that are this program's own. */
#include "corpus/explain.h"
#include "corpus/shared.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define W 4
#define H 3
#define DIM 8

static struct settings settings;
static struct corpus corpus = {.settings = &settings};
static struct owner owner = {.corpus = &corpus, .name = "test/eyes", .state = MODEL_READY};
static struct model_info info = {.grid_width = W, .grid_height = H};
static struct arena *arena;
static int n_embedded;

/* ---- what explain.c and question.c call ----------------------------------------------------- */

/* A question's vectors: one a byte, the byte's place in the alphabet as the unit vector's axis. */
bool corpus_owner_embed(struct embedding *out, struct arena *into, struct owner *asked,
                        const struct model_input *inputs, int n, struct error *err) {
    assert_ptr_equal(asked, &owner);
    assert_int_equal(n, 1);
    if (owner.state != MODEL_READY)
        return error_set_code(err, ERROR_DEVICE, "model_not_installed", "no model");
    n_embedded++;
    *out = (struct embedding){.n = (int)inputs[0].len, .dim = DIM};
    out->values = arena_alloc(into, inputs[0].len * DIM * sizeof(float) + 1);
    for (size_t i = 0; i < inputs[0].len; i++)
        out->values[i * DIM + (size_t)(inputs[0].text[i] - 'a') % DIM] = 1;
    return true;
}

/* Words are what blanks part; a vector a byte. */
int model_words(struct model_word **out, struct arena *into, const struct model *model,
                const char *text, size_t len) {
    (void)model;
    int n = 0;
    *out = arena_alloc(into, (len + 1) * sizeof **out);
    for (size_t i = 0; i < len; i++) {
        size_t start = i;
        while (i < len && text[i] != ' ')
            i++;
        if (i > start)
            (*out)[n++] = (struct model_word){start, i, (int)start, (int)(i - start)};
    }
    return n;
}

const struct model_info *model_info(const struct model *model) {
    (void)model;
    return &info;
}

struct owner *corpus_owner_take(struct corpus *of, enum model_role role) {
    assert_ptr_equal(of, &corpus);
    assert_int_equal(role, ROLE_VISUAL);
    owner.n_refs++;
    return &owner;
}

void corpus_owner_give(struct owner *given) {
    given->n_refs--;
}

bool corpus_owner_refuse(struct owner *refusing, enum model_state state, struct error *err) {
    (void)refusing;
    return error_set(err, ERROR_BUSY, "state %d", (int)state);
}

bool store_find_document(struct document_row *out, bool *found, struct arena *into,
                         struct store *store, const char *doc_id, struct error *err) {
    (void)into;
    (void)store;
    (void)err;
    *out = (struct document_row){.state = strcmp(doc_id, "new") == 0 ? DOCUMENT_WAITING
                                                                     : DOCUMENT_READY};
    *found = strcmp(doc_id, "none") != 0;
    return true;
}

bool store_list_pages(struct page_row **out, int *n, struct arena *into, struct store *store,
                      const char *doc_id, struct error *err) {
    (void)store;
    (void)doc_id;
    (void)err;
    *n = 3;
    *out = arena_alloc(into, 3 * sizeof **out);
    for (int i = 0; i < 3; i++)
        (*out)[i] = (struct page_row){.width_pt = 600, .height_pt = 800};
    return true;
}

char *lexical_wanted(struct arena *into, const char *text) {
    return arena_strdup(into, text[0] == '-' ? text + 3 : text); /* "-b " in front is left out */
}

size_t lexical_wanted_place(const char *text, size_t at) {
    return text[0] == '-' ? at + 3 : at;
}

/* Page 1: vector v of the item has the value v / 100 on axis 0, 1 on axis 1 at v 5, and -1 behind
 * the patches on all. Page 2 has no vectors; page 3 is kept pooled. */
bool index_fit(struct index_fit *out, struct arena *into, struct index *index, int space,
               const char *doc_id, enum item_kind kind, int item, const float *query, int n_query,
               struct error *err) {
    (void)index;
    (void)doc_id;
    assert_int_equal(space, 7);
    assert_int_equal(kind, ITEM_PAGE);
    if (item == 2)
        return error_set(err, ERROR_MISSING, "no such item");
    if (item == 3)
        return error_set_code(err, ERROR_MISSING, "no_patches", "kept pooled");
    int n = W * H + 2;
    *out = (struct index_fit){.n_query = n_query, .n_vectors = n};
    out->values = arena_alloc(into, (size_t)(n_query * n) * sizeof(float));
    for (int q = 0; q < n_query; q++) {
        for (int v = 0; v < n; v++) {
            float a = query[q * DIM], b = query[q * DIM + 1];
            float patch = a * (float)v / 100 + b * (v == 5 ? 1 : 0);
            out->values[q * n + v] = v < W * H ? patch : -1;
        }
    }
    return true;
}

/* What another worker has of page 2 is as page 1. */
bool corpus_shared_fit(struct index_fit *out, struct arena *into, struct corpus *sharing,
                       const char *doc_id, enum item_kind kind, int item, const float *query,
                       int n_query, struct error *err) {
    assert_non_null(sharing->shared);
    assert_int_equal(item, 2);
    return index_fit(out, into, NULL, 7, doc_id, kind, 1, query, n_query, err);
}

/* ---- the fixture ---------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    arena = arena_new(0);
    lock_init(&owner.lock, LOCK_STORE);
    static int stands_for_a_model;
    owner.model = (struct model *)(void *)&stands_for_a_model;
    owner.space = 7;
    corpus.questions = corpus_questions_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    corpus_questions_free(corpus.questions);
    corpus_questions_free(NULL);
    lock_fini(&owner.lock);
    arena_free(arena);
    return 0;
}

/* ---- places --------------------------------------------------------------------------------- */

static void places(struct doc_box **out, int *n, const char *rows, int most) {
    float map[64];
    int width = (int)strcspn(rows, "/"), height = 0, at = 0;
    for (const char *p = rows; *p; p++) {
        if (*p == '/')
            height++;
        else
            map[at++] = (float)(*p - '0') / 10;
    }
    assert_int_equal(at, width * height);
    corpus_patch_boxes(out, n, arena, map, width, height, most);
}

static void expect_box(const struct doc_box *box, float x0, float y0, float x1, float y1) {
    assert_true(fabsf(box->x0 - x0) < 1e-6F && fabsf(box->y0 - y0) < 1e-6F);
    assert_true(fabsf(box->x1 - x1) < 1e-6F && fabsf(box->y1 - y1) < 1e-6F);
}

static void test_places(void **state) {
    struct doc_box *boxes;
    int n;
    (void)state;
    /* The median is 1, the largest 9: 5.8 and more count. Two places, the better one first. */
    places(&boxes, &n, "16111/17111/11119/11111/", 5);
    assert_int_equal(n, 2);
    expect_box(&boxes[0], 0.8F, 0.5F, 1, 0.75F);
    expect_box(&boxes[1], 0.2F, 0, 0.4F, 0.5F);
    places(&boxes, &n, "16111/17111/11119/11111/", 1);
    assert_int_equal(n, 1);
    expect_box(&boxes[0], 0.8F, 0.5F, 1, 0.75F);
    /* Corners touch; 5 is below the share, and parts nothing from nothing. */
    places(&boxes, &n, "8111/1911/1151/1117/", 5);
    assert_int_equal(n, 2);
    expect_box(&boxes[0], 0, 0, 0.5F, 0.5F);
    expect_box(&boxes[1], 0.75F, 0.75F, 1, 1);
    places(&boxes, &n, "333/333/", 5);
    assert_int_equal(n, 0);
    places(&boxes, &n, "4/", 5);
    assert_int_equal(n, 0);
}

/* ---- words ---------------------------------------------------------------------------------- */

static void explain(struct explanation *out, const char *query) {
    struct error err;
    if (!corpus_explain(out, arena, &corpus, "doc", 1, query, &err))
        fail_msg("%s: %s", err.code, err.text);
    assert_int_equal(owner.n_refs, 0);
    assert_int_equal(out->grid_width, W);
    assert_int_equal(out->grid_height, H);
}

static void expect_near(float a, float b) {
    if (fabsf(a - b) > 1e-6F)
        fail_msg("%.8g is not %.8g", (double)a, (double)b);
}

static void test_words(void **state) {
    struct explanation out;
    (void)state;
    explain(&out, "a  ab");
    assert_int_equal(out.n_words, 2);
    assert_string_equal(out.words[0].text, "a");
    assert_string_equal(out.words[1].text, "ab");
    assert_int_equal(out.words[1].start, 3);
    assert_int_equal(out.words[1].end, 5);
    for (int p = 0; p < W * H; p++) {
        float a = (float)p / 100, b = p == 5 ? 1 : 0;
        expect_near(out.words[0].similarities[p], a);
        expect_near(out.words[1].similarities[p], (a + b) / 2); /* two pieces */
        expect_near(out.similarities[p], a + (a + b) / 2);
    }
    expect_near(out.words[0].max, 0.11F);
    expect_near(out.words[1].max, 0.525F);
    expect_near(out.page_width_pt, 600);
    assert_int_equal(out.words[1].n_boxes, 1);
    expect_box(&out.words[1].boxes[0], 0.25F, 1.F / 3, 0.5F, 2.F / 3); /* patch 5 of 4 × 3 */
    assert_int_equal(out.n_boxes, 1);
    explain(&out, "-b ab a"); /* what is left out is not asked, and places are those of the query */
    assert_int_equal(out.n_words, 2);
    assert_string_equal(out.words[0].text, "ab");
    assert_int_equal(out.words[0].start, 3);
    assert_int_equal(out.words[0].end, 5);
    assert_string_equal(out.words[1].text, "a");
    expect_near(out.words[0].max, 0.525F);
}

/* The same question again, by whatever way, is not embedded again; seventeen others push it out. */
static void test_questions_are_kept(void **state) {
    struct explanation out;
    struct question question;
    struct error err;
    char text[] = "kept a";
    (void)state;
    n_embedded = 0;
    explain(&out, text);
    explain(&out, text);
    assert_true(corpus_ask(&question, arena, &owner, text, &err));
    assert_int_equal(n_embedded, 1);
    assert_int_equal(question.vectors.n, 6);
    assert_int_equal(question.n_words, 2);
    expect_near(question.vectors.values[5 * DIM], 1);
    owner.space = 8; /* another model */
    assert_true(corpus_ask(&question, arena, &owner, text, &err));
    assert_int_equal(n_embedded, 2);
    owner.space = 7;
    for (char c = 'a'; c < 'a' + 17; c++) {
        text[0] = c;
        assert_true(corpus_ask(&question, arena, &owner, text, &err));
    }
    int before = n_embedded;
    text[0] = 'a' + 16;
    assert_true(corpus_ask(&question, arena, &owner, text, &err));
    assert_int_equal(n_embedded, before);
    text[0] = 'k'; /* it was among them */
    assert_true(corpus_ask(&question, arena, &owner, text, &err));
    assert_int_equal(n_embedded, before);
    text[0] = 'a';
    assert_true(corpus_ask(&question, arena, &owner, text, &err));
    assert_int_equal(n_embedded, before + 1);
}

static void refused(enum error_kind kind, const char *code, const char *doc_id, int page,
                    const char *query) {
    struct explanation out;
    struct error err = {0};
    assert_false(corpus_explain(&out, arena, &corpus, doc_id, page, query, &err));
    assert_int_equal(owner.n_refs, 0);
    assert_int_equal(err.kind, kind);
    assert_string_equal(err.code, code);
}

static void test_what_another_worker_has(void **state) {
    struct explanation here, there;
    struct error err;
    (void)state;
    assert_true(corpus_explain(&here, arena, &corpus, "doc", 1, "ab", &err));
    corpus.shared = (struct shared *)&corpus; /* not looked into */
    assert_true(corpus_explain(&there, arena, &corpus, "doc", 2, "ab", &err));
    corpus.shared = NULL;
    assert_int_equal(here.n_words, there.n_words);
    assert_memory_equal(here.similarities, there.similarities, W * H * sizeof(float));
}

static void test_errors(void **state) {
    struct explanation out;
    (void)state;
    refused(ERROR_MISSING, "not_found", "none", 1, "a");
    refused(ERROR_MISSING, "not_found", "doc", 4, "a");
    refused(ERROR_MISSING, "not_found", "doc", 0, "a");
    refused(ERROR_MISSING, "no_vectors", "doc", 2, "a");
    refused(ERROR_MISSING, "no_patches", "doc", 3, "a");
    refused(ERROR_CONFLICT, "not_ready", "new", 1, "a");
    refused(ERROR_INPUT, "invalid", "doc", 1, "");
    char *query = arena_alloc(arena, 1002);
    memset(query, 'a', 1001);
    refused(ERROR_INPUT, "invalid", "doc", 1, query);
    query[1000] = '\0';
    explain(&out, query);
    explain(&out, " "); /* no word: nothing is pointed at */
    assert_int_equal(out.n_words, 0);
    assert_int_equal(out.n_boxes, 0);
    expect_near(out.similarities[5], 0);
    info.grid_width = 0; /* a model without patches */
    owner.space = 9;
    refused(ERROR_UNSUPPORTED, "no_patches", "doc", 1, "a");
    info.grid_width = W;
    owner.space = 7;
    owner.state = MODEL_NOT_INSTALLED;
    refused(ERROR_DEVICE, "model_not_installed", "doc", 1, "never asked");
    owner.state = MODEL_READY;
}

/* ---- results -------------------------------------------------------------------------------- */

static void test_results(void **state) {
    struct question question;
    struct error err = {0};
    struct doc_box word_box = {0, 0, 1, 1};
    struct search_result result = {.page = 1, .parts = {{.stage = "visual"}}, .n_parts = 1};
    struct search_result unseen = {.page = 1, .parts = {{.stage = "dense"}}, .n_parts = 1};
    (void)state;
    assert_true(corpus_ask(&question, arena, &owner, "ab b", &err));
    assert_true(corpus_explain_result(&result, arena, &corpus, &question, &err));
    assert_int_equal(result.box_kind, BOXES_PATCHES);
    assert_int_equal(result.n_boxes, 1);
    expect_box(&result.boxes[0], 0.25F, 1.F / 3, 0.5F, 2.F / 3);
    assert_true(corpus_explain_result(&unseen, arena, &corpus, &question, &err));
    assert_int_equal(unseen.n_boxes, 0);
    struct search_result words = {.page = 1, .boxes = &word_box, .n_boxes = 1};
    words.parts[words.n_parts++].stage = "visual";
    assert_true(corpus_explain_result(&words, arena, &corpus, &question, &err));
    assert_int_equal(words.box_kind, BOXES_WORDS);
    assert_ptr_equal(words.boxes, &word_box);
    for (int page = 2; page <= 3; page++) { /* no vectors, kept pooled */
        struct search_result none = result;
        none.page = page;
        none.n_boxes = 0;
        none.box_kind = BOXES_WORDS;
        assert_true(corpus_explain_result(&none, arena, &corpus, &question, &err));
        assert_int_equal(none.n_boxes, 0);
        assert_int_equal(none.box_kind, BOXES_WORDS);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_questions_are_kept),
        cmocka_unit_test(test_what_another_worker_has),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_results),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
