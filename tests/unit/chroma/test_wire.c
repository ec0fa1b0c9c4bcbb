/* What passes to the server and back as text: base64, ids, metadata, bodies, the cache of codes. No
 * server is asked. */
#include "made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chroma/internal.h"

static void test_base64(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};
    struct arena *arena = arena_new(0); /* RFC 4648, section 10 */
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct buf out = {0};
        chroma_base64_put(&out, cases[i].bytes, strlen(cases[i].bytes));
        assert_string_equal(out.data ? out.data : "", cases[i].text);
        size_t n;
        const char *back = chroma_base64_take(&n, arena, cases[i].text, strlen(cases[i].text));
        assert_non_null(back);
        assert_int_equal(n, strlen(cases[i].bytes));
        assert_memory_equal(back, cases[i].bytes, n);
        buf_fini(&out);
    }
    static const char *const bad[] = {"Zg=",  "Z",    "Zm9v!A==", "Zm-_",
                                      "=m9v", "Zm=v", "Z===",     "===="};
    size_t n;
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        assert_null(chroma_base64_take(&n, arena, bad[i], strlen(bad[i])));
    unsigned char bytes[10000];
    uint64_t random = 5;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(made_random(&random) * 256);
    for (size_t len = sizeof bytes - 5; len < sizeof bytes; len++) {
        struct buf out = {0};
        chroma_base64_put(&out, bytes, len);
        const void *back = chroma_base64_take(&n, arena, out.data, out.len);
        assert_int_equal(n, len);
        assert_memory_equal(back, bytes, len);
        buf_fini(&out);
    }
    arena_free(arena);
}

static void test_ids(void **state) {
    (void)state;
    char doc_id[SHA256_HEX + 1], back[SHA256_HEX + 1], id[CHROMA_MAX_ID], token[CHROMA_MAX_ID];
    made_id(doc_id, 1);
    static const int items[] = {1, 7, 99, 999, 1000, 123456, 2147483647};
    for (size_t i = 0; i < BASE_COUNT(items); i++)
        for (int kind = ITEM_PAGE; kind <= ITEM_CHUNK; kind++) {
            int item;
            chroma_item_id(id, doc_id, (enum item_kind)kind, items[i]);
            assert_true(chroma_parse_id(back, &item, (enum item_kind)kind, id));
            assert_string_equal(back, doc_id);
            assert_int_equal(item, items[i]);
            assert_false(chroma_parse_id(back, &item, (enum item_kind) !kind, id));
            chroma_token_id(token, id, 31);
            assert_true(chroma_parse_id(back, &item, (enum item_kind)kind, token));
            assert_int_equal(item, items[i]);
            assert_string_equal(token + strlen(token) - 4, "-t31");
        }
    chroma_item_id(id, doc_id, ITEM_PAGE, 7);
    assert_string_equal(id + SHA256_HEX, "-page007");
    chroma_item_id(id, doc_id, ITEM_CHUNK, 7);
    assert_string_equal(id + SHA256_HEX, "-chunk0007");
    static const char *const bad[] = {
        "",
        "-page001",
        "5b1c7cd6-3b1f-4d8e-9a51-0d2b8f6ffd4e-page001",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-page",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-pagex01",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-page001x",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-page000",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-page99999999999999999",
        "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef-page001"};
    int item;
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        assert_false(chroma_parse_id(back, &item, ITEM_PAGE, bad[i]));
}

static void test_lift(void **state) {
    (void)state;
    char body[] =
        "{\"metadatas\":[{\"codes\":\"AAAA\",\"title\":\"x \\\"codes\\\":\\\"no\\\"\"},null,"
        "{\"n\":3,\"codes\":\"QUJD\"},{\"codes\":7},{\"codes\":\"\"}]}";
    struct chroma_lifted lifted;
    assert_true(chroma_lift(&lifted, body, strlen(body)));
    assert_int_equal(lifted.n, 3);
    assert_int_equal(lifted.lens[0], 4);
    assert_memory_equal(lifted.texts[0], "AAAA", 4);
    assert_memory_equal(lifted.texts[1], "QUJD", 4);
    assert_int_equal(lifted.lens[2], 0);
    const json_t *all = json_object_get(lifted.json, "metadatas");
    assert_int_equal(chroma_get_int(json_array_get(all, 2), "codes"), 1);
    assert_string_equal(chroma_get_text(json_array_get(all, 0), "title"), "x \"codes\":\"no\"");
    chroma_lifted_fini(&lifted);
    char cut[] = "{\"metadatas\":[{\"codes\":\"AAAA";
    assert_false(chroma_lift(&lifted, cut, strlen(cut)));
    char none[] = "";
    assert_false(chroma_lift(&lifted, none, 0));
}

