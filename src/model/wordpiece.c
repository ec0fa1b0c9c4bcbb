/* WordPiece: a word is cut from its left into the longest tokens there are, those inside it behind
 * a prefix ("##"). A word that cannot be cut so to its end is one unknown token. */
#include "model/tokenizer.h"

#include <string.h>

#define MAX_CHARS 1000 /* of a word; the work grows with the cube */

struct wordpiece {
    const struct vocab *words; /* what a word may begin with */
    struct vocab *inner;       /* what may follow, without the prefix; NULL: the same */
    int unknown, max_chars;
};

static bool read_inner(struct wordpiece *self, const char *prefix, const char *path,
                       struct error *err) {
    size_t prefix_len = strlen(prefix), len, at = 0;
    const char *token;
    int id;
    if (prefix_len == 0)
        return true;
    self->inner = vocab_new();
    while (vocab_next(&at, &token, &len, &id, self->words)) {
        if (len > prefix_len && memcmp(token, prefix, prefix_len) == 0 &&
            !vocab_add(self->inner, token + prefix_len, len - prefix_len, id))
            return tokenizer_bad(err, path, "no room for token %d", id);
    }
    return true;
}

bool wordpiece_read(struct wordpiece **out, const json_t *spec, const struct vocab *vocab,
                    const char *path, struct error *err) {
    const char *unknown, *prefix;
    const json_t *max = json_object_get(spec, "max_input_chars_per_word");
    *out = NULL;
    if (!tokenizer_text(&unknown, spec, "unk_token", NULL, path, err) ||
        !tokenizer_text(&prefix, spec, "continuing_subword_prefix", NULL, path, err))
        return false;
    int id = vocab_find(vocab, unknown, strlen(unknown));
    if (id < 0)
        return tokenizer_bad(err, path, "unk_token '%.60s' is no token", unknown);
    if (!json_is_integer(max) || json_integer_value(max) < 0 || json_integer_value(max) > MAX_CHARS)
        return tokenizer_bad(err, path, "max_input_chars_per_word is not within 0 to %d",
                             MAX_CHARS);
    struct wordpiece *self = mem_alloc(sizeof(*self));
    *self = (struct wordpiece){
        .words = vocab, .unknown = id, .max_chars = (int)json_integer_value(max)};
    if (!read_inner(self, prefix, path, err)) {
        wordpiece_free(self);
        return false;
    }
    *out = self;
    return true;
}

void wordpiece_free(struct wordpiece *wordpiece) {
    if (!wordpiece)
        return;
    vocab_free(wordpiece->inner);
    mem_free(wordpiece);
}

static bool inside_char(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* The longest token of the table that text begins with, *used bytes; -1: none. */
static int longest(size_t *used, const struct vocab *table, const char *text, size_t len) {
    size_t n = len > vocab_longest(table) ? vocab_longest(table) : len;
    while (n > 0) {
        int id = n < len && inside_char(text[n]) ? -1 : vocab_find(table, text, n);
        if (id >= 0) {
            *used = n;
            return id;
        }
        n--;
    }
    return -1;
}

void wordpiece_encode(struct ids *out, const struct wordpiece *self, const char *text, size_t len) {
    int n_chars = 0;
    for (size_t i = 0; i < len && n_chars <= self->max_chars; i++)
        n_chars += !inside_char(text[i]);
    size_t n_before = out->n, used = 0;
    const struct vocab *inner = self->inner ? self->inner : self->words;
    for (size_t pos = 0; pos < len && n_chars <= self->max_chars; pos += used) {
        int id = longest(&used, pos == 0 ? self->words : inner, text + pos, len - pos);
        if (id < 0) {
            out->n = n_before;
            ids_add(out, self->unknown);
            return;
        }
        ids_add(out, id);
    }
    if (n_chars > self->max_chars)
        ids_add(out, self->unknown);
}
