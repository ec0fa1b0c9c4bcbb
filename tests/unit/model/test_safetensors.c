#include "model/internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "made.h"

/* A file of these header bytes and n_data bytes of data, in a block of exactly its size. */
static unsigned char *file_of(size_t *len, const char *header, size_t n_data) {
    size_t n = strlen(header);
    *len = 8 + n + n_data;
    unsigned char *bytes = calloc(1, *len);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(n >> 8 * i);
    memcpy(bytes + 8, header, n);
    return bytes;
}

/* Refused, with both words in what is said. */
static void refused(const char *header, size_t n_data, const char *word, const char *tensor) {
    size_t len = 0;
    unsigned char *bytes = file_of(&len, header, n_data);
    struct checkpoint *checkpoint = NULL;
    struct error err = {0};
    if (checkpoint_parse(&checkpoint, bytes, len, "a.safetensors", &err))
        fail_msg("taken: %s", header);
    assert_null(checkpoint);
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_string_equal(err.code, "bad_model");
    if (!strstr(err.text, word) || !strstr(err.text, tensor) || !strstr(err.text, "a.safetensors"))
        fail_msg("%s: %s", header, err.text);
    free(bytes);
}

static void test_values(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[8,12]},"
        "\"a\\u0041/\\\"\":{\"shape\":[2],\"data_offsets\":[0,8],\"dtype\":\"F32\"},"
        "\"c\":{\"dtype\":\"F16\",\"shape\":[5],\"data_offsets\":[12,22]},"
        "\"d\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[22,30]},"
        "\"e\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[30,30]}}   ";
    static const float f32[] = {1.5f, -0.0f};
    static const uint16_t bf16[] = {0x3f80, 0xc049},
                          f16[] = {0x3c00, 0x0001, 0x83ff, 0x7bff, 0xc248};
    static const int64_t i64 = -7;
    size_t len = 0;
    unsigned char *bytes = file_of(&len, header, 30), *data = bytes + len - 30;
    memcpy(data, f32, 8);
    memcpy(data + 8, bf16, 4);
    memcpy(data + 12, f16, 10);
    memcpy(data + 22, &i64, 8);
    struct checkpoint *checkpoint = NULL;
    struct error err = {0};
    float out[8];
    if (!checkpoint_parse(&checkpoint, bytes, len, "a.safetensors", &err))
        fail_msg("%s", err.text);
    assert_int_equal(checkpoint_count(checkpoint), 5);
    assert_null(checkpoint_lookup(checkpoint, "a"));
    const struct checkpoint_tensor *tensor = checkpoint_lookup(checkpoint, "aA/\"");
    assert_non_null(tensor);
    assert_int_equal(tensor->n_dims, 1);
    assert_true(checkpoint_floats(out, tensor, 0, 2, &err));
    assert_true(out[0] == 1.5f && out[1] == 0 && signbit(out[1]));
    assert_true(checkpoint_floats(out, checkpoint_lookup(checkpoint, "b"), 1, 1, &err));
    assert_true(out[0] == -3.140625f);
    assert_true(checkpoint_floats(out, checkpoint_lookup(checkpoint, "c"), 0, 5, &err));
    assert_true(out[0] == 1 && out[1] == 0x1p-24f && out[2] == -0x3ffp-24f && out[3] == 65504 &&
                out[4] == -3.140625f);
    assert_true(checkpoint_floats(out, checkpoint_lookup(checkpoint, "d"), 0, 1, &err));
    assert_true(out[0] == -7);
    assert_int_equal(checkpoint_lookup(checkpoint, "e")->n, 0);
    checkpoint_close(checkpoint);
    free(bytes);
}

/* Every half, against the definition: blocks of 64 and what is left over. */
static void test_halves(void **state) {
    (void)state;
    uint16_t halves[200];
    for (int first = 0; first < 0x7c00; first += 197) {
        float out[200];
        struct error err;
        for (int i = 0; i < 197; i++)
            halves[i] = (uint16_t)((first + i < 0x7c00 ? first + i : 0) | (i & 1) << 15);
        const struct checkpoint_tensor tensor = {
            .name = "t", .file = "f", .dtype = DTYPE_F16, .n = 197, .data = halves};
        assert_true(checkpoint_floats(out, &tensor, 0, 197, &err));
        for (int i = 0; i < 197; i++) {
            int exponent = halves[i] >> 10 & 31, fraction = halves[i] & 1023;
            double want = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
            assert_true(out[i] == (float)(halves[i] & 0x8000 ? -want : want));
        }
    }
}