static void same_text(const char *a, const char *b) {
    assert_string_equal(a ? a : "", b ? b : "");
}

static void test_record(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    struct made_options options = {.n_pages = 4, .n_chunks = 3, .n_vectors = 8};
    struct made_source made;
    made_source(&made, 5, &options);
    struct chroma_record *record = &made.source.record, back;
    record->generation = CHROMA_MAX_GENERATION;
    record->n_page_rows = 4;
    record->n_chunk_rows = 2;
    record->changed_ms = 1795357780937;
    record->document.author = "bad \xff byte";
    json_t *json = chroma_record_put(record);
    assert_true(chroma_record_take(&back, arena, json));
    same_text(back.document.doc_id, record->document.doc_id);
    same_text(back.document.filename, record->document.filename);
    same_text(back.document.author, "bad \xef\xbf\xbd byte");
    same_text(back.document.warning, "");
    same_text(back.revision, record->revision);
    same_text(back.visual_space, SPACE);
    assert_int_equal(back.generation, record->generation);
    assert_int_equal(back.changed_ms, record->changed_ms);
    assert_int_equal(back.document.n_chunks, 3);
    assert_int_equal(back.n_chunk_rows, 2);
    assert_memory_equal(back.pages, record->pages, 4 * sizeof *record->pages);
    /* what is not as we write it is none of ours */
    static const char *const spoilt[] = {
        "{\"n_page_rows\":5}", "{\"num_pages\":3}",           "{\"pages\":\"AAAA\"}",
        "{\"pages\":3}",       "{\"doc_id\":\"x\"}",          "{\"type\":\"passage\"}",
        "{\"generation\":0}",  "{\"generation\":2147483648}", "{\"num_chunks\":-1}"};
    for (size_t i = 0; i < BASE_COUNT(spoilt); i++) {
        json_t *bad = json_deep_copy(json), *change = json_loads(spoilt[i], 0, NULL);
        json_object_update(bad, change);
        assert_false(chroma_record_take(&back, arena, bad));
        json_decref(bad);
        json_decref(change);
    }
    assert_false(chroma_record_take(&back, arena, NULL));
    json_decref(json);
    json = chroma_tombstone_put(record->document.doc_id, 7, "w", 5, 6);
    assert_true(chroma_record_take(&back, arena, json));
    assert_true(back.removed && back.generation == 7 && back.changed_ms == 6);
    json_decref(json);
    made_done(&made);
    arena_free(arena);
}

static struct chroma *unconnected(void) {
    struct chroma_settings settings = {.host = "127.0.0.1",
                                       .port = 1,
                                       .tenant = "t",
                                       .database = "d",
                                       .visual_collection = "visual",
                                       .text_collection = "text"};
    struct chroma *chroma;
    must(chroma_open(&chroma, &settings, &err));
    return chroma;
}

