/* The picture of a map: what lies between patches, the order of its colours, what is clear. */
#include "api/heatmap.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SIDE 32

static float map[SIDE * SIDE];

static void fill_map(unsigned seed) {
    for (int i = 0; i < SIDE * SIDE; i++) {
        seed = seed * 1664525 + 1013904223;
        map[i] = (float)(seed >> 8) / (float)(1 << 24);
    }
}

static void expect_near(float a, float b, float by) {
    if (!(fabsf(a - b) <= by))
        fail_msg("%.8g is not %.8g", (double)a, (double)b);
}

static void test_stretch(void **state) {
    (void)state;
    enum { TIMES = 9, WIDE = SIDE * TIMES };
    static float out[WIDE * WIDE];
    /* Middles keep their values; nothing leaves the range of the four around it. */
    fill_map(7);
    heatmap_stretch(out, WIDE, WIDE, map, SIDE, SIDE);
    for (int y = 0; y < WIDE; y++) {
        for (int x = 0; x < WIDE; x++) {
            float value = out[y * WIDE + x], low = 2, high = -1;
            int cx = (x - TIMES / 2 < 0 ? 0 : x - TIMES / 2) / TIMES;
            int cy = (y - TIMES / 2 < 0 ? 0 : y - TIMES / 2) / TIMES;
            for (int i = 0; i < 4; i++) {
                int nx = cx + i % 2 < SIDE ? cx + i % 2 : SIDE - 1;
                int ny = cy + i / 2 < SIDE ? cy + i / 2 : SIDE - 1;
                low = fminf(low, map[ny * SIDE + nx]);
                high = fmaxf(high, map[ny * SIDE + nx]);
            }
            assert_true(value >= low - 1e-6F && value <= high + 1e-6F);
            if (x % TIMES == TIMES / 2 && y % TIMES == TIMES / 2)
                expect_near(value, map[y / TIMES * SIDE + x / TIMES], 1e-6F);
        }
    }
    /* A slope stays one, in a grid that is no square, and beyond the outermost middles the edge. */
    const float slope[] = {0, 1, 2, 3, 10, 11, 12, 13};
    float wide[8 * 6];
    heatmap_stretch(wide, 8, 6, slope, 4, 2);
    expect_near(wide[0], 0, 1e-6F);
    expect_near(wide[7], 3, 1e-6F);
    expect_near(wide[2], 0.75F, 0.05F);
    expect_near(wide[4], 1.75F, 1e-5F);
    expect_near(wide[5 * 8], 10, 1e-6F);
    expect_near(wide[2 * 8] + wide[3 * 8], 10, 1e-4F); /* evenly about the middle */
    /* One patch in a row, or in all. */
    const float one[] = {5, 7};
    heatmap_stretch(wide, 3, 4, one, 1, 2);
    expect_near(wide[0], 5, 0);
    expect_near(wide[2], 5, 0);
    expect_near(wide[9], 7, 0);
    heatmap_stretch(wide, 3, 2, one, 1, 1);
    expect_near(wide[5], 5, 0);
}

/* Of what the eye takes from a colour on paper. */
static double luminance(const uint8_t rgba[4]) {
    double sum = 0;
    static const double weights[] = {0.2126, 0.7152, 0.0722};
    for (int i = 0; i < 3; i++) {
        double v = rgba[i] / 255.0;
        sum += weights[i] * (v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
    }
    double alpha = rgba[3] / 255.0;
    return alpha * sum + (1 - alpha);
}

static void test_colours(void **state) {
    (void)state;
    uint8_t last[4] = {0}, now[4];
    for (int i = 0; i <= 100; i++) {
        heatmap_colour(now, i / 100.0);
        assert_true(i == 0 ? now[3] == 0 : now[3] > last[3]);
        assert_true(i == 0 || luminance(now) < luminance(last));
        for (int c = 0; c < 3 && i > 0; c++)
            assert_true(now[c] - last[c] <= 24 && last[c] - now[c] <= 24); /* no steps */
        memcpy(last, now, sizeof last);
    }
    assert_true(last[3] < 200); /* what lies below is still read */
}

static void test_size(void **state) {
    (void)state;
    int width, height;
    heatmap_size(&width, &height, 612, 792);
    assert_int_equal(width, 396);
    assert_int_equal(height, 512);
    heatmap_size(&width, &height, 792, 612);
    assert_int_equal(width, 512);
    assert_int_equal(height, 396);
    heatmap_size(&width, &height, 0, 792);
    assert_int_equal(width, 512);
    assert_int_equal(height, 512);
    heatmap_size(&width, &height, 1, 10000);
    assert_int_equal(width, HEATMAP_LEAST);
    assert_int_equal(height, 512);
}

static void test_draw(void **state) {
    (void)state;
    int width, height, most = 0, at = 0, n_clear = 0;
    static uint8_t rgba[HEATMAP_SIDE * HEATMAP_SIDE * 4];
    heatmap_size(&width, &height, 612, 792);
    fill_map(11);
    map[20 * SIDE + 9] = 1.5F;
    heatmap_draw(rgba, width, height, map, SIDE, SIDE);
    for (int i = 0; i < width * height; i++) {
        n_clear += rgba[4 * i + 3] == 0;
        if (rgba[4 * i + 3] > most) {
            most = rgba[4 * i + 3];
            at = i;
        }
    }
    assert_int_equal(at % width * SIDE / width, 9);
    assert_int_equal(at / width * SIDE / height, 20);
    uint8_t strongest[4];
    heatmap_colour(strongest, 1);
    assert_true(strongest[3] - most <= 1); /* no pixel need be a patch's very middle */
    /* Half of the page, more or less, is clear. */
    assert_true(n_clear > width * height * 2 / 5 && n_clear < width * height * 3 / 5);
    for (int i = 0; i < SIDE * SIDE; i++)
        map[i] = 0.3F;
    heatmap_draw(rgba, width, height, map, SIDE, SIDE);
    for (int i = 0; i < width * height; i++)
        assert_int_equal(rgba[4 * i + 3], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stretch),
        cmocka_unit_test(test_colours),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_draw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
