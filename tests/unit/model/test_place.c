/* Where models lie: names, folders, the list, adoption, removal; a pull that may not begin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/model.h"
#include "model/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A tensor of four bytes. */
#define HEADER "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
static const char weights[] = "\x36\0\0\0\0\0\0\0" HEADER "abcd";

struct world {
    struct arena *arena;
    struct settings settings;
    char *top;
};

static int open_world(void **state) {
    struct world *w = mem_alloc(sizeof *w);
    struct error err;
    char top[] = "/tmp/docusearch-place-XXXXXX";
    assert_int_equal(sizeof HEADER - 1, 0x36);
    w->arena = arena_new(0);
    w->top = mem_strdup(mkdtemp(top));
    w->settings.models_dir = path_join(w->arena, w->top, "models");
    w->settings.hf_home = path_join(w->arena, w->top, "hf");
    w->settings.hf_endpoint = "http://127.0.0.1:1";
    *state = w;
    return dir_make(path_join(w->arena, w->top, "mine"), &err) ? 0 : -1;
}

static int close_world(void **state) {
    struct world *w = *state;
    struct error err;
    assert_true(dir_remove(w->top, &err));
    arena_free(w->arena);
    mem_free(w->top);
    mem_free(w);
    return 0;
}

static const char *put(struct world *w, const char *path, const char *data, size_t len) {
    struct error err;
    const char *whole = path_join(w->arena, w->top, path);
    assert_true(file_write_durable(whole, data, len, &err));
    return whole;
}

static void put_model(struct world *w) {
    put(w, "mine/config.json", "{\"model_type\":\"bert\"}", 21);
    put(w, "mine/tokenizer.json", "{} \n", 4);
    put(w, "mine/model.safetensors", weights, sizeof weights - 1);
    put(w, "mine/notes.txt", "mine", 4);
}

static void names(void **state) {
    (void)state;
    static const char *const good[] = {"a", "a/b", "vidore/colpali-v1.2", "A_b/c.d-e", "0/1"};
    static const char *const bad[] = {"",    "/",    "a/",  "/a",       "a//b", "a/b/c",
                                      "..",  "a..b", "a/.", "-a/b",     "a-/b", "a--b",
                                      "a b", "a\\b", "a\n", "\xc3\xa9", "a%2f", "a:b"};
    for (size_t i = 0; i < BASE_COUNT(good); i++)
        assert_true(place_name_valid(good[i]));
    for (size_t i = 0; i < BASE_COUNT(bad); i++)
        assert_false(place_name_valid(bad[i]));
}

static void wanted_files(void **state) {
    (void)state;
    static const char *const wanted[] = {"config.json",
                                         "model.safetensors",
                                         "model-00001-of-00002.safetensors",
                                         "1_Pooling/config.json",
                                         "artifact.metadata",
                                         "vocab.txt",
                                         "2_Dense/model.safetensors"};
    static const char *const others[] = {"docusearch.json",
                                         "pytorch_model.bin",
                                         "onnx/config.json",
                                         "1_Pooling/a/config.json",
                                         "../config.json",
                                         "/config.json",
                                         ".hidden.json",
                                         "fp16.safetensors",
                                         "1_Pooling/../config.json",
                                         "x.json.part",
                                         "1_Pooling/docusearch.json",
                                         ""};
    for (size_t i = 0; i < BASE_COUNT(wanted); i++)
        assert_true(place_wants(wanted[i]));
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        assert_false(place_wants(others[i]));
}

static void a_folder_by_its_path(void **state) {
    struct world *w = *state;
    struct model_place place;
    const char *path = path_join(w->arena, w->top, "mine/");
    put_model(w);
    model_locate(&place, w->arena, &w->settings, path);
    assert_true(place.installed);
    assert_string_equal(place.origin, "folder");
    assert_string_equal(place.folder, path_join(w->arena, w->top, "mine"));
    assert_string_equal(place.problem, "");
    assert_int_equal(place.size_bytes, 21 + 4 + sizeof weights - 1);
    for (size_t len = 0; len < sizeof weights - 1; len++) {
        put(w, "mine/model.safetensors", weights, len);
        model_locate(&place, w->arena, &w->settings, path);
        assert_false(place.installed);
        assert_string_equal(place.folder, "");
        assert_non_null(strstr(place.problem, "model.safetensors: half fetched"));
    }
    model_locate(&place, w->arena, &w->settings, "../nowhere/at/all");
    assert_false(place.installed);
    assert_string_equal(place.problem, "no such folder");
}

static void taken_listed_removed(void **state) {
    struct world *w = *state;
    struct model_place place, *all;
    struct error err;
    int n;
    put_model(w);
    const char *mine = path_join(w->arena, w->top, "mine");
    assert_true(model_list(&all, &n, w->arena, &w->settings, &err));
    assert_int_equal(n, 0);
    assert_true(model_adopt(&place, w->arena, &w->settings, "z/last", mine, &err));
    assert_true(model_adopt(&place, w->arena, &w->settings, "alone", mine, &err));
    assert_true(place.installed);
    assert_string_equal(place.origin, "models_dir");
    assert_false(model_adopt(&place, w->arena, &w->settings, "../up", mine, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_true(model_list(&all, &n, w->arena, &w->settings, &err));
    assert_int_equal(n, 2);
    assert_string_equal(all[0].name, "alone");
    assert_string_equal(all[1].name, "z/last");
    assert_true(all[0].installed && all[1].installed);
    /* What a broken-off copy leaves is no model, and is named. */
    assert_int_equal(unlink(path_join(w->arena, all[1].folder, "docusearch.json")), 0);
    model_locate(&place, w->arena, &w->settings, "z/last");
    assert_false(place.installed);
    assert_non_null(strstr(place.problem, "docusearch.json: missing"));
    assert_true(model_remove(&w->settings, "z/last", &err));
    assert_false(model_remove(&w->settings, "z/last", &err));
    assert_int_equal(err.kind, ERROR_MISSING);
    assert_false(model_remove(&w->settings, "../models", &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_true(model_list(&all, &n, w->arena, &w->settings, &err));
    assert_int_equal(n, 1);
}

static void pulls_that_may_not_begin(void **state) {
    struct world *w = *state;
    struct model_place place;
    struct error err;
    put_model(w);
    /* A folder that is whole needs no hub. */
    assert_true(model_pull(&place, w->arena, &w->settings, path_join(w->arena, w->top, "mine"),
                           NULL, NULL, &err));
    assert_false(model_pull(&place, w->arena, &w->settings, "a/b", NULL, NULL, &err));
    assert_string_equal(err.code, "hub_unreachable");
    assert_false(model_pull(&place, w->arena, &w->settings, "a/b", "..", NULL, &err));
    assert_string_equal(err.code, "invalid");
    w->settings.hf_offline = true;
    assert_false(model_pull(&place, w->arena, &w->settings, "a/b", NULL, NULL, &err));
    assert_string_equal(err.code, "offline");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(wanted_files),
        cmocka_unit_test_setup_teardown(a_folder_by_its_path, open_world, close_world),
        cmocka_unit_test_setup_teardown(taken_listed_removed, open_world, close_world),
        cmocka_unit_test_setup_teardown(pulls_that_may_not_begin, open_world, close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
