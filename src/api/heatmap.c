/* A map of patches as a picture to lie over a page's.
 *
 * Between the patches' middles values follow monotone cubics (Fritsch and Butland 1984, "A Method
 * for Constructing Local Monotone Piecewise Cubic Interpolants"), first along rows, then along
 * columns: smooth, and never above or below the patches around, so that the largest value stays
 * where it is. Beyond the outermost middles they are those at the edge.
 *
 * A value's strength is its share of the way from the map's median, at and below which nothing is
 * drawn, to its largest value. Opacity grows with strength; colour goes from pale yellow over red
 * to purple in OKLab (Ottosson 2020, "A perceptual color space for image processing"), lightness
 * falling evenly with strength: on paper, more is darker, for every eye and in grey too. */
#include "api/heatmap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPACITY 0.68
#define LEVELS 256
#define PI 3.14159265358979323846

/* ---- values between patches ----------------------------------------------------------------- */

/* The slope at the middle of three points at equal distances, from the differences before it and
 * behind it. */
static float slope(float before, float behind) {
    return before * behind <= 0 ? 0 : 2 * before * behind / (before + behind);
}

/* n_out values along a line of n_in cells' values, strides apart. */
static void stretch(float *out, int n_out, int out_stride, const float *in, int n_in,
                    int in_stride) {
    for (int i = 0; i < n_out; i++) {
        float at = ((float)i + 0.5F) * (float)n_in / (float)n_out - 0.5F;
        float t = at < 0 ? 0 : at > (float)(n_in - 1) ? (float)(n_in - 1) : at;
        int cell = (int)t < n_in - 1 ? (int)t : n_in - 2;
        if (n_in == 1) {
            out[i * out_stride] = in[0];
            continue;
        }
        const float *p = in + cell * in_stride;
        float y0 = p[0], y1 = p[in_stride], step = y1 - y0, u = t - (float)cell;
        float m0 = cell > 0 ? slope(y0 - p[-in_stride], step) : 0;
        float m1 = cell < n_in - 2 ? slope(step, p[2 * in_stride] - y1) : 0;
        float u2 = u * u, u3 = u2 * u;
        out[i * out_stride] = y0 + (3 * u2 - 2 * u3) * step + (u3 - 2 * u2 + u) * m0 +
                              (u3 - u2) * m1;
    }
}

void heatmap_stretch(float *out, int width, int height, const float *map, int grid_width,
                     int grid_height) {
    float *rows = mem_alloc((size_t)width * (size_t)grid_height * sizeof *rows);
    for (int y = 0; y < grid_height; y++)
        stretch(rows + y * width, width, 1, map + y * grid_width, grid_width, 1);
    for (int x = 0; x < width; x++)
        stretch(out + x, height, width, rows + x, grid_height, width);
    mem_free(rows);
}

/* ---- colours -------------------------------------------------------------------------------- */

static uint8_t srgb_of(double linear) {
    double v = linear <= 0.0031308 ? 12.92 * linear : 1.055 * pow(linear, 1 / 2.4) - 0.055;
    return (uint8_t)(v <= 0 ? 0 : v >= 1 ? 255 : v * 255 + 0.5);
}

/* OKLab's lightness, chroma and hue (degrees) as linear sRGB; false: outside of it. */
static bool linear_of(double rgb[3], double lightness, double chroma, double hue) {
    double a = chroma * cos(hue * PI / 180), b = chroma * sin(hue * PI / 180);
    double l = lightness + 0.3963377774 * a + 0.2158037573 * b;
    double m = lightness - 0.1055613458 * a - 0.0638541728 * b;
    double s = lightness - 0.0894841775 * a - 1.2914855480 * b;
    l = l * l * l;
    m = m * m * m;
    s = s * s * s;
    rgb[0] = 4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s;
    rgb[1] = -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s;
    rgb[2] = -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s;
    bool inside = true;
    for (int i = 0; i < 3; i++)
        inside = inside && rgb[i] >= -1e-4 && rgb[i] <= 1 + 1e-4;
    return inside;
}

void heatmap_colour(uint8_t rgba[4], double strength) {
    double rgb[3], lightness = 0.93 - 0.48 * strength, chroma = 0.19;
    double hue = 105 - 110 * strength; /* yellow, orange, red, purple */
    while (!linear_of(rgb, lightness, chroma, hue) && chroma > 0)
        chroma -= 0.005;
    for (int i = 0; i < 3; i++)
        rgba[i] = srgb_of(rgb[i]);
    rgba[3] = (uint8_t)(MAX_OPACITY * 255 * strength + 0.5);
}

/* ---- the picture ---------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void range_of(float *middle, float *largest, const float *map, int n) {
    float *sorted = mem_alloc((size_t)n * sizeof *sorted);
    memcpy(sorted, map, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    *middle = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    *largest = sorted[n - 1];
    mem_free(sorted);
}

void heatmap_size(int *width, int *height, float page_width, float page_height) {
    float aspect = page_width > 0 && page_height > 0 ? page_width / page_height : 1;
    float x = aspect < 1 ? HEATMAP_SIDE * aspect : HEATMAP_SIDE;
    float y = aspect < 1 ? HEATMAP_SIDE : HEATMAP_SIDE / aspect;
    *width = x < HEATMAP_LEAST ? HEATMAP_LEAST : (int)(x + 0.5F);
    *height = y < HEATMAP_LEAST ? HEATMAP_LEAST : (int)(y + 0.5F);
}

void heatmap_draw(uint8_t *rgba, int width, int height, const float *map, int grid_width,
                  int grid_height) {
    uint8_t colours[LEVELS][4];
    float middle, largest;
    float *values = mem_alloc((size_t)width * (size_t)height * sizeof *values);
    for (int i = 0; i < LEVELS; i++)
        heatmap_colour(colours[i], (double)i / (LEVELS - 1));
    range_of(&middle, &largest, map, grid_width * grid_height);
    heatmap_stretch(values, width, height, map, grid_width, grid_height);
    for (int i = 0; i < width * height; i++) {
        float strength = largest > middle ? (values[i] - middle) / (largest - middle) : 0;
        int level = strength <= 0 ? 0 : (int)(strength * (LEVELS - 1) + 0.5F);
        memcpy(rgba + (size_t)i * 4, colours[level < LEVELS ? level : LEVELS - 1], 4);
    }
    mem_free(values);
}
