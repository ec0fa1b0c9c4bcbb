/* lexical_parse, lexical_highlight and lexical_search: what people type, over any text. Input: a
 * query, a NUL, a text. No search may fail; highlights lie within the text, ascending and apart;
 * and every token of the text is found in it by the bytes it stands for. */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct store *store;
static char *dir;

static void check(bool ok) {
    if (!ok)
        abort();
}

static void drop_store(void) {
    struct error err;
    store_close(store);
    dir_remove(dir, &err);
    mem_free(dir);
}

static void make_store(void) {
    static const char *const texts[] = {
        "The boundary layer of a wing in a slipstream.",
        "Aerodynamics of propellers; the caf\u00e9 invoice 1,234.50 for AB-1234.",
        ("\u4e2d\u6587\u5b57\u5178 \u041c\u043e\u0441\u043a\u0432\u0430 \U0001F680 "
         "\u0643\u062a\u0627\u0628"),
        "the of and to in is a",
    };
    struct error err;
    struct store_tx *tx;
    bool existed;
    dir = mem_strdup(access("/dev/shm", W_OK) == 0 ? "/dev/shm/docusearch-fuzz-XXXXXX"
                                                   : "/tmp/docusearch-fuzz-XXXXXX");
    check(mkdtemp(dir) && store_open(&store, dir, &err) && store_begin(&tx, store, &err));
    for (size_t i = 0; i < BASE_COUNT(texts); i++) {
        struct document_row row = {.filename = "f"};
        struct chunk_row chunk = {.text = texts[i], .first_page = 1, .last_page = 1};
        sha256_hex(row.doc_id, texts[i], strlen(texts[i]));
        check(store_put_document(tx, &existed, &row, &err) &&
              store_put_reading(tx, &row, NULL, &chunk, 1, &err));
    }
    check(store_commit(tx, &err));
    atexit(drop_store);
}

struct visit {
    struct arena *arena;
    const char *text;
    size_t len;
    uint32_t end;
    int n;
};

static void check_ranges(const struct text_range *ranges, int n, size_t len) {
    for (int i = 0; i < n; i++) {
        check(ranges[i].start < ranges[i].end && ranges[i].end <= len);
        check(i == 0 || ranges[i - 1].end <= ranges[i].start);
    }
}

static bool find_again(void *ctx, const struct token *token) {
    struct visit *visit = ctx;
    check(token->start < token->end && token->end <= visit->len && token->len > 0);
    if (token->colocated)
        return true;
    struct text_range *ranges;
    int n;
    char *slice = arena_strndup(visit->arena, visit->text + token->start,
                                token->end - token->start);
    struct lexical_query *query = lexical_parse(visit->arena,
                                                arena_printf(visit->arena, "\"%s\"", slice));
    check(lexical_n_terms(query) == 1);
    lexical_highlight(&ranges, &n, visit->arena, query, visit->text, visit->len);
    check_ranges(ranges, n, visit->len);
    bool covered = false;
    for (int i = 0; i < n; i++)
        covered = covered || (ranges[i].start <= token->start && ranges[i].end >= token->end);
    check(covered);
    return ++visit->n < 20;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (!store)
        make_store();
    struct arena *arena = arena_new(0);
    char *typed = arena_strndup(arena, (const char *)data, len);
    size_t typed_len = strlen(typed);
    const char *text = typed_len < len ? typed + typed_len + 1 : typed;
    size_t text_len = typed_len < len ? len - typed_len - 1 : typed_len;

    struct lexical_query *query = lexical_parse(arena, typed);
    check(lexical_n_terms(query) >= 0 && lexical_n_terms(query) <= 64);
    struct text_range *ranges;
    int n;
    lexical_highlight(&ranges, &n, arena, query, text, text_len);
    check_ranges(ranges, n, text_len);

    struct lexical_hit *hits;
    struct error err;
    struct search_filter filter = {.page_from = 1};
    check(lexical_search(&hits, &n, arena, store, query, len % 2 ? &filter : NULL, 10, &err));
    for (int i = 1; i < n; i++)
        check(hits[i - 1].score > hits[i].score ||
              (hits[i - 1].score == hits[i].score &&
               hits[i - 1].chunk_row_id < hits[i].chunk_row_id));

    struct visit visit = {.arena = arena, .text = text, .len = text_len};
    tokens_visit(text, text_len, find_again, &visit);
    arena_free(arena);
    return 0;
}
