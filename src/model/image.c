/* Pictures, resized and cut into patches as the visual models' own preparation does it.
 *
 * The resampling is Pillow's, step for step, so that its results are equal to the last bit: every
 * output pixel is a weighted mean over a window that grows with the reduction (antialiasing), with
 * Keys' cubic convolution kernel (R. Keys, "Cubic Convolution Interpolation for Digital Image
 * Processing", IEEE ASSP 29(6), 1981, equation 4, a = -0.5); weights are normalised in double, then
 * rounded to 22 fractional bits; the first pass rounds to 8 bits before the second.
 *
 * Rows stream. LANES of them at a time are turned on their side, so that the pass across works on
 * LANES pixels with one weight; the pass down adds each row to the output rows whose windows it
 * lies in. Memory is that of LANES input rows, of the weights, and of four bytes for each sample of
 * the output's height in the width that the pass down sees. */
#include "model/internal.h"

#include <math.h>
#include <string.h>

#define WEIGHT_BITS 22
#define HALF (1 << (WEIGHT_BITS - 1))
#define KERNEL_RADIUS 2.0
#define LANES 16
#define MAX_SIDE 1000000
#define MAX_OUT_SIDE 4096
#define MAX_BYTES ((size_t)1 << 30)

/* ---- weights --------------------------------------------------------------------------------- */

/* For each output position the window of input positions it is made of. */
struct window {
    int from, n;
    const int32_t *weights;
};
struct windows {
    struct window *at;
    int32_t *weights;
};

static double kernel(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static int32_t to_fixed(double weight) {
    double scaled = weight * (1 << WEIGHT_BITS);
    return (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

static void windows_fini(struct windows *windows) {
    mem_free(windows->at);
    mem_free(windows->weights);
}

/* Zero-initialised windows; false: no memory. */
static bool windows_init(struct windows *windows, int n_in, int n_out) {
    double scale = (double)n_in / n_out, stretch = scale < 1.0 ? 1.0 : scale;
    double radius = KERNEL_RADIUS * stretch;
    size_t n_max = (size_t)ceil(radius) * 2 + 1;
    windows->at = mem_try((size_t)n_out, sizeof *windows->at, MAX_BYTES);
    windows->weights = mem_try((size_t)n_out * n_max, sizeof *windows->weights, MAX_BYTES);
    double *exact = mem_try(n_max, sizeof *exact, MAX_BYTES);
    bool fits = windows->at && windows->weights && exact;
    for (int i = 0; fits && i < n_out; i++) {
        double centre = (i + 0.5) * scale, sum = 0.0, per_pixel = 1.0 / stretch;
        int from = (int)(centre - radius + 0.5), to = (int)(centre + radius + 0.5);
        from = from < 0 ? 0 : from;
        to = to > n_in ? n_in : to;
        for (int k = 0; k < to - from; k++) {
            exact[k] = kernel((k + from - centre + 0.5) * per_pixel);
            sum += exact[k];
        }
        int32_t *weights = windows->weights + (size_t)i * n_max;
        for (int k = 0; k < to - from; k++)
            weights[k] = to_fixed(sum != 0.0 ? exact[k] / sum : exact[k]);
        windows->at[i] = (struct window){from, to - from, weights};
    }
    mem_free(exact);
    return fits;
}

/* ---- passes ---------------------------------------------------------------------------------- */

static uint8_t to_sample(int32_t sum) {
    int32_t value = sum >> WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Rows of n samples -> columns[n][LANES]; lanes without a row keep what they hold. */
static void turn(uint8_t *restrict columns, const uint8_t *restrict rows, size_t n, int n_rows) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int r = 0; r < n_rows; r++)
            for (size_t k = 0; k < 8; k++)
                columns[(i + k) * LANES + (size_t)r] = rows[(size_t)r * n + i + k];
    for (; i < n; i++)
        for (int r = 0; r < n_rows; r++)
            columns[i * LANES + (size_t)r] = rows[(size_t)r * n + i];
}

/* columns[in_width * 3][LANES] -> out[width * 3][LANES]. */
static void narrow(uint8_t *restrict out, const uint8_t *restrict columns,
                   const struct windows *windows, int width) {
    for (int x = 0; x < width; x++) {
        struct window window = windows->at[x];
        for (int c = 0; c < 3; c++) {
            const uint8_t *samples = columns + ((size_t)window.from * 3 + (size_t)c) * LANES;
            int32_t sums[LANES];
            for (int r = 0; r < LANES; r++)
                sums[r] = HALF;
            for (int k = 0; k < window.n; k++, samples += (size_t)3 * LANES)
                for (int r = 0; r < LANES; r++)
                    sums[r] += window.weights[k] * samples[r];
            for (int r = 0; r < LANES; r++)
                *out++ = to_sample(sums[r]);
        }
    }
}

static void add_row(int32_t *restrict sums, const uint8_t *restrict row, size_t n, int32_t weight) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 32; k++)
            sums[i + k] += weight * row[i + k];
    for (; i < n; i++)
        sums[i] += weight * row[i];
}

struct resizing {
    struct windows across, down;
    uint8_t *columns, *narrowed; /* LANES rows on their side, before and after narrow */
    uint8_t *rows;               /* between the passes */
    int32_t *sums;               /* rows of the output's height before rounding */
    int first;                   /* the first of them whose window has not ended */
};

