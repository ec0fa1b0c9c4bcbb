/* Images made byte by byte: sizes, frames, orientation, and files that lie. */
#include "tests.h"

#include <stdlib.h>

#include <jpeglib.h>
#include <webp/encode.h>
#include <zlib.h>

#include "read/images.h"
#include "read/picture.h"

static void put_be(struct buf *out, uint32_t value, int n) {
    for (int i = n - 1; i >= 0; i--)
        buf_putc(out, (char)(value >> (8 * i)));
}

static void put_le(struct buf *out, uint32_t value, int n) {
    for (int i = 0; i < n; i++)
        buf_putc(out, (char)(value >> (8 * i)));
}

static void put_zeros(struct buf *out, int n) {
    while (n-- > 0)
        buf_putc(out, 0);
}

static void expect_code(const struct buf *file, const char *media_type, const char *code) {
    struct fixture f;
    fixture_read(&f, file->data, file->len, media_type);
    assert_false(f.ok);
    assert_string_equal(f.err.code, code);
    fixture_fini(&f);
}

/* White, with a black field in the upper left quarter. */
static uint8_t *make_samples(int width, int height) {
    uint8_t *rgb = mem_try((size_t)width * (size_t)height, 3, SIZE_MAX);
    for (int y = 0; y < height; y++)
        memset(rgb + (size_t)y * (size_t)width * 3, 255, (size_t)width * 3);
    for (int y = 0; y < height / 2; y++)
        memset(rgb + (size_t)y * (size_t)width * 3, 0, (size_t)(width / 2) * 3);
    return rgb;
}

static void png_chunk(struct buf *out, const char *type, const void *data, size_t len) {
    put_be(out, (uint32_t)len, 4);
    size_t start = out->len;
    buf_puts(out, type);
    buf_append(out, data, len);
    put_be(out, (uint32_t)crc32(0, (const Bytef *)out->data + start, (uInt)(len + 4)), 4);
}

static void make_png(struct buf *out, uint32_t width, uint32_t height, bool whole) {
    struct buf head = {0};
    buf_append(out, "\x89PNG\r\n\x1a\n", 8);
    put_be(&head, width, 4);
    put_be(&head, height, 4);
    buf_append(&head, "\x08\x02\0\0\0", 5);
    png_chunk(out, "IHDR", head.data, head.len);
    buf_fini(&head);
    if (whole) {
        size_t row = 1 + (size_t)width * 3;
        uint8_t *raw = mem_try(row * height, 1, SIZE_MAX),
                *rgb = make_samples((int)width, (int)height);
        for (size_t y = 0; y < height; y++)
            memcpy(raw + y * row + 1, rgb + y * (row - 1), row - 1);
        uLongf len = compressBound(row * height);
        uint8_t *packed = mem_try(len, 1, SIZE_MAX);
        assert_int_equal(compress(packed, &len, raw, row * height), Z_OK);
        png_chunk(out, "IDAT", packed, len);
        mem_free(raw);
        mem_free(rgb);
        mem_free(packed);
    }
    png_chunk(out, "IEND", "", 0);
}

static void png(void **state) {
    struct buf file = {0};
    struct fixture f;
    (void)state;
    make_png(&file, 480, 240, true);
    fixture_read(&f, file.data, file.len, "image/png");
    assert_true(f.ok);
    assert_int_equal(f.doc->n_pages, 1);
    assert_float_equal(f.doc->pages[0].width_pt, 360, 0.5); /* 96 dpi */
    assert_int_equal(f.pictures[0].width, 480);
    assert_int_equal(f.pictures[0].height, 240);
    fixture_fini(&f);
    buf_clear(&file);
    make_png(&file, 16, 16, true); /* an icon's page is not smaller than half an inch */
    fixture_read(&f, file.data, file.len, "image/png");
    assert_true(f.ok);
    assert_float_equal(f.doc->pages[0].width_pt, 36, 0.01);
    assert_int_equal(f.pictures[0].width, 16);
    fixture_fini(&f);
    buf_fini(&file);
}

