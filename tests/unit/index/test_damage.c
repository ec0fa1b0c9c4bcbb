/* Tests of damage: flipped bytes in every structure, torn tails, files that are not theirs. What is
 * damaged is found, named and passed over; the rest is searched, and no score is wrong. */
#include "made.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLOSE 0.02
#define N_VECTORS 20

static void flip(const char *path, int64_t offset) {
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* Where a slot's parts lie in its file. */
struct layout {
    struct slot slot;
    int64_t at_slot, at_scan, at_pooled, at_full;
    size_t scan, pooled, full;
};

static struct layout layout_of(struct made *made, int space, int slot_i) {
    struct layout out;
    struct view *view = view_take(index_space_numbered(made->index, space));
    const struct segment *segment = view->parts[0].segment;
    out.slot = segment->slots[slot_i];
    out.scan = segment->scan_bytes;
    out.pooled = shape_pooled_bytes(&segment->shape, (int)out.slot.n);
    out.full = shape_full_bytes(&segment->shape, (int)out.slot.n);
    out.at_slot = 4096 + slot_i * 64;
    out.at_scan = (int64_t)(segment->scan_offset + (size_t)slot_i * segment->scan_bytes);
    out.at_pooled = (int64_t)out.slot.offset;
    out.at_full = (int64_t)(out.slot.offset + out.pooled);
    view_drop(made->index, view);
    return out;
}

/* All that is found is right, and all but the item of this document is found. */
static void check_all_but(struct made *f, int space, int n, int item, int n_items) {
    struct answers answers;
    bool late = facts_of(f, space).late;
    int n_query = late ? 4 : 1;
    must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, n_query, &err));
    assert_int_equal(answers.n, n_items - (n > 0));
    for (int i = 0; i < answers.n; i++)
        assert_false(answers.items[i].n == n && answers.items[i].item == item);
    check_scores(&answers, ITEM_PAGE, late ? N_VECTORS : 1, late, 5, n_query, CLOSE);
}

static void flip_each(struct made *f, int space, const char *part, int64_t offset, size_t len,
                      bool searched) {
    const char *path = segment_file(f, space, 1);
    for (size_t i = 0; i < len; i += i < 8 || i + 9 > len ? 1 : 61) {
        int64_t n_items, n_damaged;
        index_close(f->index);
        f->index = NULL;
        flip(path, offset + (int64_t)i);
        f->damaged[0] = '\0';
        made_reopen_index(f);
        check_all_but(f, space, searched ? 2 : 0, 2, 9);
        must(index_check(&n_items, &n_damaged, f->index, &err));
        if (strcmp(f->damaged, arena_printf(f->arena, "2:2 000001.seg %s; ", part)) != 0)
            fail_msg("%s, byte %zu: \"%s\"", part, i, f->damaged);
        assert_int_equal(facts_of(f, space).n_damaged, 1);
        assert_int_equal(facts_of(f, space).n_items, 8);
        assert_int_equal(facts_of(f, space).n_checked, 8);
        check_all_but(f, space, 2, 2, 9);
        must(index_check(&n_items, &n_damaged, f->index, &err));
        assert_int_equal(n_items, 8);
        assert_int_equal(n_damaged, 0); /* told of once */
        flip(path, offset + (int64_t)i);
    }
    f->damaged[0] = '\0';
    made_reopen(f);
    check_all_but(f, space, 0, 0, 9);
    assert_string_equal(f->damaged, "");
}

static void flipped_bytes_are_found(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    for (int n = 1; n <= 3; n++)
        put(f, space, n, ITEM_PAGE, 3, N_VECTORS);
    made_reopen(f);
    struct layout at = layout_of(f, space, 4);
    flip_each(f, space, "slot", at.at_slot, 64, true);
    flip_each(f, space, "scan code", at.at_scan, at.scan, false);
    flip_each(f, space, "pooled codes", at.at_pooled, at.pooled, false);
    flip_each(f, space, "full codes", at.at_full, at.full, true);
}

static void flipped_bytes_of_single_vectors_are_found(void **state) {
    struct made *f = *state;
    int space = space_of(f, "single", false);
    for (int n = 1; n <= 3; n++)
        put(f, space, n, ITEM_PAGE, 3, 1);
    made_reopen(f);
    struct layout at = layout_of(f, space, 4);
    flip_each(f, space, "slot", at.at_slot, 64, true);
    flip_each(f, space, "scan code", at.at_scan, at.scan, true);
}