/* At most LANES rows of n_in samples to rows of n. */
static void pass_across(uint8_t *out, struct resizing *resizing, const uint8_t *rows, int n_rows,
                        size_t n_in, size_t n) {
    turn(resizing->columns, rows, n_in, n_rows);
    narrow(resizing->narrowed, resizing->columns, &resizing->across, (int)(n / 3));
    for (int r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n; i++)
            *out++ = resizing->narrowed[i * LANES + (size_t)r];
}

/* Adds row y of n samples to the sums of every output row whose window holds it. */
static void pass_down(struct resizing *resizing, const uint8_t *row, int y, size_t n, int height) {
    while (resizing->first < height &&
           resizing->down.at[resizing->first].from + resizing->down.at[resizing->first].n <= y)
        resizing->first++;
    for (int i = resizing->first; i < height && resizing->down.at[i].from <= y; i++) {
        struct window window = resizing->down.at[i];
        if (y - window.from < window.n)
            add_row(resizing->sums + (size_t)i * n, row, n, window.weights[y - window.from]);
    }
}

/* Pillow's rule, from 13.0 on: down first where the height loses more than twice what the width
 * does. The order shows, because of the rounding between. */
static bool is_down_first(const struct picture *in, int width, int height) {
    int64_t lost = (int64_t)in->height - height;
    return lost > 0 && lost > 2 * ((int64_t)in->width - width);
}

static void resize(uint8_t *rgb, struct resizing *resizing, int width, int height,
                   const struct picture *in) {
    bool down_first = is_down_first(in, width, height);
    size_t n_in = (size_t)in->width * 3, n = (size_t)width * 3, n_down = down_first ? n_in : n;
    for (size_t i = 0; i < n_down * (size_t)height; i++)
        resizing->sums[i] = HALF;
    for (int y = 0; y < in->height; y += LANES) {
        int n_rows = in->height - y < LANES ? in->height - y : LANES;
        const uint8_t *rows = in->rgb + (size_t)y * n_in;
        if (!down_first) {
            pass_across(resizing->rows, resizing, rows, n_rows, n_in, n);
            rows = resizing->rows;
        }
        for (int r = 0; r < n_rows; r++)
            pass_down(resizing, rows + (size_t)r * n_down, y + r, n_down, height);
    }
    for (int y = 0; y < height; y += LANES) {
        int n_rows = height - y < LANES ? height - y : LANES;
        const int32_t *sums = resizing->sums + (size_t)y * n_down;
        uint8_t *rounded = down_first ? resizing->rows : rgb + (size_t)y * n;
        for (size_t i = 0; i < (size_t)n_rows * n_down; i++)
            rounded[i] = to_sample(sums[i]);
        if (down_first)
            pass_across(rgb + (size_t)y * n, resizing, resizing->rows, n_rows, n_in, n);
    }
}

bool image_resize(uint8_t *rgb, int width, int height, const struct picture *in,
                  struct error *err) {
    if (width < 1 || height < 1 || width > MAX_OUT_SIDE || height > MAX_OUT_SIDE)
        return error_set(err, ERROR_LIMIT, "a picture resized to %d x %d pixels", width, height);
    if (in->width < 1 || in->height < 1)
        return error_set(err, ERROR_INPUT, "a picture of %d x %d pixels", in->width, in->height);
    if (in->width > MAX_SIDE || in->height > MAX_SIDE)
        return error_set_code(err, ERROR_LIMIT, "image_limit",
                              "a picture of %d x %d pixels, the longest side may be %d", in->width,
                              in->height, MAX_SIDE);
    size_t n = (size_t)width * 3, n_in = (size_t)in->width * 3;
    size_t n_between = is_down_first(in, width, height) ? n_in : n;
    struct resizing resizing = {0};
    resizing.columns = mem_try(n_in, LANES, MAX_BYTES);
    resizing.narrowed = mem_try(n, LANES, MAX_BYTES);
    resizing.rows = mem_try(n_between, LANES, MAX_BYTES);
    resizing.sums = mem_try(n_between * (size_t)height, sizeof *resizing.sums, MAX_BYTES);
    bool fits = resizing.columns && resizing.narrowed && resizing.rows && resizing.sums &&
                windows_init(&resizing.across, in->width, width) &&
                windows_init(&resizing.down, in->height, height);
    if (fits)
        resize(rgb, &resizing, width, height, in);
    windows_fini(&resizing.across);
    windows_fini(&resizing.down);
    mem_free(resizing.columns);
    mem_free(resizing.narrowed);
    mem_free(resizing.rows);
    mem_free(resizing.sums);
    return fits ? true
                : error_set_code(err, ERROR_LIMIT, "out_of_memory",
                                 "no memory to resize a picture of %d x %d pixels", in->width,
                                 in->height);
}

/* ---- patches --------------------------------------------------------------------------------- */

void image_patches(float *out, const uint8_t *rgb, int width, int height, int size,
                   const float mean[3], const float std[3]) {
    float values[3][256];
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++)
            values[c][v] = (float)((v / 255.0 - (double)mean[c]) / (double)std[c]);
    for (int top = 0; top + size <= height; top += size)
        for (int left = 0; left + size <= width; left += size)
            for (int c = 0; c < 3; c++)
                for (int y = top; y < top + size; y++) {
                    const uint8_t *row = rgb + ((size_t)y * (size_t)width + (size_t)left) * 3;
                    for (int x = 0; x < size; x++)
                        *out++ = values[c][row[3 * x + c]];
                }
}
