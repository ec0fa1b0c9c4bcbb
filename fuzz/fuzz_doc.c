/* doc_decode and doc_places_decode: what a reader child sends and what lies in the store. A
 * document that is accepted must encode to the same bytes, and be fit for all that the server does
 * with one. */
#include "doc/doc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok) {
    if (!ok)
        abort();
}

static void use_document(const struct document *doc) {
    struct buf markdown = {.max = 64u << 20};
    doc_write_markdown(&markdown, doc);
    check(markdown.len == 0 || utf8_valid(markdown.data, markdown.len));
    buf_fini(&markdown);
    for (uint32_t i = 0; i < doc->n_pages && i < 8; i++)
        json_decref(doc_page_json(doc, i));

    struct doc_chunks *chunks = NULL;
    struct error err;
    check(doc_chunk(&chunks, doc, 7, 3, &err));
    struct arena *arena = arena_new(0);
    for (uint32_t i = 0; i < chunks->n; i++) {
        const struct doc_chunk *chunk = &chunks->items[i];
        struct doc_word *words;
        uint32_t n;
        struct buf places = {0};
        check(utf8_valid(chunk->text, chunk->text_len) && strlen(chunk->text) == chunk->text_len);
        doc_places_encode(&places, chunk->words, chunk->n_words_placed);
        check(doc_places_decode(&words, &n, arena, places.data, places.len, &err));
        check(n == chunk->n_words_placed);
        for (uint32_t k = 0; k < n; k++)
            check(words[k].off + words[k].len <= chunk->text_len);
        buf_fini(&places);
    }
    arena_free(arena);
    doc_chunks_free(chunks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct document *doc = NULL;
    struct error err;
    if (doc_decode(&doc, data, len, &err)) {
        struct buf again = {0};
        doc_encode(&again, doc);
        check(again.len == len && memcmp(again.data, data, len) == 0);
        buf_fini(&again);
        use_document(doc);
        doc_free(doc);
    }
    struct arena *arena = arena_new(0);
    struct doc_word *words;
    uint32_t n;
    if (doc_places_decode(&words, &n, arena, data, len, &err)) {
        struct buf again = {0};
        doc_places_encode(&again, words, n);
        check(again.len == len && memcmp(again.data, data, len) == 0);
        buf_fini(&again);
    }
    arena_free(arena);
    return 0;
}
