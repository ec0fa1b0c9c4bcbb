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

static bool is_colourless(const uint8_t *rgb, int width, int height, ptrdiff_t stride) {
    for (int y = 0; y < height; y++) {
        const uint8_t *row = rgb + y * stride;
        unsigned differ = 0;
        for (int i = 0; i < width * 3; i += 3)
            differ |= (unsigned)(row[i] ^ row[i + 1]) | (unsigned)(row[i] ^ row[i + 2]);
        if (differ)
            return false;
    }
    return true;
}

static void encode_rows(struct encoder *encoder, const uint8_t *rgb, int width, int height,
                        ptrdiff_t stride, int quality, uint8_t *grey) {
    struct jpeg_compress_struct *jpeg = &encoder->jpeg;
    jpeg->image_width = (JDIMENSION)width;
    jpeg->image_height = (JDIMENSION)height;
    jpeg->input_components = grey ? 1 : 3;
    jpeg->in_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_compress(jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        const uint8_t *row = rgb + y * stride;
        if (grey) {
            for (int x = 0; x < width; x++)
                grey[x] = row[3 * x];
            row = grey;
        }
        JSAMPROW rows[1] = {(JSAMPROW)(uintptr_t)row};
        jpeg_write_scanlines(jpeg, rows, 1);
    }
    jpeg_finish_compress(jpeg);
}

/* grey: room for a row of a picture without colour, else NULL. */
static bool encode(struct picture_bytes *out, const uint8_t *rgb, int width, int height,
                   ptrdiff_t stride, int quality, uint8_t *grey, struct error *err) {
    struct encoder encoder = {.out = out};
    if (!bytes_reserve(out, (size_t)1 << 18))
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a page's JPEG");
    encoder.jpeg.err = jpeg_std_error(&encoder.errors);
    encoder.errors.error_exit = encoder_error;
    encoder.errors.output_message = encoder_message;
    encoder.jpeg.client_data = &encoder;
    if (setjmp(encoder.stop)) {
        jpeg_destroy_compress(&encoder.jpeg);
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "a page's JPEG: %.200s",
                              encoder.message);
    }
    jpeg_create_compress(&encoder.jpeg);
    encoder.to.init_destination = encoder_begin;
    encoder.to.empty_output_buffer = encoder_full;
    encoder.to.term_destination = encoder_end;
    encoder.jpeg.dest = &encoder.to;
    encode_rows(&encoder, rgb, width, height, stride, quality, grey);
    jpeg_destroy_compress(&encoder.jpeg);
    return true;
}

/* Adds weight/256 of a row of n samples to sums. */
static void sums_add(uint32_t *restrict sums, const uint8_t *restrict row, size_t n,
                     uint32_t weight) {
    for (size_t i = 0; i < n; i++)
        sums[i] += row[i] * weight;
}

/* Output row from column sums whose weights add up to height_weight. */
static void sums_narrow(uint8_t *out, const uint32_t *sums, int width, int out_width,
                        uint32_t height_weight) {
    for (int x = 0; x < out_width; x++) {
        uint64_t from = (uint64_t)x * (uint64_t)width * 256 / (uint64_t)out_width;
        uint64_t to = (uint64_t)(x + 1) * (uint64_t)width * 256 / (uint64_t)out_width;
        uint64_t rgb[3] = {0, 0, 0};
        for (uint64_t at = from; at < to;) {
            uint64_t column = at / 256, next = (column + 1) * 256 < to ? (column + 1) * 256 : to;
            for (int c = 0; c < 3; c++)
                rgb[c] += sums[column * 3 + (uint64_t)c] * (next - at);
            at = next;
        }
        uint64_t total = (to - from) * height_weight;
        for (int c = 0; c < 3; c++)
            out[3 * x + c] = (uint8_t)((rgb[c] + total / 2) / total);
    }
}

static void shrink(uint8_t *out, uint32_t *sums, const uint8_t *rgb, int width, int height,
                   ptrdiff_t stride, int out_width, int out_height) {
    size_t n = (size_t)width * 3;
    for (int y = 0; y < out_height; y++) {
        uint64_t from = (uint64_t)y * (uint64_t)height * 256 / (uint64_t)out_height;
        uint64_t to = (uint64_t)(y + 1) * (uint64_t)height * 256 / (uint64_t)out_height;
        memset(sums, 0, n * sizeof *sums);
        for (uint64_t at = from; at < to;) {
            uint64_t row = at / 256, next = (row + 1) * 256 < to ? (row + 1) * 256 : to;
            sums_add(sums, rgb + (ptrdiff_t)row * stride, n, (uint32_t)(next - at));
            at = next;
        }
        sums_narrow(out + (size_t)y * (size_t)out_width * 3, sums, width, out_width,
                    (uint32_t)(to - from));
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

static bool reserve(struct picture *picture, size_t n_sums, size_t rgb_size) {
    if (n_sums > picture->n_sums) {
        uint32_t *sums = mem_try_grow(picture->sums, n_sums, sizeof *sums, JPEG_MAX_BYTES);
        if (!sums)
            return false;
        picture->sums = sums;
        picture->n_sums = n_sums;
    }
    if (rgb_size > picture->thumb_rgb_size) {
        uint8_t *rgb = mem_try_grow(picture->thumb_rgb, rgb_size, 1, JPEG_MAX_BYTES);
        if (!rgb)
            return false;
        picture->thumb_rgb = rgb;
        picture->thumb_rgb_size = rgb_size;
    }
    return true;
}

bool picture_encode(struct picture *picture, const uint8_t *rgb, int width, int height,
                    ptrdiff_t stride, struct error *err) {
    int thumb_width, thumb_height;
    thumb_size(&thumb_width, &thumb_height, width, height);
    if (!reserve(picture, (size_t)width * 3, (size_t)thumb_width * (size_t)thumb_height * 3))
        return error_set_code(err, ERROR_INTERNAL, "out_of_memory", "no memory for a thumbnail");
    /* The sums are not in use while a JPEG is written: their memory serves as its grey row. */
    uint8_t *grey = is_colourless(rgb, width, height, stride) ? (uint8_t *)picture->sums : NULL;
    if (!encode(&picture->jpeg, rgb, width, height, stride, 90, grey, err))
        return false;
    shrink(picture->thumb_rgb, picture->sums, rgb, width, height, stride, thumb_width,
           thumb_height);
    return encode(&picture->thumb, picture->thumb_rgb, thumb_width, thumb_height, thumb_width * 3,
                  80, grey, err);
}

void picture_fini(struct picture *picture) {
    mem_free(picture->jpeg.data);
    mem_free(picture->thumb.data);
    mem_free(picture->sums);
    mem_free(picture->thumb_rgb);
    memset(picture, 0, sizeof *picture);
}