/* A segment without its header is kept under another name; its items are told of one by one. */
static void a_flipped_header_sets_the_segment_aside(void **state) {
    struct made *f = *state;
    int n_aside = 0;
    index_segment_slots = 3;
    int space = space_of(f, "late", true);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    put(f, space, 2, ITEM_PAGE, 3, N_VECTORS);
    const char *path = segment_file(f, space, 1);
    for (int64_t offset = 0; offset < 4096; offset += offset < 96 || offset >= 4080 ? 5 : 811) {
        made_reopen(f);
        assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1 1:2 1:3 2:1 2:2 2:3");
        index_close(f->index);
        f->index = NULL;
        flip(path, offset);
        f->damaged[0] = '\0';
        made_reopen(f);
        assert_string_equal(f->damaged, "1:1 - slot; 1:2 - slot; 1:3 - slot; ");
        assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:2 2:3");
        assert_int_equal(size_of(path), -1);
        const char *aside = n_aside++ ? arena_printf(f->arena, "%s.damaged-%d", path, n_aside)
                                      : arena_printf(f->arena, "%s.damaged", path);
        assert_true(size_of(aside) > 0);
        flip(aside, offset);
        index_close(f->index);
        f->index = NULL;
        must(file_write_durable(arena_printf(f->arena, "%s/empty", f->dir), "", 0, &err));
        assert_int_equal(link(aside, path), 0);
        f->damaged[0] = '\0';
    }
    made_reopen(f);
    remove_document(f, 1); /* what was lost is put again */
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1 1:2 1:3 2:1 2:2 2:3");
}

/* Each of all its bytes once, coarsely: whatever is flipped, nothing crashes and nothing is wrong.
 */
static void any_byte_may_be_flipped(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    index_segment_slots = 16;
    for (int n = 1; n <= 3; n++)
        put(f, space, n, ITEM_PAGE, 3, N_VECTORS);
    made_reopen(f);
    const char *path = segment_file(f, space, 1);
    char *bytes;
    size_t len;
    must(file_read(&bytes, &len, path, (size_t)64 << 20, &err));
    for (size_t offset = 3; offset < len; offset += offset < 4096 + 16 * 64 ? 97 : 331) {
        struct answers answers;
        int64_t n_items, n_damaged;
        index_close(f->index);
        f->index = NULL;
        must(file_write_durable(path, bytes, len, &err));
        flip(path, (int64_t)offset);
        made_reopen_index(f);
        must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 4, &err));
        check_scores(&answers, ITEM_PAGE, N_VECTORS, true, 5, 4, CLOSE);
        must(index_check(&n_items, &n_damaged, f->index, &err));
        int n_lost = facts_of(f, space).n_damaged;
        assert_true(n_lost <= 1 || n_lost == 9);
        assert_int_equal(facts_of(f, space).n_items, 9 - n_lost);
    }
    mem_free(bytes);
}

/* A file that its maker gave another name, or that is another space's. */
static void segments_of_others_are_set_aside(void **state) {
    struct made *f = *state;
    int a = space_of(f, "a", true), b = space_of(f, "b", true);
    put(f, a, 1, ITEM_PAGE, 3, N_VECTORS);
    put(f, b, 2, ITEM_PAGE, 3, N_VECTORS);
    put(f, b, 3, ITEM_PAGE, 3, N_VECTORS);
    char *bytes;
    size_t len;
    made_reopen(f);
    index_close(f->index);
    f->index = NULL;
    must(file_read(&bytes, &len, segment_file(f, b, 1), (size_t)64 << 20, &err));
    must(file_write_durable(segment_file(f, a, 1), bytes, len, &err)); /* of another space */
    must(file_write_durable(segment_file(f, b, 7), bytes, len, &err)); /* of another place */
    mem_free(bytes);
    made_reopen(f);
    assert_string_equal(f->damaged, "1:1 - slot; 1:2 - slot; 1:3 - slot; ");
    assert_string_equal(found(f, a, ITEM_PAGE, NULL), "");
    assert_string_equal(found(f, b, ITEM_PAGE, NULL), "2:1 2:2 2:3 3:1 3:2 3:3");
    assert_int_equal(size_of(segment_file(f, a, 1)), -1);
    assert_int_equal(size_of(segment_file(f, b, 7)), -1);
    put(f, a, 1, ITEM_PAGE, 3, N_VECTORS);
    assert_string_equal(found(f, a, ITEM_PAGE, NULL), "1:1 1:2 1:3");
}

/* A slot copied over another: its id is out of order, and its codes are not told twice. */
static void a_slot_in_anothers_place_is_not_taken(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    made_reopen(f);
    struct layout first = layout_of(f, space, 0);
    struct layout last = layout_of(f, space, 2);
    index_close(f->index);
    f->index = NULL;
    int fd = open(segment_file(f, space, 1), O_RDWR);
    assert_int_equal(pwrite(fd, &first.slot, 64, last.at_slot), 64);
    close(fd);
    made_reopen(f);
    assert_string_equal(f->damaged, "1:3 000001.seg slot; ");
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1 1:2");
}