/* Bodies hold as many rows as the server says, and 32 MiB; a row that alone has more is refused. */
static void test_splitting(void **state) {
    (void)state;
    struct chroma *chroma = unconnected();
    struct chroma_pile pile;
    chroma->max_batch = 10;
    chroma_pile_init(&pile, chroma, "uuid", true);
    float vector[3] = {1, -2, 0.5f};
    for (int i = 0; i < 25; i++) {
        char id[32];
        snprintf(id, sizeof id, "row%d", i);
        must(chroma_pile_add(&pile, id, vector, 3, json_pack("{s:i}", "i", i), "abc", 3, &err));
    }
    assert_int_equal(pile.n_bodies, 2);
    assert_int_equal(pile.n, 5);
    json_t *json = json_loads(pile.bodies[1].data, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "ids")), 10);
    assert_int_equal(json_array_size(json_object_get(json, "metadatas")), 10);
    const json_t *first = json_array_get(json_object_get(json, "metadatas"), 0);
    assert_int_equal(chroma_get_int(first, "i"), 10);
    assert_string_equal(chroma_get_text(first, "codes"), "YWJj");
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "embeddings"), 9)),
                        "AACAPwAAAMAAAAA/");
    json_decref(json);
    chroma_pile_fini(&pile);

    chroma->max_batch = 1000;
    chroma_pile_init(&pile, chroma, "uuid", true);
    size_t len = (size_t)5 << 20;
    char *blob = mem_alloc(len * 6);
    for (int i = 0; i < 7; i++) /* 7 MiB each as base64 */
        must(chroma_pile_add(&pile, i % 2 ? "a" : "b", vector, 3, json_object(), blob, len, &err));
    assert_int_equal(pile.n_bodies, 1);
    for (int i = 0; i < pile.n_bodies; i++)
        assert_true(pile.bodies[i].len <= (size_t)32 << 20);
    chroma_pile_fini(&pile);
    chroma_pile_init(&pile, chroma, "uuid", true);
    bool ok = chroma_pile_add(&pile, "a", vector, 3, json_object(), blob, len * 6, &err) &&
              chroma_pile_send(&pile, &err);
    assert_false(ok);
    assert_int_equal(err.kind, ERROR_LIMIT);
    chroma_pile_fini(&pile);
    mem_free(blob);
    chroma_close(chroma);
}

static struct chroma_coded *put_coded(struct chroma_cache *cache, const char *id, int number,
                                      const char *revision) {
    struct made_options options = {.n_vectors = 400};
    struct arena *arena = arena_new(0);
    struct index_codes codes;
    made_codes(&codes, arena, number, 1, &options);
    return chroma_cache_put(cache, "uuid", id, revision, &codes, arena);
}

static void test_cache(void **state) {
    (void)state;
    struct chroma_cache *cache = chroma_cache_new((size_t)1 << 20);
    char first[CHROMA_MAX_ID], doc_id[SHA256_HEX + 1], id[CHROMA_MAX_ID];
    made_id(doc_id, 0);
    chroma_item_id(first, doc_id, ITEM_PAGE, 1);
    struct chroma_coded *kept = put_coded(cache, first, 0, "rev");
    int n_there = 0;
    for (int i = 1; i < 100; i++) { /* the first is used again and again: it stays */
        made_id(doc_id, i);
        chroma_item_id(id, doc_id, ITEM_PAGE, 1);
        chroma_coded_unref(cache, put_coded(cache, id, i, "rev"));
        struct chroma_coded *found = chroma_cache_find(cache, "uuid", first);
        assert_ptr_equal(found, kept);
        chroma_coded_unref(cache, found);
    }
    for (int i = 1; i < 100; i++) {
        made_id(doc_id, i);
        chroma_item_id(id, doc_id, ITEM_PAGE, 1);
        struct chroma_coded *found = chroma_cache_find(cache, "uuid", id);
        n_there += found != NULL;
        if (found)
            assert_int_equal(found->codes.n, 400);
        assert_true(!found || i > 50);
        chroma_coded_unref(cache, found);
    }
    assert_true(n_there > 5 && n_there < 50); /* 1 MiB of about 26 KiB each */
    assert_null(chroma_cache_find(cache, "other", first));
    made_id(doc_id, 0);
    chroma_cache_drop(cache, doc_id, "rev");
    struct chroma_coded *found = chroma_cache_find(cache, "uuid", first);
    assert_non_null(found);
    chroma_coded_unref(cache, found);
    chroma_cache_drop(cache, doc_id, "later");
    assert_null(chroma_cache_find(cache, "uuid", first));
    assert_int_equal(kept->codes.n, 400); /* held here, it lives */
    chroma_coded_unref(cache, kept);
    chroma_cache_free(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),    cmocka_unit_test(test_ids),
        cmocka_unit_test(test_lift),      cmocka_unit_test(test_record),
        cmocka_unit_test(test_splitting), cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests_name("chroma wire", tests, NULL, NULL);
}
