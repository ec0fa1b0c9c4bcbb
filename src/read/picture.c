/* The JPEG of a page (quality 90) and its thumbnail (quality 80), both 4:2:0. A page without
 * colour, as most printed pages are, is written with one component: a third less work and fewer
 * bytes, and every decoder gives it back as RGB when asked.
 *
 * The thumbnail is an area average in fixed point: weights of 1/256 of a pixel, column sums first
 * because that loop runs over whole rows and vectorises. */
#include "read/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#define JPEG_MAX_BYTES ((size_t)512 << 20)

struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr to;
    struct picture_bytes *out;
    jmp_buf stop;
    char message[JMSG_LENGTH_MAX];
};

static bool bytes_reserve(struct picture_bytes *bytes, size_t cap) {
    if (cap <= bytes->cap)
        return true;
    uint8_t *data = mem_try_grow(bytes->data, cap, 1, JPEG_MAX_BYTES);
    if (!data)
        return false;
    bytes->data = data;
    bytes->cap = cap;
    return true;
}

static struct encoder *encoder_of(j_common_ptr jpeg) {
    return jpeg->client_data;
}

static void encoder_error(j_common_ptr jpeg) {
    struct encoder *encoder = encoder_of(jpeg);
    jpeg->err->format_message(jpeg, encoder->message);
    longjmp(encoder->stop, 1);
}

static void encoder_message(j_common_ptr jpeg) {
    (void)jpeg;
}

static void encoder_begin(j_compress_ptr jpeg) {
    struct encoder *encoder = encoder_of((j_common_ptr)jpeg);
    encoder->to.next_output_byte = encoder->out->data;
    encoder->to.free_in_buffer = encoder->out->cap;
}

static boolean encoder_full(j_compress_ptr jpeg) {
    struct encoder *encoder = encoder_of((j_common_ptr)jpeg);
    size_t len = encoder->out->cap;
    if (!bytes_reserve(encoder->out, len * 2))
        ERREXIT1(jpeg, JERR_OUT_OF_MEMORY, 0);
    encoder->to.next_output_byte = encoder->out->data + len;
    encoder->to.free_in_buffer = encoder->out->cap - len;
    return TRUE;
}

static void encoder_end(j_compress_ptr jpeg) {
    struct encoder *encoder = encoder_of((j_common_ptr)jpeg);
    encoder->out->len = encoder->out->cap - encoder->to.free_in_buffer;
}

static uint64_t load_8(const uint8_t *from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* Whether each pixel's three samples are equal: the row against itself moved by one sample, leaving
 * out each pixel's last against the next one's first. 24 bytes are 8 pixels. */
static bool is_row_colourless(const uint8_t *row, size_t n) {
    static const uint8_t masks[24] = {255, 255, 0, 255, 255, 0, 255, 255, 0, 255, 255, 0,
                                      255, 255, 0, 255, 255, 0, 255, 255, 0, 255, 255, 0};
    uint64_t differ = 0;
    size_t i = 0;
    for (; i + 25 <= n; i += 24)
        for (size_t k = 0; k < 24; k += 8)
            differ |= (load_8(row + i + k) ^ load_8(row + i + k + 1)) & load_8(masks + k);
    for (; i + 3 <= n; i += 3)
        differ |= (uint64_t)(row[i] ^ row[i + 1]) | (uint64_t)(row[i] ^ row[i + 2]);
    return differ == 0;
}

static bool is_colourless(const uint8_t *rgb, int width, int height, ptrdiff_t stride) {
    for (int y = 0; y < height; y++)
        if (!is_row_colourless(rgb + y * stride, (size_t)width * 3))
            return false;
    return true;
}

/* n: samples a pixel, 1 or 3. */
static bool encode(struct picture_bytes *out, const uint8_t *samples, int width, int height,
                   ptrdiff_t stride, int n, int quality, struct error *err) {
    struct encoder encoder = {.out = out};
    struct jpeg_compress_struct *jpeg = &encoder.jpeg;
    if (!bytes_reserve(out, (size_t)1 << 18))
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a page's JPEG");
    jpeg->err = jpeg_std_error(&encoder.errors);
    encoder.errors.error_exit = encoder_error;
    encoder.errors.output_message = encoder_message;
    jpeg->client_data = &encoder;
    if (setjmp(encoder.stop)) {
        jpeg_destroy_compress(&encoder.jpeg);
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "a page's JPEG: %.200s",
                              encoder.message);
    }
    jpeg_create_compress(jpeg);
    encoder.to.init_destination = encoder_begin;
    encoder.to.empty_output_buffer = encoder_full;
    encoder.to.term_destination = encoder_end;
    jpeg->dest = &encoder.to;
    jpeg->image_width = (JDIMENSION)width;
    jpeg->image_height = (JDIMENSION)height;
    jpeg->input_components = n;
    jpeg->in_color_space = n == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW rows[16];
        JDIMENSION n_rows = 0, first = jpeg->next_scanline;
        while (n_rows < BASE_COUNT(rows) && first + n_rows < jpeg->image_height) {
            rows[n_rows] = (JSAMPROW)(uintptr_t)(samples + (ptrdiff_t)(first + n_rows) * stride);
            n_rows++;
        }
        jpeg_write_scanlines(jpeg, rows, n_rows);
    }
    jpeg_finish_compress(jpeg);
    jpeg_destroy_compress(jpeg);
    return true;
}