static void bombs(void **state) {
    struct buf file = {0};
    (void)state;
    make_png(&file, 40000, 40000, false);
    expect_code(&file, "image/png", "image_limit");
    buf_clear(&file);
    make_png(&file, 0, 5, false);
    expect_code(&file, "image/png", "corrupt");
    buf_clear(&file);
    buf_append(&file, "BM", 2);
    put_zeros(&file, 12);
    put_le(&file, 40, 4);
    put_le(&file, 1000000, 4);
    put_le(&file, (uint32_t)-1000000, 4);
    expect_code(&file, "image/bmp", "image_limit");
    buf_clear(&file);
    buf_append(&file, "\xFF\xD8\xFF\xC0\0\x11\x08\xFF\xFF\xFF\xFF\x03", 12);
    expect_code(&file, "image/jpeg", "image_limit");
    buf_clear(&file);
    buf_append(&file, "II*\0\x08\0\0\0", 8); /* a directory that is its own successor */
    put_le(&file, 0, 2);
    put_le(&file, 8, 4);
    expect_code(&file, "image/tiff", "too_many_pages");
    buf_clear(&file);
    buf_puts(&file, "RIFF....WEBPnot at all");
    expect_code(&file, "image/webp", "corrupt");
    buf_fini(&file);
}

/* Two frames, uncompressed grey, at 72 and 144 dots an inch. */
static void make_tiff(struct buf *out) {
    static const uint32_t sizes[2][3] = {{200, 100, 72}, {100, 300, 144}};
    buf_append(out, "II*\0", 4);
    put_le(out, 8, 4);
    for (int i = 0; i < 2; i++) {
        uint32_t width = sizes[i][0], height = sizes[i][1], directory = (uint32_t)out->len;
        uint32_t data = directory + 2 + 11 * 12 + 4 + 8, next = data + width * height;
        const uint32_t entries[11][3] = {
            {256, 4, width},    {257, 4, height},  {258, 3, 8},
            {259, 3, 1},        {262, 3, 1},       {273, 4, data},
            {277, 3, 1},        {278, 4, height},  {279, 4, width * height},
            {282, 5, data - 8}, {283, 5, data - 8}};
        put_le(out, 11, 2);
        for (int k = 0; k < 11; k++) {
            put_le(out, entries[k][0], 2);
            put_le(out, entries[k][1], 2);
            put_le(out, 1, 4);
            put_le(out, entries[k][2], 4);
        }
        put_le(out, i == 0 ? next : 0, 4);
        put_le(out, sizes[i][2], 4);
        put_le(out, 1, 4);
        for (uint32_t k = 0; k < width * height; k++)
            buf_putc(out, (char)200);
    }
}

static void tiff(void **state) {
    struct buf file = {0};
    struct fixture f;
    (void)state;
    make_tiff(&file);
    fixture_read(&f, file.data, file.len, "image/tiff");
    assert_true(f.ok);
    assert_int_equal(f.doc->n_pages, 2);
    assert_float_equal(f.doc->pages[0].width_pt, 200, 0.5);
    assert_float_equal(f.doc->pages[1].height_pt, 150, 0.5);
    assert_int_equal(f.pictures[0].width, 200);
    assert_int_equal(f.pictures[1].width, 100);
    assert_int_equal(f.pictures[1].height, 300);
    fixture_fini(&f);
    buf_fini(&file);
}

static void bmp(void **state) {
    struct buf file = {0};
    struct fixture f;
    (void)state;
    buf_append(&file, "BM", 2);
    put_le(&file, 54 + 60 * 40 * 3, 4);
    put_le(&file, 0, 4);
    put_le(&file, 54, 4);
    put_le(&file, 40, 4);
    put_le(&file, 60, 4);
    put_le(&file, 40, 4);
    put_le(&file, 1, 2);
    put_le(&file, 24, 2);
    put_zeros(&file, 24);
    assert_int_equal(file.len, 54);
    for (int i = 0; i < 60 * 40 * 3; i++)
        buf_putc(&file, (char)i);
    fixture_read(&f, file.data, file.len, "image/bmp");
    assert_true(f.ok);
    assert_int_equal(f.pictures[0].width, 60);
    assert_int_equal(f.pictures[0].height, 40);
    fixture_fini(&f);
    buf_fini(&file);
}

static void webp(void **state) {
    struct fixture f;
    uint8_t *rgb = make_samples(300, 200), *packed = NULL;
    size_t len = WebPEncodeLosslessRGB(rgb, 300, 200, 900, &packed);
    (void)state;
    assert_true(len > 0);
    fixture_read(&f, packed, len, "image/webp");
    assert_true(f.ok);
    assert_int_equal(f.pictures[0].width, 300);
    assert_int_equal(f.pictures[0].height, 200);
    fixture_fini(&f);
    fixture_read(&f, packed, len / 2, "image/webp");
    assert_false(f.ok);
    assert_string_equal(f.err.code, "corrupt");
    fixture_fini(&f);
    WebPFree(packed);
    mem_free(rgb);
}

