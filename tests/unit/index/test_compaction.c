/* Tests of compaction: dead bytes are given back, and searches notice nothing. */
#include "made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLOSE 0.02
#define N_VECTORS 12
#define LITTLE_BYTES (256 << 10) /* not worth a copy */

static void dead_bytes_are_given_back(void **state) {
    struct made *f = *state;
    index_segment_slots = 8;
    int space = space_of(f, "late", true), single = space_of(f, "single", false);
    for (int n = 1; n <= 40; n++) {
        put(f, space, n, ITEM_PAGE, 3, N_VECTORS);
        put(f, single, n + 100, ITEM_CHUNK, 3, 1);
    }
    for (int n = 1; n <= 40; n++) {
        if (n % 4)
            remove_document(f, n);
        remove_document(f, 100 + n);
    }
    const char *left = found(f, space, ITEM_PAGE, NULL);
    struct space_facts before = facts_of(f, space);
    assert_true(before.dead_bytes > 0);
    assert_int_equal(before.n_segments, 15);
    must(index_compact(f->index, &err));
    for (int again = 0; again < 2; again++) {
        struct space_facts after = facts_of(f, space);
        assert_int_equal(after.dead_bytes, 0);
        assert_int_equal(after.n_items, before.n_items);
        assert_int_equal(after.n_vectors, before.n_vectors);
        assert_int_equal(after.pooled_bytes, before.pooled_bytes);
        assert_int_equal(after.full_bytes, before.full_bytes);
        assert_true(after.file_bytes < before.file_bytes / 2);
        assert_in_range(after.n_segments, 4, 5);
        assert_int_equal(facts_of(f, single).n_segments, 0);
        assert_int_equal(facts_of(f, single).file_bytes, 0);
        assert_string_equal(found(f, space, ITEM_PAGE, NULL), left);
        struct answers answers;
        must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 6, &err));
        check_scores(&answers, ITEM_PAGE, N_VECTORS, true, 5, 6, CLOSE);
        made_reopen(f);
    }
    assert_int_equal(size_of(segment_file(f, space, 1)), -1);
    put(f, space, 50, ITEM_PAGE, 3, N_VECTORS);
    put(f, single, 150, ITEM_CHUNK, 3, 1);
    remove_document(f, 4);
    must(index_compact(f->index, &err));
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL),
                        arena_printf(f->arena, "%s 50:1 50:2 50:3", left + strlen("4:1 4:2 4:3 ")));
    assert_string_equal(found(f, single, ITEM_CHUNK, NULL), "150:0 150:1 150:2");
    assert_string_equal(f->damaged, "");
}

/* A writer's slots stay where they are until it has committed or given up. */
static void writers_under_way_are_left_alone(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    struct index_writer *writer;
    struct store_tx *tx;
    char id[SHA256_HEX + 1];
    float vectors[N_VECTORS * DIM];
    id_of(id, 3);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    must(index_writer_open(&writer, f->index, space, id, &err));
    fill(vectors, N_VECTORS, 3001);
    must(index_writer_add(writer, ITEM_PAGE, 1, vectors, N_VECTORS, &err));
    put(f, space, 2, ITEM_PAGE, 3, N_VECTORS);
    remove_document(f, 1);
    must(index_compact(f->index, &err));
    assert_int_equal(facts_of(f, space).n_segments, 1);
    must(begin_reading(&tx, f, 3, 1, &err));
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:2 2:3 3:1");
    must(index_compact(f->index, &err));
    assert_int_equal(facts_of(f, space).dead_bytes, 0);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:2 2:3 3:1");
    assert_true(size_of(segment_file(f, space, 2)) > 0);
    assert_int_equal(size_of(segment_file(f, space, 1)), -1);
}

