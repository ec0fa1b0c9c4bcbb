/* Tests of the index: what goes in comes out, in order; what was torn is cut. */
#include "made.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSE 0.02 /* of a product of int8 codes to that of floats */

static void spaces_keep_their_names(void **state) {
    struct made *f = *state;
    int a = space_of(f, "a", false), b = space_of(f, "b", true), other;
    assert_int_not_equal(a, b);
    assert_int_equal(space_of(f, "a", false), a);
    struct space_info wrong = {.name = "a", .dim = DIM + 1};
    assert_false(index_space(&other, f->index, &wrong, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    made_reopen(f);
    assert_int_equal(space_of(f, "b", true), b);
    assert_false(index_space(&other, f->index, &wrong, &err));
    wrong.name = "c";
    wrong.dim = 0;
    assert_false(index_space(&other, f->index, &wrong, &err));
    assert_string_equal(facts_of(f, a).name, "a");
    assert_string_equal(facts_of(f, b).name, "b");
    assert_true(facts_of(f, b).late);
    assert_int_equal(facts_of(f, a).n_items, 0);
    assert_int_equal(facts_of(f, a).file_bytes, 0);
}

static void an_empty_index_answers(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", true);
    struct answers answers;
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "");
    assert_false(ask_for(&answers, f, 77, ITEM_PAGE, 1, NULL, 1, 1, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    struct index_hit *hits;
    struct index_effort effort;
    int n;
    struct index_query query = {.space = space, .limit = 3};
    must(index_search(&hits, &n, &effort, f->arena, f->index, &query, &err));
    assert_int_equal(n, 0);
    int64_t n_items, n_damaged;
    must(index_check(&n_items, &n_damaged, f->index, &err));
    assert_int_equal(n_items + n_damaged, 0);
    must(index_compact(f->index, &err));
}

static void single_vectors_come_back(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", false);
    struct answers answers;
    for (int n = 1; n <= 20; n++)
        put(f, space, n, n % 4 ? ITEM_CHUNK : ITEM_PAGE, 3, 1);
    for (int again = 0; again < 2; again++) {
        must(ask_for(&answers, f, space, ITEM_CHUNK, 100, NULL, 5, 1, &err));
        assert_int_equal(answers.n, 45);
        check_scores(&answers, ITEM_CHUNK, 1, false, 5, 1, CLOSE);
        must(ask_for(&answers, f, space, ITEM_PAGE, 4, NULL, 5, 1, &err));
        assert_int_equal(answers.n, 4);
        check_scores(&answers, ITEM_PAGE, 1, false, 5, 1, CLOSE);
        /* A document's own vector finds it first. */
        must(ask_for(&answers, f, space, ITEM_CHUNK, 1, NULL, 17002, 1, &err));
        assert_int_equal(answers.items[0].n, 17);
        assert_int_equal(answers.items[0].item, 2);
        assert_int_equal(facts_of(f, space).n_vectors, 60);
        made_reopen(f);
    }
}

static void late_items_come_back(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    struct answers answers;
    for (int n = 1; n <= 20; n++)
        put(f, space, n, ITEM_PAGE, 3, 1 + n * 5);
    for (int again = 0; again < 2; again++) {
        must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 6, &err));
        assert_int_equal(answers.n, 60);
        for (int i = 0; i < answers.n; i++) {
            struct answers one = {.n = 1, .items = {answers.items[i]}};
            check_scores(&one, ITEM_PAGE, 1 + one.items[0].n * 5, true, 5, 6, CLOSE);
        }
        must(ask_for(&answers, f, space, ITEM_PAGE, 1, NULL, 17002, 10, &err));
        assert_int_equal(answers.items[0].n, 17);
        assert_int_equal(answers.items[0].item, 2);
        struct space_facts facts = facts_of(f, space);
        assert_int_equal(facts.n_items, 60);
        assert_int_equal(facts.n_vectors, 3 * (20 + 5 * 210));
        assert_true(facts.scan_bytes > 0 && facts.pooled_bytes > 0 && facts.full_bytes > 0);
        assert_true(facts.file_bytes >= facts.pooled_bytes + facts.full_bytes);
        assert_int_equal(facts.dead_bytes, 0);
        assert_int_equal(facts.n_segments, 1);
        made_reopen(f);
    }
    /* Ties go to the older. */
    put(f, space, 30, ITEM_PAGE, 1, 4);
    struct index_writer *writer;
    struct store_tx *tx;
    char id[SHA256_HEX + 1];
    float vectors[4 * DIM];
    id_of(id, 29);
    fill(vectors, 4, 30001);
    must(index_writer_open(&writer, f->index, space, id, &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, vectors, 4, &err));
    must(begin_reading(&tx, f, 29, 1, &err));
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    must(ask_for(&answers, f, space, ITEM_PAGE, 2, NULL, 30001, 4, &err));
    assert_int_equal(answers.items[0].n, 30);
    assert_int_equal(answers.items[1].n, 29);
    assert_true(answers.items[0].score == answers.items[1].score);
}

static void segments_follow_one_another(void **state) {
    struct made *f = *state;
    index_segment_slots = 8;
    int space = space_of(f, "late", true), other = space_of(f, "other", false);
    struct answers answers;
    for (int n = 1; n <= 30; n++) {
        put(f, space, n, ITEM_PAGE, 3, 20);
        put(f, other, n + 100, ITEM_CHUNK, 3, 1);
    }
    for (int again = 0; again < 2; again++) {
        assert_int_equal(facts_of(f, space).n_segments, 12);
        must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 6, &err));
        assert_int_equal(answers.n, 90);
        check_scores(&answers, ITEM_PAGE, 20, true, 5, 6, CLOSE);
        must(ask_for(&answers, f, other, ITEM_CHUNK, 100, NULL, 5, 1, &err));
        assert_int_equal(answers.n, 90);
        made_reopen(f);
    }
    put(f, space, 31, ITEM_PAGE, 2, 20);
    assert_int_equal(facts_of(f, space).n_segments, 12); /* the last had room */
    /* Other settings are for new segments; old ones go on. */
    f->settings.code_bits = 8;
    f->settings.keep_full = false;
    made_reopen(f);
    put(f, space, 32, ITEM_PAGE, 2, 20);
    assert_int_equal(facts_of(f, space).n_segments, 13);
    must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 6, &err));
    assert_int_equal(answers.n, 94);
    made_reopen(f);
    put(f, space, 33, ITEM_PAGE, 2, 20);
    assert_int_equal(facts_of(f, space).n_segments, 13);
}