static void test_not_finite(void **state) {
    (void)state;
    static const struct {
        enum dtype dtype;
        int size_bytes;
        uint32_t bits[3];
    } cases[] = {{DTYPE_F32, 4, {0x7fc00000, 0x7f800000, 0xff800001}},
                 {DTYPE_BF16, 2, {0x7fc0, 0x7f80, 0xff81}},
                 {DTYPE_F16, 2, {0x7e00, 0x7c00, 0xfc01}}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        for (int k = 0; k < 3; k++) {
            for (int at = 0; at < 150; at += 37) {
                char data[150 * 4] = {0};
                float out[150];
                struct error err = {0};
                char place[32];
                memcpy(data + at * cases[i].size_bytes, &cases[i].bits[k],
                       (size_t)cases[i].size_bytes);
                const struct checkpoint_tensor tensor = {.name = "layer.7",
                                                         .file = "f.safetensors",
                                                         .dtype = cases[i].dtype,
                                                         .n = 150,
                                                         .data = data};
                assert_false(checkpoint_floats(out, &tensor, 0, 150, &err));
                snprintf(place, sizeof place, "element %d ", at);
                assert_non_null(strstr(err.text, "f.safetensors"));
                assert_non_null(strstr(err.text, "layer.7"));
                if (!strstr(err.text, place))
                    fail_msg("%d: %s", at, err.text);
                assert_true(checkpoint_floats(out, &tensor, at + 1, 149 - at, &err));
            }
        }
    }
}

#define TENSOR(name, dtype, shape, from, to)                                                       \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #from "," #to \
    "]}"

static void test_lies(void **state) {
    (void)state;
    /* places */
    refused("{" TENSOR("w", "F32", "2", 0, 8) "}", 7, "cut short", "w");
    refused("{" TENSOR("w", "F32", "2", 0, 8) "}", 9, "behind the last", "");
    refused("{" TENSOR("w", "F32", "2", 4, 12) "}", 12, "gap", "w");
    refused("{" TENSOR("v", "F32", "1", 0, 4) "," TENSOR("w", "F32", "1", 8, 12) "}", 12, "gap",
            "w");
    refused("{" TENSOR("v", "F32", "2", 0, 8) "," TENSOR("w", "F32", "1", 4, 8) "}", 8, "overlap",
            "w");
    refused("{" TENSOR("w", "F32", "2", 8, 0) "}", 8, "outside", "w");
    refused("{" TENSOR("w", "F32", "2", 0, 4) "}", 4, "shape needs", "w");
    refused("{" TENSOR("w", "F32", "2", 0, 9223372036854775808) "}", 4, "2^48", "w");
    refused("{" TENSOR("w", "F32", "2", 0, 18446744073709551616) "}", 4, "2^48", "w");
    refused("{" TENSOR("w", "F32", "9223372036854775808", 0, 4) "}", 4, "2^48", "w");
    refused("{" TENSOR("w", "F32", "281474976710656,281474976710656", 0, 4) "}", 4, "too many",
            "w");
    refused("{" TENSOR("w", "F32", "65536,65536,65536,65536", 0, 0) "}", 0, "too many", "w");
    refused("{" TENSOR("w", "F32", "1,1,1,1,1,1", 0, 4) "}", 4, "more numbers", "w");
    refused("{" TENSOR("w", "F32", "-1", 0, 4) "}", 4, "whole number", "w");
    refused("{" TENSOR("w", "F32", "1.0", 0, 4) "}", 4, "without an end", "w");
    /* kinds and names */
    refused("{" TENSOR("w", "F64", "1", 0, 8) "}", 8, "F64", "w");
    refused("{" TENSOR("w", "F8_E4M3_AND_MORE_TEXT", "1", 0, 8) "}", 8, "too long", "w");
    refused("{" TENSOR("w", "F32", "1", 0, 4) "," TENSOR("w", "F32", "1", 4, 8) "}", 8, "twice",
            "w");
    refused("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
            "twice", "w");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, "missing", "w");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[],\"offset\":3,\"data_offsets\":[0,4]}}", 4,
            "not known", "w");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4, "two numbers", "w");
    refused("{\"w\\u000a\":{}}", 0, "control", "");
    refused("{\"w\\ud800\":{}}", 0, "escape", "");
}

static void test_no_header(void **state) {
    (void)state;
    static const char *const headers[] = {"[]",
                                          "{",
                                          "{\"a",
                                          "{\"a\"",
                                          "{\"a\":",
                                          "{\"a\":1}",
                                          "{\"a\":[[[[[[[[[[[[[[[[",
                                          "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}",
                                          "{\"__metadata__\":{\"a\":{}}}",
                                          "{\"__metadata__\":{\"a\":\"b\"},\"__metadata__\":{}}",
                                          "{}}",
                                          "{},",
                                          "nul"};
    for (size_t i = 0; i < BASE_COUNT(headers); i++)
        refused(headers[i], 0, ".safetensors: ", "");
    char *name = malloc(2000);
    memset(name, 'x', 1999);
    name[1999] = 0;
    memcpy(name, "{\"", 2);
    refused(name, 0, "too long", "");
    free(name);
}