static void a_torn_tail_is_cut(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    made_reopen(f);
    const char *path = segment_file(f, space, 1);
    int64_t size = size_of(path);
    struct layout at = layout_of(f, space, 2);
    index_close(f->index);
    f->index = NULL;
    /* An append that never came to its commit: a record, a slot half written, one that is whole. */
    char junk[3000];
    memset(junk, 0x5a, sizeof junk);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, junk, sizeof junk, size), sizeof junk);
    assert_int_equal(pwrite(fd, junk, 30, at.at_slot + 64), 30);
    struct slot slot = at.slot;
    slot.id += 7;
    slot.hash = segment_hash(&slot, offsetof(struct slot, hash));
    assert_int_equal(pwrite(fd, &slot, 64, at.at_slot + 128), 64);
    close(fd);
    made_reopen(f);
    assert_int_equal(size_of(path), size);
    assert_string_equal(f->damaged, "");
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1 1:2 1:3");
    put(f, space, 2, ITEM_PAGE, 2, N_VECTORS);
    made_reopen(f);
    assert_int_equal(facts_of(f, space).dead_bytes, 0);
    struct answers answers;
    must(ask_for(&answers, f, space, ITEM_PAGE, 100, NULL, 5, 4, &err));
    assert_int_equal(answers.n, 5);
    check_scores(&answers, ITEM_PAGE, N_VECTORS, true, 5, 4, CLOSE);
    /* An id is given out once: the whole slot's was seen. */
    at = layout_of(f, space, 3);
    assert_true(at.slot.id > slot.id);
}

static void a_short_file_loses_only_what_it_lacks(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    put(f, space, 2, ITEM_PAGE, 3, N_VECTORS);
    made_reopen(f);
    struct layout at = layout_of(f, space, 4);
    index_close(f->index);
    f->index = NULL;
    assert_int_equal(truncate(segment_file(f, space, 1), at.at_full + 5), 0);
    made_reopen(f);
    assert_string_equal(f->damaged, "2:2 000001.seg slot; 2:3 000001.seg slot; ");
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1 1:2 1:3 2:1");
    put(f, space, 2, ITEM_PAGE, 3, N_VECTORS);
    made_reopen(f);
    check_all_but(f, space, 0, 0, 6);
    index_close(f->index);
    f->index = NULL;
    assert_int_equal(truncate(segment_file(f, space, 1), 4096 + 100), 0);
    f->damaged[0] = '\0';
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "");
    assert_non_null(strstr(f->damaged, "1:1 000001.seg slot; "));
    assert_int_equal(size_of(segment_file(f, space, 1)), -1);
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    index_close(f->index);
    f->index = NULL;
    assert_int_equal(truncate(segment_file(f, space, 2), 100), 0);
    f->damaged[0] = '\0';
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "");
    assert_non_null(strstr(f->damaged, "1:1 - slot; "));
    put(f, space, 1, ITEM_PAGE, 3, N_VECTORS);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "1:1 1:2 1:3");
}

/* Files that are gone take their items with them, not the index. */
static void missing_files_are_told_of(void **state) {
    struct made *f = *state;
    int space = space_of(f, "late", true);
    put(f, space, 1, ITEM_PAGE, 2, N_VECTORS);
    put(f, space, 1, ITEM_CHUNK, 1, N_VECTORS);
    index_close(f->index);
    f->index = NULL;
    must(dir_remove(arena_printf(f->arena, "%s/vectors", f->dir), &err));
    made_reopen(f);
    assert_string_equal(f->damaged, "1:0 - slot; ");
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "");
    put(f, space, 2, ITEM_PAGE, 2, N_VECTORS);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:2");
    /* A folder where a file should be is the disk's word, not damage. */
    index_close(f->index);
    f->index = NULL;
    const char *path = segment_file(f, space, 1), *away = arena_printf(f->arena, "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    must(dir_make(path, &err));
    assert_false(index_open(&f->index, f->store, f->dir, &f->settings, &err));
    assert_int_equal(err.kind, ERROR_IO);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(away, path), 0);
    made_reopen(f);
    assert_string_equal(found(f, space, ITEM_PAGE, NULL), "2:1 2:2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, made_open, made_close)
        TEST(flipped_bytes_are_found),
        TEST(flipped_bytes_of_single_vectors_are_found),
        TEST(a_flipped_header_sets_the_segment_aside),
        TEST(any_byte_may_be_flipped),
        TEST(segments_of_others_are_set_aside),
        TEST(a_slot_in_anothers_place_is_not_taken),
        TEST(a_torn_tail_is_cut),
        TEST(a_short_file_loses_only_what_it_lacks),
        TEST(missing_files_are_told_of),
    };
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