static void filters_act_before_scoring(void **state) {
    struct made *f = *state;
    index_segment_slots = 4;
    int space = space_of(f, "s", false);
    for (int n = 1; n <= 4; n++)
        put(f, space, n, ITEM_CHUNK, 3, 1);
    char two[SHA256_HEX + 1], three[SHA256_HEX + 1];
    id_of(two, 2);
    id_of(three, 3);
    const char *ids[] = {two, three}, *formats[] = {"md"};
    struct search_filter filter = {.doc_ids = ids, .n_doc_ids = 2};
    assert_string_equal(found(f, space, ITEM_CHUNK, &filter), "2:0 2:1 2:2 3:0 3:1 3:2");
    filter.formats = formats;
    filter.n_formats = 1;
    assert_string_equal(found(f, space, ITEM_CHUNK, &filter), "2:0 2:1 2:2");
    struct search_filter pages = {.page_from = 2, .page_to = 2};
    assert_string_equal(found(f, space, ITEM_CHUNK, &pages), "1:1 2:1 3:1 4:1");
    struct search_filter dates = {.added_from_ms = 2, .added_to_ms = 3};
    struct answers answers;
    must(ask_for(&answers, f, space, ITEM_CHUNK, 2, &dates, 4000, 1, &err));
    assert_int_equal(answers.n, 2);
    assert_in_range(answers.items[0].n, 2, 3);
    struct search_filter nobody = {.doc_ids = ids, .n_doc_ids = 0};
    assert_string_equal(found(f, space, ITEM_CHUNK, &nobody), "");
    put(f, space, 4, ITEM_PAGE, 3, 1);
    assert_string_equal(found(f, space, ITEM_PAGE, &pages), "4:2");
}

