/* Tests of search over views made in memory: the stages find what scoring everything finds, filters
 * and tombstones hide items, ties go to the lower id, and hard cases end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "index/segment.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define must(call)                                                                                 \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s (%s)", #call, err.text, err.code);                                    \
    } while (0)

static struct error err;

/* ---- random numbers ---- */

static uint64_t random_state;

static double uniform(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return ((double)(random_state >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {
    return sqrt(-2 * log(uniform())) * cos(2 * 3.14159265358979323846 * uniform());
}

/* a unit vector near `near` (NULL: anywhere). */
static void random_vector(float *out, const float *near, double noise, int dim) {
    double square = 0;
    for (int d = 0; d < dim; d++) {
        out[d] = (float)(noise * normal() / sqrt(dim) + (near ? (double)near[d] : 0));
        square += (double)out[d] * (double)out[d];
    }
    for (int d = 0; d < dim; d++)
        out[d] = (float)((double)out[d] / sqrt(square));
}

/* ---- views in memory ---- */

/* Parts of items that are damaged: ids. */
static uint64_t damaged[PART_FULL + 1];

bool segment_check(struct segment *segment, int slot, enum item_part part) {
    assert_true(segment->slots[slot].id != 0);
    return segment->slots[slot].id != damaged[part];
}

enum { MAX_PARTS = 16, MAX_ITEMS = 4096, BLOCK_BYTES = 1 << 25 };

struct corpus {
    struct view view;
    struct view_part parts[MAX_PARTS];
    struct segment segments[MAX_PARTS];
    uint64_t live[MAX_PARTS][2][MAX_ITEMS / 64], ids[MAX_PARTS][MAX_ITEMS];
    uint8_t *blocks[MAX_PARTS];
    size_t used[MAX_PARTS];
    uint64_t next_id;
    int dim;
    struct arena *arena;
};

static struct corpus *corpus_new(int dim) {
    struct corpus *corpus = mem_alloc(sizeof *corpus);
    corpus->dim = dim;
    corpus->next_id = 1;
    corpus->view.parts = corpus->parts;
    corpus->arena = arena_new(0);
    memset(damaged, 0, sizeof damaged);
    random_state = 7;
    return corpus;
}

static void corpus_free(struct corpus *corpus) {
    for (int i = 0; i < corpus->view.n_parts; i++)
        free(corpus->blocks[i]); /* aligned_alloc's */
    arena_free(corpus->arena);
    mem_free(corpus);
}

static void add_part(struct corpus *corpus, const struct shape *shape) {
    int part = corpus->view.n_parts++;
    assert_true(part < MAX_PARTS);
    struct segment *segment = &corpus->segments[part];
    uint8_t *block = aligned_alloc(64, BLOCK_BYTES); /* freed by free */
    assert_non_null(block);
    corpus->blocks[part] = block;
    size_t slots = MAX_ITEMS * sizeof(struct slot);
    corpus->used[part] = slots + MAX_ITEMS * shape_scan_bytes(shape);
    *segment = (struct segment){.shape = *shape,
                                .map = block,
                                .slots = (const struct slot *)(const void *)block,
                                .scan = block + slots,
                                .ids = corpus->ids[part]};
    corpus->parts[part] = (struct view_part){
        .segment = segment, .live = {corpus->live[part][0], corpus->live[part][1]}};
}

/* To the last part. */
static uint64_t add_item(struct corpus *corpus, enum item_kind kind, const float *vectors, int n) {
    int part = corpus->view.n_parts - 1, slot = corpus->parts[part].n_slots++;
    const struct shape *shape = &corpus->segments[part].shape;
    uint8_t *block = corpus->blocks[part];
    size_t bytes = shape_pooled_bytes(shape, n) + shape_full_bytes(shape, n);
    assert_true(slot < MAX_ITEMS && corpus->used[part] + bytes <= BLOCK_BYTES);
    struct slot made = {.id = corpus->next_id++,
                        .offset = corpus->used[part],
                        .n = (uint32_t)n,
                        .n_pooled = (uint32_t)shape_n_pooled(shape, n),
                        .kind = (uint8_t)kind};
    size_t scan = MAX_ITEMS * sizeof made + (size_t)slot * shape_scan_bytes(shape);
    must(item_encode(block + scan, block + made.offset, shape, vectors, n, &err));
    memcpy(block + (size_t)slot * sizeof made, &made, sizeof made);
    corpus->ids[part][slot] = made.id;
    corpus->used[part] += bytes;
    corpus->live[part][kind][slot / 64] |= UINT64_C(1) << slot % 64;
    return made.id;
}

struct found {
    struct scored *items;
    int n;
    struct index_effort effort;
};

static struct found find(struct corpus *corpus, const uint64_t *const *allowed, const float *query,
                         int n_query, int limit, bool exact, double recall) {
    struct found found;
    must(view_search(&found.items, &found.n, &found.effort, corpus->arena, NULL, &corpus->view,
                     allowed, ITEM_PAGE, query, n_query, corpus->dim, limit, exact, recall, &err));
    for (int i = 0; i < found.n; i++) {
        const struct scored *item = &found.items[i];
        assert_int_equal(corpus->segments[item->part].slots[item->slot].id, item->id);
        assert_true(i == 0 || item->score < item[-1].score ||
                    (item->score == item[-1].score && item->id > item[-1].id));
    }
    return found;
}

static int n_common(const struct found *a, const struct found *b) {
    int n = 0;
    for (int i = 0; i < a->n; i++) {
        for (int j = 0; j < b->n; j++)
            n += a->items[i].id == b->items[j].id;
    }
    return n;
}

/* ---- pages that are like each other ---- */

enum { DIM = 64, TOPICS = 300, VECTORS = 48, QUESTION = 12 };

static const struct shape late = {.dim = DIM,
                                  .late = true,
                                  .keep_full = true,
                                  .scan_vectors = 16,
                                  .scan_bits = 1,
                                  .pool_bits = 2,
                                  .pool_factor = 3};

struct topics {
    float vectors[TOPICS][DIM];
};

static struct topics *topics_new(void) {
    struct topics *topics = mem_alloc(sizeof *topics);
    for (int i = 0; i < TOPICS; i++)
        random_vector(topics->vectors[i], NULL, 1, DIM);
    return topics;
}

/* A page is about eight topics. */
static void make_page(float *out, const struct topics *topics) {
    int of_page[8];
    for (int i = 0; i < 8; i++)
        of_page[i] = (int)(uniform() * TOPICS);
    for (int v = 0; v < VECTORS; v++)
        random_vector(out + v * DIM, topics->vectors[of_page[v % 8]], 0.8, DIM);
}

/* A question is about four. */
static void make_question(float *out, const struct topics *topics) {
    int of_question[4];
    for (int i = 0; i < 4; i++)
        of_question[i] = (int)(uniform() * TOPICS);
    for (int q = 0; q < QUESTION; q++)
        random_vector(out + q * DIM, topics->vectors[of_question[q % 4]], 0.6, DIM);
}

static void add_pages(struct corpus *corpus, const struct topics *topics, int n) {
    float page[VECTORS * DIM];
    for (int i = 0; i < n; i++) {
        make_page(page, topics);
        add_item(corpus, ITEM_PAGE, page, VECTORS);
    }
}

/* ---- tests ---- */

/* Mean recall over questions is what was asked for, and the stages scored far from everything. */
static void recall_is_as_asked(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    for (int part = 0; part < 3; part++) {
        add_part(corpus, &late);
        add_pages(corpus, topics, 1000);
    }
    const double targets[] = {0.8, 0.95, 0.99};
    int64_t n_full[3] = {0}, n_pooled[3] = {0};
    int n_found[3] = {0};
    enum { N = 40, LIMIT = 10 };
    for (int i = 0; i < N; i++) {
        float question[QUESTION * DIM];
        make_question(question, topics);
        struct found all = find(corpus, NULL, question, QUESTION, LIMIT, true, 0.9);
        assert_int_equal(all.n, LIMIT);
        assert_int_equal(all.effort.n_full, 3000);
        assert_int_equal(all.effort.n_scanned, 0);
        for (int target = 0; target < 3; target++) {
            struct found some = find(corpus, NULL, question, QUESTION, LIMIT, false,
                                     targets[target]);
            assert_int_equal(some.n, LIMIT);
            assert_int_equal(some.effort.n_scanned, 3000);
            n_found[target] += n_common(&all, &some);
            n_pooled[target] += some.effort.n_pooled;
            n_full[target] += some.effort.n_full;
            for (int j = 0; j < some.n; j++) /* scores are by full codes, as exact ones are */
                assert_true(some.items[j].score <= all.items[j].score);
        }
    }
    for (int target = 0; target < 3; target++) {
        assert_true(n_found[target] >= targets[target] * N * LIMIT);
        assert_true(n_pooled[target] <= N * 3000 && n_full[target] * 2 < n_pooled[target]);
    }
    assert_true(n_pooled[0] * 2 < N * 3000 && n_pooled[0] <= n_pooled[2]);
    /* Many more than the stages begin with. */
    float question[QUESTION * DIM];
    make_question(question, topics);
    struct found all = find(corpus, NULL, question, QUESTION, 700, true, 0.9);
    struct found some = find(corpus, NULL, question, QUESTION, 700, false, 0.95);
    assert_int_equal(some.n, 700);
    assert_true(n_common(&all, &some) >= 0.95 * 700 && some.effort.n_full < 3000);
    struct found whole = find(corpus, NULL, topics->vectors[0], 1, LIMIT, false, 1);
    assert_int_equal(whole.effort.n_full, 3000);
    mem_free(topics);
    corpus_free(corpus);
}

/* By full codes an exact search's best are those of the vectors themselves. */
static void exact_is_as_of_vectors(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    add_part(corpus, &late);
    enum { N = 300 };
    float *pages = mem_alloc((size_t)N * VECTORS * DIM * sizeof *pages);
    for (int i = 0; i < N; i++) {
        make_page(pages + (size_t)i * VECTORS * DIM, topics);
        add_item(corpus, ITEM_PAGE, pages + (size_t)i * VECTORS * DIM, VECTORS);
    }
    float question[QUESTION * DIM];
    make_question(question, topics);
    struct found found = find(corpus, NULL, question, QUESTION, N, true, 0.9);
    assert_int_equal(found.n, N);
    for (int i = 0; i < N; i++) {
        const float *page = pages + (size_t)(found.items[i].id - 1) * VECTORS * DIM;
        assert_float_equal(found.items[i].score, maxsim_of(question, QUESTION, page, VECTORS, DIM),
                           0.03);
    }
    mem_free(pages);
    mem_free(topics);
    corpus_free(corpus);
}

/* Same answers with and without a pool of threads. */
static void threads_change_nothing(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    add_part(corpus, &late);
    add_pages(corpus, topics, 700);
    add_part(corpus, &late);
    add_pages(corpus, topics, 333);
    struct device *device;
    must(device_open(&device, "cpu", 3, &err));
    for (int i = 0; i < 10; i++) {
        float question[QUESTION * DIM];
        make_question(question, topics);
        struct found alone = find(corpus, NULL, question, QUESTION, 10, i % 2, 0.95), together;
        must(view_search(&together.items, &together.n, &together.effort, corpus->arena, device,
                         &corpus->view, NULL, ITEM_PAGE, question, QUESTION, DIM, 10, i % 2, 0.95,
                         &err));
        assert_int_equal(together.n, 10);
        assert_memory_equal(alone.items, together.items, 10 * sizeof *alone.items);
        assert_int_equal(alone.effort.n_pooled, together.effort.n_pooled);
        assert_int_equal(alone.effort.n_full, together.effort.n_full);
    }
    device_close(device);
    mem_free(topics);
    corpus_free(corpus);
}

/* Filtered, dead, and of the other kind: not found, however good; the rest are as if alone. */
static void what_is_hidden_is_not_found(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    static uint64_t bits[2][MAX_ITEMS / 64];
    memset(bits, 0, sizeof bits);
    const uint64_t *allowed[] = {bits[0], bits[1]};
    float page[VECTORS * DIM];
    for (int part = 0; part < 2; part++) {
        add_part(corpus, &late);
        for (int i = 0; i < 600; i++) {
            make_page(page, topics);
            add_item(corpus, i % 5 ? ITEM_PAGE : ITEM_CHUNK, page, VECTORS);
            if (i % 7 == 0)
                corpus->live[part][ITEM_PAGE][i / 64] &= ~(UINT64_C(1) << i % 64);
            if (i % 3)
                bits[part][i / 64] |= UINT64_C(1) << i % 64;
        }
    }
    for (int i = 0; i < 20; i++) {
        float question[QUESTION * DIM];
        make_question(question, topics);
        bool filtered = i % 4 > 1, exact = i % 2;
        struct found found = find(corpus, filtered ? allowed : NULL, question, QUESTION, 1000,
                                  exact, 0.9);
        int n_there = 0;
        for (int slot = 0; slot < 600; slot++)
            n_there += slot % 5 && slot % 7 && (!filtered || slot % 3);
        assert_int_equal(found.n, 2 * n_there < 1000 ? 2 * n_there : 1000);
        for (int j = 0; j < found.n; j++) {
            int slot = found.items[j].slot;
            assert_true(slot % 5 && slot % 7 && (!filtered || slot % 3));
        }
        struct found best = find(corpus, filtered ? allowed : NULL, question, QUESTION, 3, true, 1);
        assert_memory_equal(best.items, found.items, 3 * sizeof *best.items);
    }
    memset(bits, 0, sizeof bits);
    struct found none = find(corpus, allowed, page, 4, 10, false, 0.9);
    assert_int_equal(none.n, 0);
    bits[1][8] = UINT64_C(1) << 5; /* slot 517, a page */
    struct found one = find(corpus, allowed, page, 4, 10, false, 0.9);
    assert_int_equal(one.n, 1);
    assert_int_equal(one.items[0].slot, 517);
    mem_free(topics);
    corpus_free(corpus);
}

/* Segments made under other settings lie beside each other: every item is found under the score of
 * its best codes. */
static void shapes_mix(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    struct shape shapes[] = {late, late, late, late};
    shapes[1].keep_full = false;
    shapes[1].pool_bits = 8;
    shapes[1].pool_factor = 1;
    shapes[2].pool_bits = 1;
    shapes[2].scan_vectors = 48;
    shapes[3].pool_bits = 0;
    for (int i = 0; i < 4; i++) {
        add_part(corpus, &shapes[i]);
        add_pages(corpus, topics, i == 3 ? 40 : 500);
    }
    int n_found = 0, n_of_part[4] = {0};
    for (int i = 0; i < 30; i++) {
        float question[QUESTION * DIM];
        make_question(question, topics);
        struct found all = find(corpus, NULL, question, QUESTION, 10, true, 0.9);
        assert_int_equal(all.effort.n_full, 1040);
        assert_int_equal(all.effort.n_pooled, 500);
        struct found some = find(corpus, NULL, question, QUESTION, 10, false, 0.95);
        n_found += n_common(&all, &some);
        for (int j = 0; j < 10; j++)
            n_of_part[all.items[j].part]++;
    }
    assert_true(n_found >= 0.95 * 300);
    assert_true(n_of_part[0] > 40 && n_of_part[1] > 40 && n_of_part[2] > 40);
    mem_free(topics);
    corpus_free(corpus);
}

static void damaged_parts_are_passed_over(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    add_part(corpus, &late);
    add_pages(corpus, topics, 400);
    float question[QUESTION * DIM];
    make_question(question, topics);
    struct found all = find(corpus, NULL, question, QUESTION, 5, true, 0.9);
    for (enum item_part part = PART_SCAN; part <= PART_FULL; part++) {
        memset(damaged, 0, sizeof damaged);
        damaged[part] = all.items[0].id;
        struct found rest = find(corpus, NULL, question, QUESTION, 4, false, 0.999);
        assert_memory_equal(rest.items, all.items + 1, 4 * sizeof *rest.items);
        rest = find(corpus, NULL, question, QUESTION, 400, false, 0.999);
        assert_int_equal(rest.n, part == PART_FULL ? 399 : 400); /* so many: exact */
    }
    mem_free(topics);
    corpus_free(corpus);
}

/* The same page many times: the lowest ids, in their order. A question of zeros: likewise. */
static void ties_go_to_the_lower_id(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    add_part(corpus, &late);
    float page[VECTORS * DIM], question[QUESTION * DIM] = {0};
    make_page(page, topics);
    add_pages(corpus, topics, 150);
    for (int i = 0; i < 600; i++)
        add_item(corpus, ITEM_PAGE, page, VECTORS);
    for (int exact = 0; exact < 2; exact++) {
        struct found found = find(corpus, NULL, page, VECTORS, 20, exact, 0.9);
        assert_int_equal(found.n, 20);
        for (int i = 0; i < 20; i++)
            assert_int_equal(found.items[i].id, 151 + i);
        found = find(corpus, NULL, question, QUESTION, 20, exact, 0.9);
        assert_int_equal(found.n, 20);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(found.items[i].id, 1 + i);
            assert_float_equal(found.items[i].score, 0, 0);
        }
    }
    /* One zero vector among others adds nothing. */
    make_question(question, topics);
    struct found without = find(corpus, NULL, question, QUESTION - 1, 9, false, 0.9);
    memset(question + (QUESTION - 1) * DIM, 0, DIM * sizeof *question);
    struct found with = find(corpus, NULL, question, QUESTION, 9, false, 0.9);
    assert_memory_equal(with.items, without.items, 9 * sizeof *with.items);
    mem_free(topics);
    corpus_free(corpus);
}

static void few_items_and_odd_questions(void **state) {
    (void)state;
    struct corpus *corpus = corpus_new(DIM);
    struct topics *topics = topics_new();
    float *question = mem_alloc(4097 * DIM * sizeof *question);
    for (int q = 0; q < 4097; q++)
        random_vector(question + q * DIM, topics->vectors[q % TOPICS], 0.5, DIM);
    assert_int_equal(find(corpus, NULL, question, 5, 10, false, 0.9).n, 0);
    add_part(corpus, &late);
    assert_int_equal(find(corpus, NULL, question, 5, 10, false, 0.9).n, 0);
    add_item(corpus, ITEM_PAGE, topics->vectors[3], 1);
    assert_int_equal(find(corpus, NULL, question, 5, 10, false, 0.9).n, 1);
    assert_int_equal(find(corpus, NULL, question, 5, 0, false, 0.9).n, 0);
    add_pages(corpus, topics, 99);
    assert_int_equal(find(corpus, NULL, question, 5, 1000, false, 0.9).n, 100);
    assert_int_equal(find(corpus, NULL, question, 1, 99, false, 0.5).n, 99);
    struct found most = find(corpus, NULL, question, 4096, 7, false, 0.99);
    struct found all = find(corpus, NULL, question, 4096, 7, true, 0.99);
    assert_memory_equal(most.items, all.items, 7 * sizeof *all.items);

    struct scored *items;
    struct index_effort effort;
    int n;
    const float bad[] = {NAN, INFINITY, -2e38f};
    for (int i = 0; i < 5; i++) {
        int n_query = i < 3 ? 5 : i == 3 ? 4097 : 0;
        float kept = question[200];
        question[200] = i < 3 ? bad[i] : kept;
        assert_false(view_search(&items, &n, &effort, corpus->arena, NULL, &corpus->view, NULL,
                                 ITEM_PAGE, question, n_query, DIM, 3, false, 0.9, &err));
        assert_int_equal(err.kind, ERROR_INPUT);
        question[200] = kept;
    }
    mem_free(question);
    mem_free(topics);
    corpus_free(corpus);
}

static void single_vectors_are_found_exactly(void **state) {
    (void)state;
    enum { N = 2000, WIDE = 100 };
    struct corpus *corpus = corpus_new(WIDE);
    struct shape shape = {.dim = WIDE, .scan_vectors = 1, .scan_bits = 8};
    float *rows = mem_alloc((size_t)N * WIDE * sizeof *rows), question[WIDE];
    for (int i = 0; i < N; i++) {
        if (i % 700 == 0)
            add_part(corpus, &shape);
        random_vector(rows + i * WIDE, NULL, 1, WIDE);
        add_item(corpus, ITEM_PAGE, rows + i * WIDE, 1);
    }
    random_vector(question, rows + 1234 * WIDE, 0.8, WIDE);
    for (int exact = 0; exact < 2; exact++) {
        struct found found = find(corpus, NULL, question, 1, 50, exact, 0.9);
        assert_int_equal(found.n, 50);
        assert_int_equal(found.items[0].id, 1235);
        assert_int_equal(found.effort.n_scanned, N);
        assert_int_equal(found.effort.n_pooled + found.effort.n_full, 0);
        for (int i = 0; i < 50; i++) {
            double wanted = 0;
            for (int d = 0; d < WIDE; d++)
                wanted += (double)question[d] * (double)rows[(found.items[i].id - 1) * WIDE + d];
            assert_float_equal(found.items[i].score, wanted, 0.005);
        }
    }
    mem_free(rows);
    corpus_free(corpus);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_is_as_asked),
        cmocka_unit_test(exact_is_as_of_vectors),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(what_is_hidden_is_not_found),
        cmocka_unit_test(shapes_mix),
        cmocka_unit_test(damaged_parts_are_passed_over),
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(few_items_and_odd_questions),
        cmocka_unit_test(single_vectors_are_found_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