/* Broken off after the copy has its name: an id is in two files, and the newer one's counts. */
static void a_copy_beside_its_original_is_no_second_item(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    char *bytes;
    size_t len;
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    put(f, space, 2, ITEM_PAGE, 3, N_VECTORS);
    remove_document(f, 1);
    made_reopen(f);
    must(file_read(&bytes, &len, segment_file(f, space, 1), (size_t)64 << 20, &err));
    must(index_compact(f->index, &err));
    assert_int_equal(size_of(segment_file(f, space, 1)), -1);
    must(file_write_durable(segment_file(f, space, 1), bytes, len, &err));
    must(file_write_durable(arena_printf(f->arena, "%s.tmp", segment_file(f, space, 9)), bytes, len,
                            &err));
    mem_free(bytes);
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:2 2:3");
    assert_int_equal(facts_of(f, space).n_segments, 1);
    assert_int_equal(size_of(segment_file(f, space, 1)), -1);
    assert_true(size_of(segment_file(f, space, 2)) > 0);
    assert_int_equal(size_of(arena_printf(f->arena, "%s.tmp", segment_file(f, space, 9))), -1);
    put(f, space, 3, ITEM_PAGE, 3, N_VECTORS);
    struct answers answers;
    must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 6, &err));
    assert_int_equal(answers.n, 6);
    check_scores(&answers, ITEM_PAGE, N_VECTORS, true, 5, 6, CLOSE);
}

/* What is damaged is not copied, but told of. */
static void damage_is_found_by_copying(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    put(f, space, 2, ITEM_PAGE, 3, N_VECTORS);
    remove_document(f, 1);
    made_reopen(f);
    struct view *view = view_take(index_space_numbered(f->index, space));
    int64_t offset = (int64_t)view->parts[0].segment->slots[4].offset;
    view_drop(f->index, view);
    FILE *file = fopen(segment_file(f, space, 1), "r+b");
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite("x", 1, 1, file), 1);
    fclose(file);
    must(index_compact(f->index, &err));
    assert_string_equal(f->damaged, "2:2 000001.seg pooled codes; ");
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:3");
    assert_int_equal(facts_of(f, space).n_items, 2);
    f->damaged[0] = '\0';
    made_reopen(f); /* its row is there still: it is told of again */
    assert_string_equal(f->damaged, "2:2 - slot; ");
}

/* ---- under way ------------------------------------------------------------------------------ */

struct worker {
    struct made *f;
    int space, n_done;
    bool ok;
    struct error why;
    atomic_bool *enough;
};

/* Of documents 1 to 10, which stay, every answer has all pages with their scores. */
static void search_on(void *arg) {
    struct worker *worker = arg;
    struct answers *answers = mem_alloc(sizeof *answers), *first = mem_alloc(sizeof *first);
    for (worker->ok = true; worker->ok && !atomic_load(worker->enough); worker->n_done++) {
        int n_stable = 0;
        worker->ok = ask_for(answers, worker->f, worker->space, ITEM_PAGE, 4000, NULL, 5, 4,
                             &worker->why);
        for (int i = 0; worker->ok && i < answers->n; i++) {
            const struct answer *answer = &answers->items[i];
            if (answer->n > 10)
                continue;
            if (worker->n_done == 0)
                first->items[answer->n * 3 + answer->item] = *answer;
            else if (first->items[answer->n * 3 + answer->item].score != answer->score)
                worker->ok = error_set(&worker->why, ERROR_INTERNAL, "%d:%d has another score",
                                       answer->n, answer->item);
            n_stable++;
        }
        if (worker->ok && n_stable != 30)
            worker->ok = error_set(&worker->why, ERROR_INTERNAL, "%d of 30 pages", n_stable);
    }
    mem_free(answers);
    mem_free(first);
}

static void write_on(void *arg) {
    struct worker *worker = arg;
    for (worker->ok = true; worker->ok && !atomic_load(worker->enough); worker->n_done++)
        worker->ok = put_items(worker->f, worker->space, 1000 + worker->n_done % 20, ITEM_PAGE, 3,
                               N_VECTORS, &worker->why);
}

static void compact_on(void *arg) {
    struct worker *worker = arg;
    for (worker->ok = true; worker->ok && !atomic_load(worker->enough); worker->n_done++)
        worker->ok = index_compact(worker->f->index, &worker->why);
}