static void rows_go_with_the_document(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 3, 1);
    put(f, space, 2, ITEM_CHUNK, 3, 1);
    put(f, space, 3, ITEM_CHUNK, 3, 1);
    assert_int_equal(facts_of(f, space).n_items, 9);
    remove_document(f, 1);
    struct store_tx *tx;
    char two[SHA256_HEX + 1];
    id_of(two, 2);
    must(store_begin(&tx, f->store, &err));
    must(store_set_document_state(tx, two, DOCUMENT_FAILED, "corrupt", "text", &err));
    must(store_commit(tx, &err));
    assert_string_equal(found(f, space, ITEM_CHUNK, NULL), "3:0 3:1 3:2");
    assert_int_equal(facts_of(f, space).n_items, 3);
    assert_int_equal(facts_of(f, space).n_vectors, 3);
    assert_true(facts_of(f, space).dead_bytes >= 6 * DIM);
    /* Read again: the old vectors go with the old reading. */
    put(f, space, 3, ITEM_CHUNK, 2, 1);
    assert_string_equal(found(f, space, ITEM_CHUNK, NULL), "3:0 3:1");
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_CHUNK, NULL), "3:0 3:1");
}

static void what_is_not_committed_is_not_there(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", true);
    put(f, space, 1, ITEM_CHUNK, 1, 5);
    made_reopen(f);
    int64_t size = size_of(segment_file(f, space, 1));
    struct index_writer *writer;
    struct store_tx *tx;
    char two[SHA256_HEX + 1];
    float vectors[30 * DIM];
    id_of(two, 2);
    fill(vectors, 30, 9);
    for (int way = 0; way < 2; way++) {
        must(index_writer_open(&writer, f->index, space, two, &err));
        for (int i = 0; i < 3; i++)
            must(index_writer_add(writer, ITEM_PAGE, i + 1, vectors, 30, &err));
        must(begin_reading(&tx, f, 2, 1, &err));
        must(index_writer_commit(writer, tx, &err));
        store_rollback(tx);
        if (way == 1) { /* another commits meanwhile, from the same slots on */
            put(f, space, 4, ITEM_CHUNK, 1, 5);
        }
        index_writer_free(writer);
        assert_string_equal(found(f, space, ITEM_PAGE, NULL), "");
        assert_true(size_of(segment_file(f, space, 1)) > size);
        made_reopen(f);
        if (way == 0)
            assert_int_equal(size_of(segment_file(f, space, 1)), size); /* the tail is cut */
    }
    assert_true(facts_of(f, space).dead_bytes > 0);
    put(f, space, 3, ITEM_CHUNK, 1, 5);
    assert_string_equal(found(f, space, ITEM_CHUNK, NULL), "1:0 3:0 4:0");
    struct answers answers;
    must(ask_for(&answers, f, space, ITEM_CHUNK, 100, NULL, 5, 6, &err));
    check_scores(&answers, ITEM_CHUNK, 5, true, 5, 6, CLOSE);
}

/* The same writer again, after its transaction was rolled back. */
static void a_commit_may_be_tried_again(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", false);
    struct index_writer *writer;
    struct store_tx *tx;
    char one[SHA256_HEX + 1];
    float vector[DIM];
    id_of(one, 1);
    fill(vector, 1, 1000);
    must(index_writer_open(&writer, f->index, space, one, &err));
    must(index_writer_add(writer, ITEM_CHUNK, 0, vector, 1, &err));
    must(begin_reading(&tx, f, 1, 1, &err));
    must(index_writer_commit(writer, tx, &err));
    store_rollback(tx);
    fill(vector, 1, 1001);
    must(index_writer_add(writer, ITEM_CHUNK, 1, vector, 1, &err));
    must(begin_reading(&tx, f, 1, 1, &err));
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    assert_string_equal(found(f, space, ITEM_CHUNK, NULL), "1:0 1:1");
}