/* ---- the thumbnail -------------------------------------------------------------------------- */

/* Adds weight/256 of a row of n samples to sums. */
static void sums_add(uint32_t *restrict sums, const uint8_t *restrict row, size_t n,
                     uint32_t weight) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 32; k++)
            sums[i + k] += (uint16_t)(row[i + k] * weight); /* 255 * 256 fits */
    for (; i < n; i++)
        sums[i] += row[i] * weight;
}

/* A row of the thumbnail from sums of columns that hold `rows` rows each. */
static void sums_narrow(uint8_t *out, const uint32_t *sums, int width, int out_width, int n,
                        float rows) {
    float step = (float)width / (float)out_width, scale = 1.0f / (step * rows * 256.0f);
    for (int x = 0; x < out_width; x++) {
        float from = (float)x * step, to = from + step;
        int first = (int)from, last = (int)to < width ? (int)to : width - 1;
        for (int c = 0; c < n; c++) {
            float sum = (float)sums[first * n + c] * ((float)(first + 1) - from);
            for (int i = first + 1; i < last; i++)
                sum += (float)sums[i * n + c];
            if (last > first)
                sum += (float)sums[last * n + c] * (to - (float)last);
            else
                sum = (float)sums[first * n + c] * step;
            sum = sum * scale + 0.5f;
            out[x * n + c] = sum < 255.0f ? (uint8_t)sum : 255;
        }
    }
}

static void shrink(uint8_t *out, uint32_t *sums, const uint8_t *samples, int width, int height,
                   ptrdiff_t stride, int n, int out_width, int out_height) {
    size_t n_sums = (size_t)width * (size_t)n;
    for (int y = 0; y < out_height; y++) {
        uint64_t from = (uint64_t)y * (uint64_t)height * 256 / (uint64_t)out_height;
        uint64_t to = (uint64_t)(y + 1) * (uint64_t)height * 256 / (uint64_t)out_height;
        memset(sums, 0, n_sums * sizeof *sums);
        for (uint64_t at = from; at < to;) {
            uint64_t row = at / 256, next = (row + 1) * 256 < to ? (row + 1) * 256 : to;
            sums_add(sums, samples + (ptrdiff_t)row * stride, n_sums, (uint32_t)(next - at));
            at = next;
        }
        sums_narrow(out + (size_t)y * (size_t)out_width * (size_t)n, sums, width, out_width, n,
                    (float)(to - from) / 256.0f);
    }
}

static void thumb_size(int *out_width, int *out_height, int width, int height) {
    double scale = 1.0;
    if (width > THUMB_MAX_WIDTH)
        scale = (double)THUMB_MAX_WIDTH / width;
    if (height * scale > THUMB_MAX_HEIGHT)
        scale = (double)THUMB_MAX_HEIGHT / height;
    *out_width = (int)(width * scale + 0.5);
    *out_height = (int)(height * scale + 0.5);
    if (*out_width < 1)
        *out_width = 1;
    if (*out_height < 1)
        *out_height = 1;
}

static bool reserve_sums(struct picture *picture, size_t n) {
    if (n <= picture->n_sums)
        return true;
    uint32_t *sums = mem_try_grow(picture->sums, n, sizeof *sums, JPEG_MAX_BYTES);
    if (!sums)
        return false;
    picture->sums = sums;
    picture->n_sums = n;
    return true;
}

/* The first sample of each pixel, in picture->grey. */
static bool take_grey(struct picture *picture, const uint8_t *rgb, int width, int height,
                      ptrdiff_t stride) {
    if (!bytes_reserve(&picture->grey, (size_t)width * (size_t)height))
        return false;
    uint8_t *to = picture->grey.data;
    for (int y = 0; y < height; y++) {
        const uint8_t *row = rgb + y * stride;
        for (int x = 0; x < width; x++)
            *to++ = row[3 * x];
    }
    return true;
}

bool picture_encode(struct picture *picture, const uint8_t *rgb, int width, int height,
                    ptrdiff_t stride, struct error *err) {
    const uint8_t *samples = rgb;
    int n = 3, thumb_width, thumb_height;
    thumb_size(&thumb_width, &thumb_height, width, height);
    if (!reserve_sums(picture, (size_t)width * 3) ||
        !bytes_reserve(&picture->small, (size_t)thumb_width * (size_t)thumb_height * 3))
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a thumbnail");
    if (is_colourless(rgb, width, height, stride) &&
        take_grey(picture, rgb, width, height, stride)) {
        samples = picture->grey.data;
        stride = width;
        n = 1;
    }
    if (!encode(&picture->jpeg, samples, width, height, stride, n, 90, err))
        return false;
    shrink(picture->small.data, picture->sums, samples, width, height, stride, n, thumb_width,
           thumb_height);
    return encode(&picture->thumb, picture->small.data, thumb_width, thumb_height, thumb_width * n,
                  n, 80, err);
}

void picture_fini(struct picture *picture) {
    mem_free(picture->jpeg.data);
    mem_free(picture->thumb.data);
    mem_free(picture->grey.data);
    mem_free(picture->small.data);
    mem_free(picture->sums);
    memset(picture, 0, sizeof *picture);
}
