/* words: which words of a question its vectors stand for.
 *
 * The tokenizer is asked, not taken apart: where the tokens of the text up to some place are the
 * first tokens of the whole, a token ends at that place, and the tokens on either side are told
 * apart. So it holds for every tokenizer, whatever it does to a text before cutting it; where a
 * token reaches from one word into the next, the two are told as one word. */
#include "model/internal.h"

#include <string.h>

struct cutting {
    const struct model *model;
    const char *text;
    size_t len;
    struct tokens whole;
    struct arena *scratch;
    int at;                 /* tokens before the last place where one ended */
    struct model_word open; /* begun, and not yet ended at such a place; n -1: none is */
    struct model_word *words;
    int n;
};

/* Han and kana are written without blanks: each character may be a word. Hangul has blanks. */
static bool stands_alone(uint32_t c) {
    bool hangul = (c >= 0x1100 && c <= 0x11FF) || (c >= 0x3131 && c <= 0x318E) ||
                  (c >= 0xA960 && c <= 0xA97C) || (c >= 0xAC00 && c <= 0xD7FB) ||
                  (c >= 0xFFA0 && c <= 0xFFDC);
    return text_is_cjk(c) && !hangul;
}

/* The next word at or after *pos: what stands between blanks, without the signs around it. False:
 * there is none. */
static bool next_word(size_t *start, size_t *end, const char *text, size_t len, size_t *pos) {
    bool any = false;
    while (*pos < len) {
        size_t before = *pos;
        uint32_t c = utf8_next(text, len, pos);
        if (text_is_space(c) || (any && stands_alone(c))) {
            *pos = text_is_space(c) ? *pos : before;
            if (any)
                return true;
            continue;
        }
        if (!text_is_word(c))
            continue;
        if (!any)
            *start = before;
        any = true;
        *end = *pos;
        if (stands_alone(c))
            return true;
    }
    return any;
}

/* Tokens that the text up to len has in common with the whole; *clean: all of them are. */
static int common(bool *clean, const struct cutting *cutting, const char *text, size_t len) {
    struct tokens some;
    int n = 0;
    struct arena *arena = arena_new(0);
    cutting->model->family->question(&some, arena, cutting->model->self, text, len, true);
    while (n < some.n && n < cutting->whole.n && some.ids[n] == cutting->whole.ids[n])
        n++;
    *clean = n == some.n;
    arena_free(arena);
    return n;
}

/* Where a token ends at this place, the open word ends too. */
static void cut(struct cutting *cutting, size_t len) {
    struct model_word *open = &cutting->open;
    bool clean;
    int n = common(&clean, cutting, cutting->text, len);
    if (!clean)
        return;
    if (open->n >= 0 && n > open->first) {
        open->n = n - open->first;
        cutting->words[cutting->n++] = *open;
    }
    open->n = -1;
    cutting->at = n;
}

int model_words(struct model_word **out, struct arena *arena, const struct model *model,
                const char *text, size_t len) {
    struct cutting cutting = {.model = model, .text = text, .len = len, .open = {.n = -1}};
    size_t start = 0, end = 0, pos = 0, last = SIZE_MAX;
    bool unused;
    *out = NULL;
    if (!model->family->question)
        return 0;
    cutting.scratch = arena_new(0);
    cutting.words = arena_alloc(arena, MODEL_WORDS_MAX * sizeof *cutting.words);
    model->family->question(&cutting.whole, cutting.scratch, model->self, text, len, false);
    /* The blank that a prompt ends with may go with the prompt or with the first word. */
    int with = common(&unused, &cutting, text, 0), without = common(&unused, &cutting, NULL, 0);
    cutting.at = with > without ? with : without;
    while (cutting.n < MODEL_WORDS_MAX && next_word(&start, &end, text, len, &pos)) {
        if (start != last)
            cut(&cutting, start);
        if (cutting.open.n < 0)
            cutting.open = (struct model_word){.start = start, .first = cutting.at};
        cutting.open.end = end;
        cutting.open.n = 0;
        cut(&cutting, end);
        last = end;
        /* A tokenizer may put the blank behind a word into the word's token. */
        size_t blank = end, after = end;
        while (blank < len && text_is_space(utf8_next(text, len, &blank)))
            after = blank;
        if (after > end && cutting.open.n >= 0)
            cut(&cutting, last = after);
    }
    if (cutting.open.n >= 0 && last != len)
        cut(&cutting, len);
    arena_free(cutting.scratch);
    *out = cutting.words;
    return cutting.n;
}