/* Of a document that has not been read no vectors are taken. */
static void only_read_documents_have_vectors(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", false);
    struct index_writer *writer;
    struct store_tx *tx;
    char one[SHA256_HEX + 1];
    float vector[2 * DIM];
    id_of(one, 1);
    fill(vector, 2, 1);
    must(index_writer_open(&writer, f->index, space, one, &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, vector, 1, &err));
    must(store_begin(&tx, f->store, &err));
    assert_false(index_writer_commit(writer, tx, &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    store_rollback(tx);
    assert_false(index_writer_add(writer, ITEM_PAGE, 2, vector, 0, &err));
    assert_false(index_writer_add(writer, ITEM_PAGE, 2, vector, 2, &err)); /* one each, here */
    index_writer_free(writer);
    assert_false(index_writer_open(&writer, f->index, 77, one, &err));
}

static void a_space_is_dropped(void **state) {
    struct made *f = *state;
    int a = space_of(f, "a", true), b = space_of(f, "b", false);
    struct answers answers;
    struct index_writer *writer;
    struct store_tx *tx;
    char one[SHA256_HEX + 1];
    float vectors[5 * DIM];
    id_of(one, 9);
    fill(vectors, 5, 9);
    put(f, a, 1, ITEM_PAGE, 3, 5);
    put(f, b, 2, ITEM_CHUNK, 3, 1);
    must(index_writer_open(&writer, f->index, a, one, &err));
    must(index_writer_add(writer, ITEM_PAGE, 1, vectors, 5, &err));
    must(index_drop_space(f->index, a, &err));
    assert_false(index_drop_space(f->index, a, &err));
    assert_false(index_writer_add(writer, ITEM_PAGE, 2, vectors, 5, &err));
    must(begin_reading(&tx, f, 9, 1, &err));
    assert_false(index_writer_commit(writer, tx, &err));
    store_rollback(tx);
    index_writer_free(writer);
    assert_false(ask_for(&answers, f, a, ITEM_PAGE, 1, NULL, 1, 1, &err));
    assert_int_equal(size_of(arena_printf(f->arena, "%s/vectors/%d", f->dir, a)), -1);
    assert_int_equal(size_of(arena_printf(f->arena, "%s/vectors/%d.dropped", f->dir, a)), -1);
    assert_string_equal(found(f, b, ITEM_CHUNK, NULL), "2:0 2:1 2:2");
    int again = space_of(f, "a", true); /* the same name anew */
    assert_int_not_equal(again, a);
    assert_string_equal(found(f, again, ITEM_PAGE, NULL), "");
    put(f, again, 3, ITEM_PAGE, 1, 5);
    made_reopen(f);
    assert_string_equal(found(f, again, ITEM_PAGE, NULL), "3:1");
    /* Broken off between the folder's name and the rows, and after them. */
    index_close(f->index);
    f->index = NULL;
    const char *dir = arena_printf(f->arena, "%s/vectors/%d", f->dir, again);
    const char *gone = arena_printf(f->arena, "%s/vectors/77.dropped", f->dir);
    assert_int_equal(rename(dir, arena_printf(f->arena, "%s.dropped", dir)), 0);
    must(dir_make(gone, &err));
    made_reopen(f);
    assert_string_equal(found(f, again, ITEM_PAGE, NULL), "3:1");
    assert_int_equal(size_of(gone), -1);
}

/* The database is gone, its files are there: a new one takes none of them. */
static void files_of_a_lost_database_are_kept(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", false);
    put(f, space, 1, ITEM_CHUNK, 2, 1);
    const char *path = segment_file(f, space, 1);
    const char *other = arena_printf(f->arena, "%s/vectors/99", f->dir);
    index_close(f->index);
    store_close(f->store);
    f->index = NULL;
    f->store = NULL;
    static const char *const names[] = {"docusearch.db", "docusearch.db-wal", "docusearch.db-shm"};
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        unlink(arena_printf(f->arena, "%s/%s", f->dir, names[i]));
    must(dir_make(other, &err));
    made_reopen(f);
    assert_true(size_of(path) > 0); /* nobody has asked for a space */
    assert_int_equal(space_of(f, "new", false), space);
    assert_int_equal(size_of(path), -1);
    assert_true(size_of(arena_printf(f->arena, "%s/vectors/%d.lost/000001.seg", f->dir, space)) >
                0);
    assert_true(size_of(other) > 0);
    put(f, space, 1, ITEM_CHUNK, 1, 1);
    assert_string_equal(found(f, space, ITEM_CHUNK, NULL), "1:0");
}

static void files_of_the_older_form_go(void **state) {
    struct made *f = *state;
    space_of(f, "s", false);
    const char *old = arena_printf(f->arena, "%s/vectors/1-1.f32", f->dir);
    const char *kept = arena_printf(f->arena, "%s/vectors/1-1.f32.damaged", f->dir);
    must(file_write_durable(old, "DSVEC", 5, &err));
    must(file_write_durable(kept, "DSVEC", 5, &err));
    made_reopen(f);
    assert_int_equal(size_of(old), -1);
    assert_int_equal(size_of(kept), 5);
}

static void question_and_item_are_compared(void **state) {
    struct made *f = *state;
    int late = space_of(f, "late", true), single = space_of(f, "single", false);
    float question[3 * DIM], vectors[40 * DIM];
    struct index_fit fit;
    char one[SHA256_HEX + 1];
    id_of(one, 1);
    fill(question, 3, 5);
    put(f, late, 1, ITEM_PAGE, 2, 37);
    must(index_fit(&fit, f->arena, f->index, late, one, ITEM_PAGE, 2, question, 3, &err));
    assert_int_equal(fit.n_query, 3);
    assert_int_equal(fit.n_vectors, 37);
    fill(vectors, 37, 1002);
    for (int q = 0; q < 3; q++) {
        for (int v = 0; v < 37; v++) {
            double wanted = 0;
            for (int d = 0; d < DIM; d++)
                wanted += (double)question[q * DIM + d] * (double)vectors[v * DIM + d];
            assert_true(fabs((double)fit.values[q * 37 + v] - wanted) < CLOSE);
        }
    }
    assert_false(index_fit(&fit, f->arena, f->index, late, one, ITEM_PAGE, 9, question, 3, &err));
    assert_string_equal(err.code, "not_found");
    assert_false(index_fit(&fit, f->arena, f->index, late, one, ITEM_CHUNK, 2, question, 3, &err));
    assert_false(index_fit(&fit, f->arena, f->index, 77, one, ITEM_PAGE, 2, question, 3, &err));
    put(f, single, 2, ITEM_CHUNK, 2, 1);
    id_of(one, 2);
    must(index_fit(&fit, f->arena, f->index, single, one, ITEM_CHUNK, 1, question, 3, &err));
    assert_int_equal(fit.n_vectors, 1);
    fill(vectors, 1, 2001);
    for (int q = 0; q < 3; q++) {
        double wanted = maxsim_of(question + q * DIM, 1, vectors, 1, DIM);
        assert_true(fabs((double)fit.values[q] - wanted) < CLOSE);
    }
    f->settings.keep_full = false;
    made_reopen(f);
    put(f, late, 3, ITEM_PAGE, 2, 37);
    id_of(one, 3);
    assert_false(index_fit(&fit, f->arena, f->index, late, one, ITEM_PAGE, 2, question, 3, &err));
    assert_string_equal(err.code, "no_patches");
}

/* Cut under the open index: an error that names the file, not the end of the program. */
static void a_file_that_is_cut_while_open_is_an_error(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true), other = space_of(f, "o", false);
    struct answers answers;
    put(f, other, 2, ITEM_CHUNK, 1, 1);
    put(f, space, 1, ITEM_PAGE, 3, 100);
    const char *path = segment_file(f, space, 1);
    int64_t size = size_of(path);
    char *bytes;
    size_t len;
    must(file_read(&bytes, &len, path, (size_t)size + 1, &err));
    assert_int_equal(truncate(path, 5000), 0);
    for (int i = 0; i < 3; i++) {
        assert_false(ask_for(&answers, f, space, ITEM_PAGE, 9, NULL, 1, 1, &err));
        assert_string_equal(err.code, "vectors_cut");
        assert_non_null(strstr(err.text, "000001.seg"));
    }
    int64_t n_items, n_damaged;
    assert_false(index_check(&n_items, &n_damaged, f->index, &err));
    assert_string_equal(found(f, other, ITEM_CHUNK, NULL), "2:0");
    must(file_write_durable(arena_printf(f->arena, "%s/copy", f->dir), bytes, len, &err));
    mem_free(bytes);
    assert_int_equal(truncate(path, size), 0);
    /* It has its length again, and holes: what is read is checked. */
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "");
    assert_int_equal(facts_of(f, space).n_damaged, 3);
}

