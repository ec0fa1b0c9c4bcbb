/* Tests of items on their way from one data folder into another: they answer as they did, whatever
 * the folder's holder does meanwhile, and nothing comes of bytes that are no block. */
#include "index/backup.h"
#include "made.h"
#include "store/backup.h"

#include <string.h>

#define QUERY 5

/* Document n of `from` with its vectors of the space into `to`, out of the source. */
static void carry(struct made *to, struct made *from, const struct index_source *source,
                  struct index_restore *restore, int space, int n) {
    struct index_writer *writer;
    struct item_row *rows;
    struct store_tx *tx;
    struct buf block = {0};
    char id[SHA256_HEX + 1];
    int n_rows;
    id_of(id, n);
    must(store_list_items(&rows, &n_rows, from->arena, from->store, id, &err));
    assert_true(n_rows > 0);
    must(index_writer_open(&writer, to->index, space, id, &err));
    for (int i = 0; i < n_rows; i++) {
        struct index_block head;
        bool there;
        must(index_source_load(&block, &there, source, rows[i].id, &err));
        assert_true(there);
        must(index_block_head(&head, block.data, &err));
        assert_int_equal(head.len, block.len);
        assert_int_equal(head.id, rows[i].id);
        assert_int_equal((int)head.kind, (int)rows[i].kind);
        must(index_restore_add(restore, writer, rows[i].item, block.data, block.len, &err));
    }
    must(begin_reading(&tx, to, n, 1, &err));
    must(index_writer_commit(writer, tx, &err));
    must(store_commit(tx, &err));
    index_writer_free(writer);
    buf_fini(&block);
}

static struct space_row row_of(struct made *made, int space) {
    struct space_row *rows;
    int n;
    must(store_list_spaces(&rows, &n, made->arena, made->store, &err));
    for (int i = 0; i < n; i++) {
        if (rows[i].space == space)
            return rows[i];
    }
    fail_msg("no space %d", space);
    return rows[0];
}

static void same_answers(struct made *one, int space, struct made *other, int other_space,
                         enum item_kind kind) {
    for (unsigned seed = 1; seed < 5; seed++) {
        struct answers *a = arena_alloc(one->arena, sizeof *a);
        struct answers *b = arena_alloc(one->arena, sizeof *b);
        must(ask_for(a, one, space, kind, 100, NULL, seed, QUERY, &err));
        must(ask_for(b, other, other_space, kind, 100, NULL, seed, QUERY, &err));
        assert_true(a->n > 0);
        assert_int_equal(a->n, b->n);
        for (int i = 0; i < a->n; i++) {
            assert_int_equal(a->items[i].n, b->items[i].n);
            assert_int_equal(a->items[i].item, b->items[i].item);
            assert_true(a->items[i].score == b->items[i].score);
        }
    }
}

/* Items of two shapes of codes go into an index whose settings make a third. */
static void check_carried(struct made *from, bool late) {
    void *state = NULL;
    struct index_restore *restore;
    assert_int_equal(made_open(&state), 0);
    struct made *to = state;
    int n_vectors = late ? 40 : 1;
    int space = space_of(from, "s", late);
    put(from, space, 1, ITEM_PAGE, 3, n_vectors);
    put(from, space, 2, ITEM_PAGE, 3, n_vectors);
    from->settings.pool_factor = 8;
    from->settings.code_bits = 4;
    made_reopen_index(from);
    put(from, space, 3, ITEM_PAGE, 3, n_vectors);
    to->settings.code_bits = 8;
    made_reopen_index(to);
    int other = space_of(to, "s", late);
    put(to, other, 7, ITEM_PAGE, 3, n_vectors);
    struct index_source *source = index_source_new(from->dir);
    const struct space_row row = row_of(from, space);
    must(index_source_look(source, &err));
    must(index_source_space(source, &row, &err));
    must(index_restore_open(&restore, to->index, other, &err));
    for (int n = 1; n <= 3; n++) {
        carry(to, from, source, restore, other, n);
        put(to, other, 10 + n, ITEM_PAGE, 2, n_vectors);
        must(index_compact(to->index, &err));
    }
    index_restore_close(restore);
    index_source_free(source);
    assert_string_equal(found(to, other, ITEM_PAGE, NULL),
                        "1:1 1:2 1:3 2:1 2:2 2:3 3:1 3:2 3:3 7:1 7:2 7:3 11:1 11:2 12:1 12:2 13:1"
                        " 13:2");
    for (int n = 7; n <= 13; n++) {
        if (n == 7 || n > 10)
            remove_document(to, n);
    }
    same_answers(from, space, to, other, ITEM_PAGE);
    must(index_compact(to->index, &err));
    same_answers(from, space, to, other, ITEM_PAGE);
    made_reopen(to);
    other = space_of(to, "s", late);
    same_answers(from, space, to, other, ITEM_PAGE);
    int64_t n_items, n_damaged;
    must(index_check(&n_items, &n_damaged, to->index, &err));
    assert_int_equal(n_items, 9);
    assert_int_equal(n_damaged, 0);
    made_close(&state);
}

static void late_items_answer_as_they_did(void **state) {
    check_carried(*state, true);
}

static void single_vectors_answer_as_they_did(void **state) {
    check_carried(*state, false);
}

