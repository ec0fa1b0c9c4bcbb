/* The table of calls and their description say the same. */
#include "test_api.h"

#include <ctype.h>
#include <string.h>

static void every_call_is_described_and_no_other(void **state) {
    struct fixture *f = *state;
    json_t *reply;
    assert_int_equal(ask(&reply, f, "GET", "/openapi.json", NULL), 200);
    json_t *paths = json_object_get(reply, "paths");
    int n, n_described = 0;
    const struct route *routes = routes_list(&n);
    for (int i = 0; i < n; i++) {
        char method[16] = "";
        for (size_t c = 0; routes[i].method[c]; c++)
            method[c] = (char)tolower(routes[i].method[c]);
        json_t *entry = json_object_get(json_object_get(paths, routes[i].path), method);
        if (!entry)
            fail_msg("%s %s is not described", routes[i].method, routes[i].path);
        json_t *security = json_object_get(entry, "security");
        bool open = security && json_array_size(security) == 0;
        assert_int_equal(open, (routes[i].flags & ROUTE_OPEN) != 0);
        assert_non_null(json_object_get(entry, "summary"));
        assert_non_null(json_object_get(entry, "responses"));
    }
    const char *path, *method;
    json_t *methods, *entry;
    json_object_foreach(paths, path, methods) json_object_foreach(methods, method, entry)
        n_described++;
    assert_int_equal(n_described, n);
    assert_string_equal(text_of(json_object_get(reply, "info"), "version"), DOCUSEARCH_VERSION);
    json_decref(reply);
}

/* Every "$ref" leads somewhere. */
static void check_refs(const json_t *root, json_t *node) {
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach(node, key, value) {
        if (strcmp(key, "$ref") == 0) {
            const char *name = strrchr(json_string_value(value), '/') + 1;
            json_t *schemas = json_object_get(json_object_get(root, "components"), "schemas");
            if (!json_object_get(schemas, name))
                fail_msg("no schema %s", name);
        }
        check_refs(root, value);
    }
    json_array_foreach(node, i, value) check_refs(root, value);
}

static void references_lead_somewhere(void **state) {
    struct fixture *f = *state;
    json_t *reply;
    assert_int_equal(ask(&reply, f, "GET", "/openapi.json", NULL), 200);
    check_refs(reply, reply);
    json_decref(reply);
}

int test_openapi(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_call_is_described_and_no_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(references_lead_somewhere, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("openapi", tests, NULL, NULL);
}
