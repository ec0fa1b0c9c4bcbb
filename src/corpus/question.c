/* Questions as models see them, and the last few of them kept.
 *
 * Invariants:
 *  1. A kept question's parts lie in an arena of its own; nobody outside holds a pointer into it.
 *  2. The lock is not held while a model works: two who ask the same at once may both ask it. */
#include "corpus/explain.h"

#include <string.h>

#define KEPT 16

struct kept {
    struct arena *arena; /* NULL: free */
    const char *text;
    struct question question;
    int64_t used; /* a count of uses: the oldest goes */
};
struct questions {
    struct lock lock;
    struct kept kept[KEPT];
    int64_t n_uses;
};

struct questions *corpus_questions_new(void) {
    struct questions *questions = mem_alloc(sizeof *questions);
    lock_init(&questions->lock, LOCK_STORE);
    return questions;
}

void corpus_questions_free(struct questions *questions) {
    if (!questions)
        return;
    for (int i = 0; i < KEPT; i++)
        arena_free(questions->kept[i].arena);
    lock_fini(&questions->lock);
    mem_free(questions);
}

static void copy(struct question *out, struct arena *arena, const struct question *in) {
    size_t n_values = (size_t)in->vectors.n * (size_t)in->vectors.dim;
    *out = *in;
    out->vectors.values = arena_alloc(arena, (n_values + 1) * sizeof(float));
    out->words = arena_alloc(arena, ((size_t)in->n_words + 1) * sizeof *in->words);
    if (n_values > 0)
        memcpy(out->vectors.values, in->vectors.values, n_values * sizeof(float));
    if (in->n_words > 0)
        memcpy(out->words, in->words, (size_t)in->n_words * sizeof *in->words);
}

static bool look_up(struct question *out, struct arena *arena, struct questions *questions,
                    int space, const char *text) {
    bool found = false;
    lock_take(&questions->lock);
    for (int i = 0; i < KEPT && !found; i++) {
        struct kept *kept = &questions->kept[i];
        if (!kept->arena || kept->question.space != space || strcmp(kept->text, text) != 0)
            continue;
        kept->used = ++questions->n_uses;
        copy(out, arena, &kept->question);
        found = true;
    }
    lock_drop(&questions->lock);
    return found;
}

static void keep(struct questions *questions, const char *text, const struct question *question) {
    struct arena *arena = arena_new(0);
    struct kept fresh = {.arena = arena, .text = arena_strdup(arena, text)};
    copy(&fresh.question, arena, question);
    lock_take(&questions->lock);
    struct kept *oldest = &questions->kept[0];
    for (int i = 1; i < KEPT; i++) {
        if (questions->kept[i].used < oldest->used)
            oldest = &questions->kept[i];
    }
    struct arena *gone = oldest->arena;
    fresh.used = ++questions->n_uses;
    *oldest = fresh;
    lock_drop(&questions->lock);
    arena_free(gone);
}

bool corpus_check_question(const char *text, struct error *err) {
    size_t n = 0;
    for (size_t pos = 0, len = strlen(text); pos < len; n++)
        utf8_next(text, len, &pos);
    return (n >= 1 && n <= 1000) ||
           error_set(err, ERROR_INPUT, "query has %zu characters, not 1 to 1000", n);
}

/* The owner's model, where it is ready, and its space. */
static const struct model *ready_model(int *space, struct owner *owner) {
    lock_take(&owner->lock);
    const struct model *model = owner->state == MODEL_READY && !owner->stopping ? owner->model
                                                                                : NULL;
    *space = owner->space;
    lock_drop(&owner->lock);
    return model;
}

bool corpus_ask(struct question *out, struct arena *arena, struct owner *owner, const char *text,
                struct error *err) {
    struct model_input input = {.kind = INPUT_QUERY, .text = text, .len = strlen(text)};
    struct questions *questions = owner->corpus->questions;
    *out = (struct question){0};
    if (ready_model(&out->space, owner) && look_up(out, arena, questions, out->space, text))
        return true;
    if (!corpus_owner_embed(&out->vectors, arena, owner, &input, 1, err))
        return false;
    const struct model *model = ready_model(&out->space, owner);
    if (!model)
        return corpus_owner_refuse(owner, MODEL_READY, err); /* it stops */
    out->n_words = model_words(&out->words, arena, model, text, input.len);
    out->grid_width = model_info(model)->grid_width;
    out->grid_height = model_info(model)->grid_height;
    keep(questions, text, out);
    return true;
}