/* What was open stays readable; what came since is found by another look. */
static void the_holder_goes_on(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", true);
    struct buf block = {0};
    struct item_row *rows;
    char id[SHA256_HEX + 1];
    int n_rows;
    bool there;
    put(f, space, 1, ITEM_PAGE, 3, 20);
    put(f, space, 2, ITEM_PAGE, 3, 20);
    struct index_source *source = index_source_new(f->dir);
    const struct space_row row = row_of(f, space);
    must(index_source_look(source, &err));
    id_of(id, 2);
    must(store_list_items(&rows, &n_rows, f->arena, f->store, id, &err));
    remove_document(f, 1);
    made_reopen(f); /* the next segment is begun */
    f->settings.code_bits = 8;
    made_reopen_index(f);
    put(f, space, 3, ITEM_PAGE, 3, 20);
    remove_document(f, 2);
    must(index_compact(f->index, &err));
    must(index_source_look(source, &err));
    must(index_source_space(source, &row, &err));
    for (int i = 0; i < n_rows; i++) {
        must(index_source_load(&block, &there, source, rows[i].id, &err));
        assert_true(there);
    }
    id_of(id, 3);
    must(store_list_items(&rows, &n_rows, f->arena, f->store, id, &err));
    for (int i = 0; i < n_rows; i++) {
        must(index_source_load(&block, &there, source, rows[i].id, &err));
        assert_true(there);
    }
    must(index_source_load(&block, &there, source, 1 << 30, &err));
    assert_false(there);
    index_source_free(source);
    buf_fini(&block);
}

/* ---- no blocks ---- */

static void put_hash(char *block, size_t len) {
    uint64_t parts[2] = {segment_hash(block, 56), segment_hash(block + 64, len - 64)};
    uint64_t hash = segment_hash(parts, sizeof parts);
    memcpy(block + 56, &hash, sizeof hash);
}

static void refuse(struct index_restore *restore, struct index_writer *writer, const char *block,
                   size_t len) {
    int64_t n = index_writer_count(writer);
    memset(&err, 0, sizeof err);
    assert_false(index_restore_add(restore, writer, 1, block, len, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_int_equal(index_writer_count(writer), n);
}

static void what_is_no_block_is_refused(void **state) {
    struct made *f = *state;
    int space = space_of(f, "s", true), other = space_of(f, "other", false);
    struct index_writer *writer;
    struct index_restore *restore;
    struct item_row *rows;
    struct buf block = {0};
    char id[SHA256_HEX + 1];
    int n_rows;
    bool there;
    put(f, space, 1, ITEM_PAGE, 1, 20);
    struct index_source *source = index_source_new(f->dir);
    const struct space_row row = row_of(f, space);
    must(index_source_look(source, &err));
    must(index_source_space(source, &row, &err));
    id_of(id, 1);
    must(store_list_items(&rows, &n_rows, f->arena, f->store, id, &err));
    must(index_source_load(&block, &there, source, rows[0].id, &err));
    assert_true(there);
    index_source_free(source);
    id_of(id, 2);
    must(index_restore_open(&restore, f->index, space, &err));
    must(index_writer_open(&writer, f->index, space, id, &err));
    char *copy = arena_alloc(f->arena, block.len);
    for (size_t i = 0; i < block.len; i += i < 128 ? 1 : 97) { /* a bit anywhere */
        memcpy(copy, block.data, block.len);
        copy[i] ^= 4;
        refuse(restore, writer, copy, block.len);
    }
    for (size_t len = 0; len < block.len; len += len < 70 ? 1 : 501) /* cut anywhere */
        refuse(restore, writer, block.data, len);
    for (size_t at = 8; at < 56; at += 4) { /* other numbers, with the right checksum */
        static const uint32_t numbers[] = {
            0,       1,          2,          3,          63,      65,           0xffff,
            0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 20, (1 << 20) + 1};
        for (size_t i = 0; i < BASE_COUNT(numbers); i++) {
            memcpy(copy, block.data, block.len);
            if (memcmp(copy + at, &numbers[i], 4) == 0)
                continue;
            memcpy(copy + at, &numbers[i], 4);
            put_hash(copy, block.len);
            /* Another id or kind, or as many pooled vectors: still an item. */
            bool harmless = at == 8 || at == 12 || at == 44 || (at == 16 && numbers[i] <= 1);
            struct index_block head;
            if (harmless && index_block_head(&head, copy, &err))
                continue;
            refuse(restore, writer, copy, block.len);
        }
    }
    struct index_restore *of_other;
    struct index_writer *writer_of_other;
    must(index_restore_open(&of_other, f->index, other, &err));
    must(index_writer_open(&writer_of_other, f->index, other, id, &err));
    refuse(of_other, writer_of_other, block.data, block.len);
    must(index_restore_add(restore, writer, 1, block.data, block.len, &err));
    index_writer_free(writer);
    index_writer_free(writer_of_other);
    index_restore_close(restore);
    index_restore_close(of_other);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1");
    buf_fini(&block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(late_items_answer_as_they_did, made_open, made_close),
        cmocka_unit_test_setup_teardown(single_vectors_answer_as_they_did, made_open, made_close),
        cmocka_unit_test_setup_teardown(the_holder_goes_on, made_open, made_close),
        cmocka_unit_test_setup_teardown(what_is_no_block_is_refused, made_open, made_close),
    };
    return cmocka_run_group_tests_name("index backup", tests, NULL, NULL);
}