static void test_length_lies(void **state) {
    (void)state;
    static const uint64_t lengths[] = {UINT64_MAX, (uint64_t)1 << 63, 100000001, 104857601, 9, 8};
    static const bool refused_for_length[] = {true, true, true, true, true, false};
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        unsigned char bytes[16] = "        {}      ";
        struct checkpoint *checkpoint = NULL;
        struct error err = {0};
        for (int k = 0; k < 8; k++)
            bytes[k] = (unsigned char)(lengths[i] >> 8 * k);
        assert_int_equal(checkpoint_parse(&checkpoint, bytes, sizeof bytes, "a.safetensors", &err),
                         !refused_for_length[i]);
        if (refused_for_length[i])
            assert_non_null(strstr(err.text, "a.safetensors: its header"));
        checkpoint_close(checkpoint);
    }
    for (size_t len = 0; len < 10; len++) {
        struct checkpoint *checkpoint = NULL;
        struct error err = {0};
        assert_false(checkpoint_parse(&checkpoint, "\2\0\0\0\0\0\0\0{}", len, "a", &err));
    }
}

/* ---- folders -------------------------------------------------------------------------------- */

static void one(const char *dir, const char *file, const char *tensor) {
    struct made made = {0};
    made_random(&made, tensor, 3, 0, 0, 1);
    made_save(&made, dir, file);
}

static void folder_refused(const char *dir, const char *word, const char *also) {
    struct checkpoint *checkpoint = NULL;
    struct error err = {0};
    assert_false(checkpoint_open(&checkpoint, dir, "model", &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    if (!strstr(err.text, word) || !strstr(err.text, also))
        fail_msg("%s", err.text);
}

static void test_shards(void **state) {
    (void)state;
    static const char index[] = "model.safetensors.index.json";
    char *dir = made_dir();
    struct checkpoint *checkpoint = NULL;
    struct error err = {0};
    folder_refused(dir, "model.safetensors: not there", "");
    one(dir, "x-1.safetensors", "a");
    one(dir, "x-2.safetensors", "b");
    made_file(dir, index,
              "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"a\":\"x-1.safetensors\","
              "\"b\":\"x-2.safetensors\"}}");
    if (!checkpoint_open(&checkpoint, dir, "model", &err))
        fail_msg("%s", err.text);
    assert_int_equal(checkpoint_count(checkpoint), 2);
    assert_string_equal(checkpoint_lookup(checkpoint, "b")->file, "x-2.safetensors");
    assert_string_equal(checkpoint_at(checkpoint, 0)->name, "a");
    checkpoint_close(checkpoint);

    made_file(dir, index, "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-1.safetensors\"}}");
    folder_refused(dir, "x-1.safetensors", "tensor b");
    made_file(dir, index, "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"c\":\"x-2.safetensors\"}}");
    folder_refused(dir, "x-2.safetensors", "tensor b");
    made_file(dir, index,
              "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-2.safetensors\","
              "\"c\":\"x-2.safetensors\"}}");
    folder_refused(dir, "x-2.safetensors", "tensor c");
    made_file(dir, index, "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-3.safetensors\"}}");
    folder_refused(dir, "x-3.safetensors: not there", "");
    made_file(dir, index, "{\"weight_map\":{\"a\":\"../x-1.safetensors\"}}");
    folder_refused(dir, "no name of a safetensors file", "tensor a");
    made_file(dir, index, "{\"weight_map\":{\"a\":[]}}");
    folder_refused(dir, "no name of a safetensors file", "tensor a");
    made_file(dir, index, "{\"weight_map\":{}}");
    folder_refused(dir, "weight_map", index);
    made_file(dir, index, "{\"weight_map\":");
    folder_refused(dir, "line 1", index);
    one(dir, "x-2.safetensors", "a");
    made_file(dir, index, "{\"weight_map\":{\"a\":\"x-1.safetensors\",\"b\":\"x-2.safetensors\"}}");
    folder_refused(dir, "twice", "tensor a");
    made_file(dir, "model.safetensors", "");
    folder_refused(dir, "model.safetensors", "empty");
    made_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),     cmocka_unit_test(test_halves),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_lies),
        cmocka_unit_test(test_no_header),  cmocka_unit_test(test_length_lies),
        cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
