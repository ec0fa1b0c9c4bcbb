/* tokenizer_parse and tokenizer_encode: a tokenizer.json, and behind its first NUL a text (without
 * one, the JSON is the text too). Ids must be those of the vocabulary, the same each time, and no
 * more than asked for. */
#include "model/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok) {
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    const char *json = (const char *)data, *text = json;
    const char *end = len ? memchr(json, '\0', len) : NULL;
    size_t json_len = end ? (size_t)(end - json) : len, text_len = len;
    struct tokenizer *tokenizer;
    struct error err = {0};
    if (end) {
        text = end + 1;
        text_len = len - json_len - 1;
    }
    if (!tokenizer_parse(&tokenizer, json, json_len, "tokenizer.json", &err)) {
        check(err.kind == ERROR_INPUT || err.kind == ERROR_UNSUPPORTED);
        check(utf8_valid(err.text, strlen(err.text)) && err.text[0] != '\0');
        return 0;
    }
    struct arena *arena = arena_new(0);
    struct tokens all, plain, few;
    tokenizer_encode(&all, arena, tokenizer, text, text_len, true, 0);
    tokenizer_encode(&plain, arena, tokenizer, text, text_len, false, 0);
    tokenizer_encode(&few, arena, tokenizer, text, text_len, true, 5);
    for (int i = 0; i < all.n; i++)
        check(all.ids[i] >= 0 && all.ids[i] < tokenizer_n_ids(tokenizer));
    int around = all.n - plain.n;
    check(around >= 0 && few.n <= 5 && few.n <= all.n && (few.n == 5 || few.n == all.n));
    /* Until the text's own ids end, a shorter answer is the beginning of the longer one. */
    for (int i = 0; i + around < few.n; i++)
        check(few.ids[i] == all.ids[i]);
    arena_free(arena);
    tokenizer_close(tokenizer);
    return 0;
}
