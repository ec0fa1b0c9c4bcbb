/* Tests of rank fusion. */
#include "corpus/answer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct list {
    struct answer answers[8];
    struct answer *pointers[8];
    struct ranking ranking;
};

static const char *const stages[3] = {"lexical", "dense", "visual"};

/* "a1 b2": pages 1 of a and 2 of b; a '*' after it: with a passage. Scores 10, 9, 8 … */
static void make_of(struct list *list, const char *stage, const char *text) {
    memset(list, 0, sizeof *list);
    list->ranking.answers = list->pointers;
    while (*text) {
        struct answer *answer = &list->answers[list->ranking.n];
        memset(answer->doc_id, text[0], SHA256_HEX);
        answer->page = text[1] - '0';
        text += 2;
        answer->has_chunk = *text == '*';
        text += *text == '*';
        text += *text == ' ';
        list->pointers[list->ranking.n++] = answer;
        answer->parts[0] = (struct search_part){stage, list->ranking.n, 11.0 - list->ranking.n, 0};
        answer->n_parts = 1;
    }
}

static void make(struct list *list, const char *text) {
    make_of(list, stages[0], text);
}

static const char *fused(struct arena *arena, struct answer ***out, int *n, struct list *lists,
                         int n_lists) {
    struct ranking rankings[3];
    struct buf text = {0};
    for (int i = 0; i < n_lists; i++)
        rankings[i] = lists[i].ranking;
    corpus_fuse(out, n, arena, rankings, n_lists);
    for (int i = 0; i < *n; i++)
        buf_printf(&text, "%s%c%d%s", i ? " " : "", (*out)[i]->doc_id[0], (*out)[i]->page,
                   (*out)[i]->has_chunk ? "*" : "");
    const char *copy = arena_strndup(arena, text.data ? text.data : "", text.len);
    buf_fini(&text);
    return copy;
}

static void ranks_are_summed(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct list lists[3];
    struct answer **out;
    int n;
    make(&lists[0], "a1* b1* c1*");
    make(&lists[1], "b1* d1* a1*");
    make(&lists[2], "d1 b1");
    assert_string_equal(fused(arena, &out, &n, lists, 3), "b1* d1* a1* c1*");
    assert_true(fabs(out[0]->score - (1.0 / 62 + 1.0 / 61 + 1.0 / 62) * 61 / 3) < 1e-12);
    assert_true(fabs(out[1]->score - (1.0 / 62 + 1.0 / 61) * 61 / 3) < 1e-12);
    assert_true(fabs(out[3]->score - 61.0 / 63 / 3) < 1e-12);
    assert_ptr_equal(out[0], &lists[0].answers[1]); /* the first ranking's */
    arena_free(arena);
}

static void first_everywhere_is_one(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct list lists[3];
    struct answer **out;
    int n;
    for (int i = 0; i < 3; i++)
        make(&lists[i], "a1* b1*");
    for (int n_lists = 1; n_lists <= 3; n_lists++) {
        fused(arena, &out, &n, lists, n_lists);
        assert_true(fabs(out[0]->score - 1) < 1e-12);
        assert_true(fabs(out[1]->score - 61.0 / 62) < 1e-12);
    }
    arena_free(arena);
}

static void pages_of_one_document_are_apart(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct list lists[2];
    struct answer **out;
    int n;
    make(&lists[0], "a1* a2*");
    make(&lists[1], "a2* a3*");
    assert_string_equal(fused(arena, &out, &n, lists, 2), "a2* a1* a3*");
    arena_free(arena);
}

static void ties_keep_the_order_of_the_rankings(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct list lists[2];
    struct answer **out;
    int n;
    make(&lists[0], "z1* a1*");
    make(&lists[1], "b1* y1*");
    assert_string_equal(fused(arena, &out, &n, lists, 2), "z1* b1* a1* y1*");
    make(&lists[0], "");
    make(&lists[1], "");
    assert_string_equal(fused(arena, &out, &n, lists, 2), "");
    arena_free(arena);
}

static void an_answer_with_a_passage_is_preferred(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct list lists[2];
    struct answer **out;
    int n;
    make(&lists[0], "a1 b1");
    make(&lists[1], "c1* a1*");
    assert_string_equal(fused(arena, &out, &n, lists, 2), "a1* c1* b1");
    assert_ptr_equal(out[0], &lists[1].answers[1]);
    arena_free(arena);
}

/* "b1": its parts, as stage, rank and score of each. */
static const char *parts_of(struct arena *arena, const struct answer *answer) {
    struct buf text = {0};
    double sum = 0;
    for (int i = 0; i < answer->n_parts; i++) {
        const struct search_part *part = &answer->parts[i];
        buf_printf(&text, "%s%s %d %g", i ? ", " : "", part->stage, part->rank, part->score);
        sum += part->contribution;
    }
    assert_true(fabs(sum - answer->score) < 1e-12);
    const char *copy = arena_strndup(arena, text.data, text.len);
    buf_fini(&text);
    return copy;
}

static void each_result_has_its_parts(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct list lists[3];
    struct answer **out;
    int n;
    make_of(&lists[0], stages[0], "a1* b1* c1*");
    make_of(&lists[1], stages[1], "b1* d1* a1*");
    make_of(&lists[2], stages[2], "d1 b1 e1");
    assert_string_equal(fused(arena, &out, &n, lists, 3), "b1* d1* a1* c1* e1");
    assert_string_equal(parts_of(arena, out[0]), "lexical 2 9, dense 1 10, visual 2 9");
    assert_string_equal(parts_of(arena, out[1]), "dense 2 9, visual 1 10");
    assert_string_equal(parts_of(arena, out[2]), "lexical 1 10, dense 3 8");
    assert_string_equal(parts_of(arena, out[4]), "visual 3 8");
    assert_true(fabs(out[0]->parts[1].contribution - 1.0 / 3) < 1e-12);
    make_of(&lists[0], stages[2], "a1 b1"); /* another's answer stands, the parts stay in order */
    make_of(&lists[1], stages[0], "b1*");
    fused(arena, &out, &n, lists, 2);
    assert_ptr_equal(out[0], &lists[1].answers[0]);
    assert_string_equal(parts_of(arena, out[0]), "visual 2 9, lexical 1 10");
    arena_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_summed),
        cmocka_unit_test(first_everywhere_is_one),
        cmocka_unit_test(pages_of_one_document_are_apart),
        cmocka_unit_test(ties_keep_the_order_of_the_rankings),
        cmocka_unit_test(an_answer_with_a_passage_is_preferred),
        cmocka_unit_test(each_result_has_its_parts),
    };
    return cmocka_run_group_tests_name("fuse", tests, NULL, NULL);
}