static void check_on(void *arg) {
    struct worker *worker = arg;
    for (worker->ok = true; worker->ok && !atomic_load(worker->enough); worker->n_done++) {
        int64_t n_items, n_damaged;
        worker->ok = index_check(&n_items, &n_damaged, worker->f->index, &worker->why) &&
                     (n_damaged == 0 ||
                      error_set(&worker->why, ERROR_INTERNAL, "%d damaged", (int)n_damaged));
    }
}

/* Searches, writers, removals and compaction at once: every answer is whole. */
static void readers_notice_nothing(void **state) {
    struct made *f = *state;
    static void (*const work[])(void *) = {search_on, search_on, write_on, compact_on, check_on};
    struct worker workers[BASE_COUNT(work)];
    struct thread *threads[BASE_COUNT(work)];
    atomic_bool enough = false;
    index_segment_slots = 16;
    int space = space_of(f, "late", true);
    for (int n = 1; n <= 10; n++) {
        put(f, space, n, ITEM_PAGE, 3, N_VECTORS);
        put(f, space, 500 + n, ITEM_PAGE, 3, N_VECTORS);
    }
    must(index_start(f->index, &err));
    for (size_t i = 0; i < BASE_COUNT(work); i++) {
        workers[i] = (struct worker){.f = f, .space = space, .enough = &enough};
        must(thread_start(&threads[i], "worker", work[i], &workers[i], &err));
    }
    for (int i = 0; i < 60; i++) {
        time_sleep_ms(20);
        remove_document(f, i < 10 ? 501 + i : 1000 + i % 20);
    }
    atomic_store(&enough, true);
    for (size_t i = 0; i < BASE_COUNT(work); i++) {
        thread_join(threads[i]);
        if (!workers[i].ok)
            fail_msg("worker %zu: %s", i, workers[i].why.text);
        print_message("worker %zu: %d rounds\n", i, workers[i].n_done);
        assert_true(workers[i].n_done > 0);
    }
    assert_string_equal(f->damaged, "");
    const char *now = found(f, space, ITEM_PAGE, NULL);
    must(index_compact(f->index, &err));
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), now);
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), now);
}

/* The keeper compacts by itself, until too little is dead to be worth it, and has every byte looked
 * at. How little that is depends on when it looks. */
static void the_keeper_keeps(void **state) {
    struct made *f = *state;
    index_segment_slots = 64;
    int space = space_of(f, "late", true);
    for (int n = 1; n <= 30; n++)
        put(f, space, n, ITEM_PAGE, 3, 400);
    made_reopen(f);
    assert_int_equal(facts_of(f, space).n_checked, 0);
    must(index_start(f->index, &err));
    for (int n = 1; n <= 20; n++)
        remove_document(f, n);
    int64_t give_up_ms = time_mono_ms() + 20000;
    struct space_facts facts;
    do {
        time_sleep_ms(20);
        facts = facts_of(f, space);
    } while ((facts.dead_bytes >= LITTLE_BYTES || facts.n_checked < 30 ||
              size_of(segment_file(f, space, 1)) >= 0) &&
             time_mono_ms() < give_up_ms);
    assert_true(facts.dead_bytes < LITTLE_BYTES);
    assert_int_equal(facts.n_items, 30);
    assert_int_equal(facts.n_checked, 30);
    assert_int_equal(size_of(segment_file(f, space, 1)), -1);
    struct answers answers;
    must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 4, &err));
    assert_int_equal(answers.n, 30);
    check_scores(&answers, ITEM_PAGE, 400, true, 5, 4, CLOSE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, made_open, made_close)
        TEST(dead_bytes_are_given_back),
        TEST(writers_under_way_are_left_alone),
        TEST(a_copy_beside_its_original_is_no_second_item),
        TEST(damage_is_found_by_copying),
        TEST(readers_notice_nothing),
        TEST(the_keeper_keeps),
    };
    return cmocka_run_group_tests_name("compaction", tests, NULL, NULL);
}