/* A camera held on its side: stored 64 x 32, to be seen 32 x 64. */
static void jpeg_orientation(void **state) {
    static const uint8_t exif[] =
        "Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0"
        "\0\0";
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *packed = NULL;
    unsigned long len = 0;
    uint8_t *rgb = make_samples(64, 32);
    struct fixture f;
    (void)state;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &packed, &len);
    jpeg.image_width = 64;
    jpeg.image_height = 32;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    jpeg_write_marker(&jpeg, JPEG_APP0 + 1, exif, sizeof(exif) - 1);
    while (jpeg.next_scanline < 32) {
        JSAMPROW row = rgb + jpeg.next_scanline * 192;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fixture_read(&f, packed, len, "image/jpeg");
    assert_true(f.ok);
    assert_int_equal(f.pictures[0].width, 32);
    assert_int_equal(f.pictures[0].height, 64);
    fixture_fini(&f);
    free(packed);
    mem_free(rgb);
}

static uint8_t *decode(const struct picture_bytes *bytes, int *width, int *height) {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, bytes->data, bytes->len);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    *width = (int)jpeg.output_width;
    *height = (int)jpeg.output_height;
    uint8_t *rgb = mem_try((size_t)*width * (size_t)*height, 3, SIZE_MAX);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = rgb + (size_t)jpeg.output_scanline * (size_t)*width * 3;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return rgb;
}

/* Both JPEGs show what was given, with colour and without, at sizes that are no multiple of
 * anything. */
static void pictures(void **state) {
    static const int sizes[][2] = {{1, 1}, {7, 2000}, {321, 5}, {1003, 701}, {320, 320}, {50, 49}};
    struct picture picture = {0};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(sizes) * 2; i++) {
        int width = sizes[i / 2][0], height = sizes[i / 2][1], w, h;
        bool colour = i % 2;
        uint8_t *rgb = mem_try((size_t)width * (size_t)height, 3, SIZE_MAX);
        struct error err;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                uint8_t *pixel = rgb + ((size_t)y * (size_t)width + (size_t)x) * 3;
                pixel[0] = (uint8_t)(x * 255 / width);
                pixel[1] = colour ? (uint8_t)(y * 255 / height) : pixel[0];
                pixel[2] = colour ? 90 : pixel[0];
            }
        assert_true(picture_encode(&picture, rgb, width, height, width * 3, &err));
        for (int thumb = 0; thumb < 2; thumb++) {
            uint8_t *seen = decode(thumb ? &picture.thumb : &picture.jpeg, &w, &h);
            assert_true(thumb ? w <= 320 && h <= 1280 : w == width && h == height);
            double worst = 0, sum = 0;
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++)
                    for (int c = 0; c < 3; c++) {
                        int from_x = (int)((x + 0.5) * width / w),
                            from_y = (int)((y + 0.5) * height / h);
                        int want =
                            rgb[((size_t)from_y * (size_t)width + (size_t)from_x) * 3 + (size_t)c];
                        int got = seen[((size_t)y * (size_t)w + (size_t)x) * 3 + (size_t)c];
                        sum += abs(got - want);
                        worst = abs(got - want) > worst ? abs(got - want) : worst;
                    }
            /* A strip's colours are steep, and stored at half the resolution. */
            bool strip = width < 300 || height < 300;
            if (sum / w / h / 3 > (strip ? 25 : 3) || worst > (strip ? 255 : 24))
                fail_msg("%d x %d, %d: off by %.1f, at most %.0f", width, height, thumb,
                         sum / w / h / 3, worst);
            mem_free(seen);
        }
        mem_free(rgb);
    }
    picture_fini(&picture);
}

const struct CMUnitTest image_tests[] = {
    cmocka_unit_test(png),      cmocka_unit_test(bombs), cmocka_unit_test(tiff),
    cmocka_unit_test(bmp),      cmocka_unit_test(webp),  cmocka_unit_test(jpeg_orientation),
    cmocka_unit_test(pictures),
};
const size_t n_image_tests = BASE_COUNT(image_tests);