/* ---- several at once ------------------------------------------------------------------------ */

struct racer {
    struct made *f;
    int space, n;
    bool ok;
    struct error why;
};

static void race(void *arg) {
    struct racer *racer = arg;
    racer->ok = put_items(racer->f, racer->space, racer->n, ITEM_PAGE, 100, 7, &racer->why);
}

static void several_documents_are_written_at_once(void **state) {
    struct made *f = *state;
    struct racer racers[4];
    struct thread *threads[4];
    struct answers *answers = mem_alloc(sizeof *answers);
    index_segment_slots = 64;
    int space = space_of(f, "late", true);
    for (int i = 0; i < 4; i++) {
        racers[i] = (struct racer){.f = f, .space = space, .n = i + 1};
        must(thread_start(&threads[i], "racer", race, &racers[i], &err));
    }
    for (int i = 0; i < 50; i++) {
        must(ask_for(answers, f, space, ITEM_PAGE, 1000, NULL, 5, 3, &err));
        assert_int_equal(answers->n % 100, 0); /* documents come whole */
    }
    for (int i = 0; i < 4; i++) {
        thread_join(threads[i]);
        if (!racers[i].ok)
            fail_msg("%s", racers[i].why.text);
    }
    for (int again = 0; again < 2; again++) {
        must(ask_for(answers, f, space, ITEM_PAGE, 1000, NULL, 5, 3, &err));
        assert_int_equal(answers->n, 400);
        check_scores(answers, ITEM_PAGE, 7, true, 5, 3, CLOSE); /* each its own bytes */
        assert_int_equal(facts_of(f, space).dead_bytes, 0);
        made_reopen(f);
    }
    mem_free(answers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, made_open, made_close)
        TEST(spaces_keep_their_names),
        TEST(an_empty_index_answers),
        TEST(single_vectors_come_back),
        TEST(late_items_come_back),
        TEST(segments_follow_one_another),
        TEST(filters_act_before_scoring),
        TEST(rows_go_with_the_document),
        TEST(what_is_not_committed_is_not_there),
        TEST(a_commit_may_be_tried_again),
        TEST(only_read_documents_have_vectors),
        TEST(a_space_is_dropped),
        TEST(files_of_a_lost_database_are_kept),
        TEST(files_of_the_older_form_go),
        TEST(question_and_item_are_compared),
        TEST(a_file_that_is_cut_while_open_is_an_error),
        TEST(several_documents_are_written_at_once),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
