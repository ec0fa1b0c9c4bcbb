/* Pictures against Pillow, bit for bit. */
#include "model/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "image_cases.h"

static uint8_t sample(enum kind kind, uint32_t i, uint32_t width) {
    uint32_t noise = i * 2654435761u, pixel = i / 3;
    noise ^= noise >> 15;
    noise *= 0x2C1B3C6Du;
    noise ^= noise >> 12;
    switch (kind) {
    case NOISE:
        return (uint8_t)(noise >> 24);
    case EDGES:
        return noise >> 31 ? 255 : 0;
    case FLAT:
        return (uint8_t)(40 + 70 * (i % 3));
    case SMOOTH:
        return (uint8_t)(pixel % width * 255 / width + pixel / width * (i % 3) / 4);
    }
    return 0;
}

static uint8_t *picture_of(enum kind kind, int width, int height) {
    uint32_t n = (uint32_t)width * (uint32_t)height * 3;
    uint8_t *rgb = mem_alloc(n);
    for (uint32_t i = 0; i < n; i++)
        rgb[i] = sample(kind, i, (uint32_t)width);
    return rgb;
}

/* The caller's, with a guard byte behind it that must have stayed. */
static uint8_t *resized(enum kind kind, int width, int height, int to_width, int to_height) {
    uint8_t *rgb = picture_of(kind, width, height);
    size_t n = (size_t)to_width * (size_t)to_height * 3;
    uint8_t *out = mem_alloc(n + 1);
    struct picture in = {rgb, width, height};
    out[n] = 0xA5;
    assert_true(image_resize(out, to_width, to_height, &in, NULL));
    assert_int_equal(out[n], 0xA5);
    mem_free(rgb);
    return out;
}

static void equals_pillow_in_full(void **state) {
    (void)state;
    uint8_t *out = resized(NOISE, 5, 4, 3, 3);
    assert_memory_equal(out, small_0, sizeof small_0);
    mem_free(out);
    out = resized(EDGES, 4, 9, 3, 4);
    assert_memory_equal(out, small_1, sizeof small_1);
    mem_free(out);
    out = resized(NOISE, 2, 2, 4, 3);
    assert_memory_equal(out, small_2, sizeof small_2);
    mem_free(out);
}

static void equals_pillow_by_digest(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        const struct image_case *c = &cases[i];
        char hex[SHA256_HEX + 1];
        uint8_t *out = resized(c->kind, c->width, c->height, c->to_width, c->to_height);
        sha256_hex(hex, out, (size_t)c->to_width * (size_t)c->to_height * 3);
        if (strcmp(hex, c->sha256) != 0)
            fail_msg("%d x %d to %d x %d differs from Pillow", c->width, c->height, c->to_width,
                     c->to_height);
        mem_free(out);
    }
}

static void one_colour_stays(void **state) {
    (void)state;
    uint8_t *out = resized(FLAT, 1717, 23, 448, 448);
    for (size_t i = 0; i < (size_t)448 * 448 * 3; i++)
        assert_int_equal(out[i], 40 + 70 * (i % 3));
    mem_free(out);
}

static void sizes_have_limits(void **state) {
    (void)state;
    uint8_t out[3], in[3] = {1, 2, 3};
    struct error err = {0};
    assert_false(image_resize(out, 1, 1, &(struct picture){in, 0, 1}, &err));
    assert_int_equal(err.kind, ERROR_INPUT);
    assert_false(image_resize(out, 1, 1, &(struct picture){in, 1, -5}, &err));
    assert_false(image_resize(out, 1, 1, &(struct picture){in, 2000000, 1}, &err));
    assert_string_equal(err.code, "image_limit");
    assert_false(image_resize(out, 5000, 1, &(struct picture){in, 1, 1}, &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_true(image_resize(out, 1, 1, &(struct picture){in, 1, 1}, &err));
    assert_memory_equal(out, in, 3);
}

static void patches_are_a_convolutions_rows(void **state) {
    (void)state;
    enum { WIDTH = 6, HEIGHT = 4, SIZE = 2, N = WIDTH * HEIGHT * 3 };
    static const float mean[3] = {0.5f, 0.25f, 0.0f}, std[3] = {0.5f, 0.25f, 1.0f};
    uint8_t rgb[N];
    float out[N + 1];
    for (int i = 0; i < N; i++)
        rgb[i] = (uint8_t)(i * 3);
    out[N] = 7;
    image_patches(out, rgb, WIDTH, HEIGHT, SIZE, mean, std);
    for (int p = 0; p < 6; p++)
        for (int c = 0; c < 3; c++)
            for (int y = 0; y < SIZE; y++)
                for (int x = 0; x < SIZE; x++) {
                    int at_x = p % 3 * SIZE + x, at_y = p / 3 * SIZE + y;
                    float value = (float)rgb[(at_y * WIDTH + at_x) * 3 + c] / 255.0f;
                    float got = out[((p * 3 + c) * SIZE + y) * SIZE + x];
                    assert_float_equal(got, (value - mean[c]) / std[c], 1e-6);
                }
    assert_true(out[N] == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_pillow_in_full),
        cmocka_unit_test(equals_pillow_by_digest),
        cmocka_unit_test(one_colour_stays),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(patches_are_a_convolutions_rows),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
